"""Pairs of degraded and clean image files, matched by their names. Nothing here reads an image."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from glocal.errors import ArgumentError
from glocal.images.images import list_images

__all__ = [
    "Pair",
    "check_names",
    "child_folder",
    "data_label",
    "data_sha256",
    "few_names",
    "natural_key",
    "pair_folders",
    "spread",
    "stems_of",
]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pair:
    """One image of a data set.

    Attributes:
        name: the degraded file's path inside of the data set without its suffix, "/" between.
        degraded: the file to restore; the clean one where `noise_sigma` is given.
        target: the clean file, or None where the data set has none.
        second: the right view of a dual-pixel pair whose left one is `degraded`.
        noise_sigma: deviation of the Gaussian noise to be added, in 1/255.
        centre_crop: the target is larger than the degraded image and is to be cropped.
    """

    name: str
    degraded: Path
    target: Path | None
    second: Path | None = None
    noise_sigma: float | None = None
    centre_crop: bool = False


def natural_key(text: str) -> list[str | int]:
    """Sort key that reads numbers as numbers.

    >>> sorted(["10.png", "9.png", "a2", "a10"], key=natural_key)
    ['9.png', '10.png', 'a2', 'a10']
    """
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", text)]


def few_names(names: Iterable[str], limit: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def spread(found: Sequence[Item], limit: int | None) -> list[Item]:
    """So many items, spread evenly over all: neighbours are often frames of one scene.

    >>> spread("abcdef", 3), spread("ab", None)
    (['a', 'c', 'e'], ['a', 'b'])

    Raises:
        ArgumentError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"at least one image is needed, got a limit of {limit}")
    count = len(found) if limit is None else min(limit, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def check_names(found: Sequence[Pair], purpose: str) -> None:
    """Make sure that there are pairs, whose results can be told by their names.

    Raises:
        ArgumentError: there are none, or two have one name.
    """
    if not found:
        raise ArgumentError(f"there are no images to {purpose}")
    if len({pair.name for pair in found}) < len(found):
        raise ArgumentError("two images of the data have one name; their results could not be told")


def child_folder(folder: Path, *names: str) -> Path | None:
    """The first folder inside of a folder with one of these names, in any case."""
    children = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((children[name.lower()] for name in names if name.lower() in children), None)


def stems_of(folder: Path, *, recursive: bool = True) -> dict[str, Path]:
    """The images of a folder by their paths without suffix, in natural order.

    Raises:
        ArgumentError: two files differ in their suffix alone.
    """
    files = list_images(folder, recursive=recursive)
    stems: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix())):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in stems:
            raise ArgumentError(
                f"{folder}: {stems[stem].name} and {path.name} differ in their suffix alone; "
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
    spare_targets: bool = False,
    centre_crop: bool = False,
    recursive: bool = True,
) -> list[Pair]:
    """The pairs of two folders' images, in natural order.

    Args:
        degraded: folder of degraded images.
        target: folder of clean images.
        key: from a degraded image's path without suffix to its target's.
        prefix: what the names of the pairs begin with.
        spare_targets: whether there may be targets that nothing needs.
        centre_crop: whether the targets are larger and to be cropped.
        recursive: go into the folders of both.

    Raises:
        ArgumentError: a folder is empty, or images have no counterpart.
    """
    inputs, targets = stems_of(degraded, recursive=recursive), stems_of(target, recursive=recursive)
    for folder, found in ((degraded, inputs), (target, targets)):
        if not found:
            raise ArgumentError(f"{folder}: holds no images")
    names = {stem: key(stem) for stem in inputs if key(stem) != stem or stem in targets}
    lonely = [stem for stem in inputs if names.get(stem) not in targets]
    unused = targets.keys() - set(names.values())
    if lonely or (unused and not spare_targets):
        parts = []
        if lonely:
            parts.append(f"{len(lonely)} of {len(inputs)} have no target: {few_names(lonely)}")
        if unused and not spare_targets:
            listed = few_names(stem for stem in targets if stem in unused)
            parts.append(f"{len(unused)} of {len(targets)} targets are not used: {listed}")
        raise ArgumentError(
            f"the images in {degraded} and in {target} do not pair by their names;\n"
            + "; ".join(parts)
        )
    return [
        Pair(prefix + stem, path, targets[names[stem]], centre_crop=centre_crop)
        for stem, path in inputs.items()
    ]


def data_sha256(pairs: Sequence[Pair]) -> str:
    """SHA-256 of what tells one data set from another without reading it: names and file sizes."""
    digest = hashlib.sha256()
    for pair in pairs:
        files = [path for path in (pair.degraded, pair.second, pair.target) if path is not None]
        sizes = [path.stat().st_size if path.exists() else -1 for path in files]
        digest.update(f"{pair.name!r} {sizes} {pair.noise_sigma} {pair.centre_crop}\n".encode())
    return digest.hexdigest()


def data_label(pairs: Sequence[Pair], root: str | Path | None = None) -> str:
    """What to call a data set: the last two folders of its path, as "GoPro/test"."""
    files = [path for pair in pairs for path in (pair.degraded, pair.target) if path is not None]
    common = root or os.path.commonpath([path.parent.resolve() for path in files])
    label = "/".join(Path(common).resolve().parts[-2:])
    sigmas = {pair.noise_sigma for pair in pairs if pair.noise_sigma is not None}
    return label + "".join(f" with noise of σ {sigma:g}" for sigma in sorted(sigmas))
