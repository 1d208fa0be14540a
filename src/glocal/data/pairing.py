"""Pair degraded images with their targets by file name. Reads no pixels."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from glocal.errors import ArgumentError
from glocal.images.folders import list_images
from glocal.texts import few_names

__all__ = [
    "Pair",
    "UnpairedError",
    "check_names",
    "child_folder",
    "data_label",
    "evenly_spaced",
    "natural_key",
    "pair_folders",
    "pair_sha256",
    "stems_of",
]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pair:
    """One image of a data set.

    Attributes:
        name: path of the degraded file inside the data set, without suffix, with "/".
        degraded: the file to restore; with `noise_sigma`, the clean file.
        target: the clean file, or None.
        second: right view of a dual-pixel image whose left view is `degraded`.
        noise_sigma: standard deviation of the Gaussian noise to add, in 1/255.
        centre_crop: crop the centre of a target that is larger than the degraded image.
    """

    name: str
    degraded: Path
    target: Path | None
    second: Path | None = None
    noise_sigma: float | None = None
    centre_crop: bool = False


class UnpairedError(ArgumentError):
    """Images of two folders whose names do not match.

    Attributes:
        degraded, target: the folders.
        paired: number of degraded images that have a target.
    """

    def __init__(self, message: str, degraded: Path, target: Path, paired: int) -> None:
        super().__init__(message)
        self.degraded, self.target, self.paired = degraded, target, paired


def natural_key(text: str) -> list[str | int]:
    """Sort key that orders numbers in a name by value.

    >>> sorted(["10.png", "9.png", "a2", "a10"], key=natural_key)
    ['9.png', '10.png', 'a2', 'a10']
    """
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", text)]


def evenly_spaced(found: Sequence[Item], limit: int | None) -> list[Item]:
    """Return at most `limit` evenly spaced items: neighbours often show one scene.

    >>> evenly_spaced("abcdef", 3), evenly_spaced("ab", None)
    (['a', 'c', 'e'], ['a', 'b'])

    Raises:
        ArgumentError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"the limit must be at least 1 image, got {limit}")
    count = len(found) if limit is None else min(limit, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def check_names(found: Sequence[Pair], purpose: str) -> None:
    """Check that there are pairs and that their names are unique.

    Raises:
        ArgumentError: there are no pairs, or two have the same name.
    """
    if not found:
        raise ArgumentError(f"there are no images to {purpose}")
    if len({pair.name for pair in found}) < len(found):
        raise ArgumentError(
            "two images of the data have the same name; rename one, or their results cannot be "
            "distinguished"
        )


def child_folder(folder: Path, *names: str) -> Path | None:
    """Return the first of these subfolders that exists, ignoring case, or None."""
    children = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((children[name.lower()] for name in names if name.lower() in children), None)


def stems_of(folder: Path, *, recursive: bool = True) -> dict[str, Path]:
    """The images of a folder by relative path without suffix, in natural order.

    Raises:
        ArgumentError: two files differ only in their suffix.
    """
    files = list_images(folder, recursive=recursive)
    stems: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix())):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in stems:
            raise ArgumentError(
                f"{folder}: {stems[stem].name} and {path.name} differ only in their suffix; "
                "remove one of them"
            )
        stems[stem] = path
    return stems


def pair_folders(
    degraded: Path,
    target: Path,
    *,
    key: Callable[[str], str] = lambda stem: stem,
    prefix: str = "",
    allow_unused_targets: bool = False,
    centre_crop: bool = False,
    recursive: bool = True,
) -> list[Pair]:
    """Pair the images of two folders by name, in natural order.

    Args:
        degraded: folder of degraded images.
        target: folder of target images.
        key: maps a degraded image's path without suffix to that of its target.
        prefix: prepended to the names of the pairs.
        allow_unused_targets: accept targets without a degraded image.
        centre_crop: crop targets that are larger than the degraded images.
        recursive: include subfolders.

    Raises:
        UnpairedError: images have no counterpart.
        ArgumentError: a folder has no images.
    """
    inputs, targets = stems_of(degraded, recursive=recursive), stems_of(target, recursive=recursive)
    for folder, found in ((degraded, inputs), (target, targets)):
        if not found:
            raise ArgumentError(f"{folder}: has no images")
    names = {stem: key(stem) for stem in inputs if key(stem) != stem or stem in targets}
    unpaired = [stem for stem in inputs if names.get(stem) not in targets]
    unused = targets.keys() - set(names.values())
    if unpaired or (unused and not allow_unused_targets):
        parts = []
        if unpaired:
            parts.append(f"{len(unpaired)} of {len(inputs)} have no target: {few_names(unpaired)}")
        if unused and not allow_unused_targets:
            listed = few_names(stem for stem in targets if stem in unused)
            parts.append(f"{len(unused)} of {len(targets)} targets are not used: {listed}")
        raise UnpairedError(
            f"the names of the images in {degraded} and {target} do not match;\n"
            + "; ".join(parts),
            degraded,
            target,
            len(inputs) - len(unpaired),
        )
    return [
        Pair(prefix + stem, path, targets[names[stem]], centre_crop=centre_crop)
        for stem, path in inputs.items()
    ]


def pair_sha256(pair: Pair) -> str:
    """Return the SHA-256 of the name of a pair, the content of its files, and what is made of them.

    Files that are missing or cannot be read count as such: whoever reads them says so.
    """
    digest = hashlib.sha256(f"{pair.name!r} {pair.noise_sigma} {pair.centre_crop}\n".encode())
    for path in (pair.degraded, pair.second, pair.target):
        try:
            if path is not None:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as problem:
            digest.update(str(problem.errno).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def data_label(pairs: Sequence[Pair], root: str | Path | None = None) -> str:
    """Label of a data set: the last two folders of its path, such as "GoPro/test"."""
    files = [path for pair in pairs for path in (pair.degraded, pair.target) if path is not None]
    common = root or os.path.commonpath([path.parent.resolve() for path in files])
    label = "/".join(Path(common).resolve().parts[-2:])
    sigmas = {pair.noise_sigma for pair in pairs if pair.noise_sigma is not None}
    return label + "".join(f" with noise of σ {sigma:g}" for sigma in sorted(sigmas))
