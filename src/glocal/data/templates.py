"""Pair files by templates of their names, such as `LR/{}x4.png:HR/{}.png`.

`{}` stands for what the names of a degraded image and its target share; it may contain "/". `*`
stands for any text within a name, so that one target can serve several degraded images
(`hazy/{}_*:clear/{}`). A template without a suffix matches images of every format. Folder names,
and the text between placeholders, match case-insensitively.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from glocal.data.pairing import Pair, UnpairedError, child_folder, natural_key
from glocal.errors import ArgumentError
from glocal.images.folders import list_images
from glocal.images.limits import SUFFIXES
from glocal.texts import few_names

__all__ = ["NameTemplate", "PairTemplate", "match_names", "pair_by_template"]


@dataclass(frozen=True)
class NameTemplate:
    """The files of one side of a data set.

    Attributes:
        folder: the folders that are the same for all files, with "/"; empty for the data set.
        names: template of the paths below that folder.
    """

    folder: str
    names: str

    @classmethod
    def of(cls, text: str) -> "NameTemplate":
        """Read a template; a text without placeholders is a folder or one file.

        >>> NameTemplate.of("test/LR/{}x4.png")
        NameTemplate(folder='test/LR', names='{}x4.png')
        >>> NameTemplate.of("HR")
        NameTemplate(folder='HR', names='{}')
        """
        parts = text.split("/")
        fixed = 0
        while fixed < len(parts) and not re.search(r"\{\}|\*", parts[fixed]):
            fixed += 1
        if fixed == len(parts) and _has_suffix(parts[-1]):
            fixed -= 1
        return cls("/".join(parts[:fixed]).strip("/"), "/".join(parts[fixed:]) or "{}")

    @property
    def placeholders(self) -> int:
        """How many `{}` the names have."""
        return self.names.count("{}")

    @cached_property
    def _expressions(self) -> tuple[re.Pattern[str], ...]:
        """Expressions in which `{}` takes as much text as possible, and as little."""
        parts = re.split(r"(\{\}|\*)", self.names)
        found = []
        for shared in ("(.+)", "(.+?)"):
            tokens = {"{}": shared, "*": "[^/]*"}
            text = "".join(tokens.get(part, re.escape(part)) for part in parts)
            found.append(re.compile(text, re.IGNORECASE))
        return tuple(found)

    def shared(self, name: str) -> list[tuple[str, ...]]:
        """Return what `{}` can stand for in a name, the longest first; empty without a match.

        >>> NameTemplate.of("hazy/{}_*").shared("0001_0.8_0.2")
        [('0001_0.8',), ('0001',)]
        """
        matches = (each.fullmatch(name) for each in self._expressions)
        return list(dict.fromkeys(match.groups() for match in matches if match))

    def files(self, root: Path, *, recursive: bool) -> dict[str, Path] | None:
        """Return the matching files by path below the folder, in natural order.

        The paths have a suffix if the template has one.

        Returns:
            None if the folder does not exist.

        Raises:
            ArgumentError: two files differ only in their suffix.
        """
        folder = _folder(root, self.folder)
        if folder is None:
            return None
        files: dict[str, Path] = {}
        for path in list_images(folder, recursive=recursive):
            relative = path.relative_to(folder)
            name = (relative if _has_suffix(self.names) else relative.with_suffix("")).as_posix()
            if not self.shared(name):
                continue
            if name in files:
                raise ArgumentError(
                    f"{folder}: {files[name].name} and {path.name} differ only in their suffix; "
                    "remove one of them, or give the suffix in the layout"
                )
            files[name] = path
        return {name: files[name] for name in sorted(files, key=natural_key)}


@dataclass(frozen=True)
class PairTemplate:
    """How the names of degraded images and their targets are related."""

    degraded: NameTemplate
    target: NameTemplate

    @classmethod
    def of(cls, text: str) -> "PairTemplate":
        """Read "DEGRADED:TARGET".

        Raises:
            ArgumentError: the text has not two sides, or their placeholders differ.
        """
        sides = text.split(":")
        if len(sides) != 2 or not all(sides):
            raise ArgumentError(
                f"the layout {text!r} needs two sides, DEGRADED:TARGET, such as "
                "LR/{}x4.png:HR/{}.png"
            )
        degraded, target = map(NameTemplate.of, sides)
        if target.placeholders not in (0, degraded.placeholders):
            raise ArgumentError(
                f"the layout {text!r} has {degraded.placeholders} {{}} on the left and "
                f"{target.placeholders} on the right; give both sides the same, such as "
                "LR/{}x4.png:HR/{}.png"
            )
        return cls(degraded, target)


def match_names(
    template: PairTemplate, degraded: Iterable[str], targets: Iterable[str]
) -> dict[str, str]:
    """Return the target's name of each degraded image that has one.

    >>> template = PairTemplate.of("low{}:normal{}")
    >>> match_names(template, ["low1", "low2"], ["normal1", "normal3"])
    {'low1': 'normal1'}
    """
    by_key: dict[tuple[str, ...], str] = {}
    for name in targets:
        for key in template.target.shared(name):
            by_key.setdefault(key, name)
    found = {}
    for name in degraded:
        keys = template.degraded.shared(name)
        if not template.target.placeholders:
            keys = [() for _ in keys[:1]]
        target = next((by_key[key] for key in keys if key in by_key), None)
        if target is not None:
            found[name] = target
    return found


def pair_by_template(
    root: Path,
    template: PairTemplate,
    *,
    required: bool = False,
    strict: bool = False,
    recursive: bool = True,
    centre_crop: bool = False,
) -> list[Pair] | None:
    """Pair the files of a folder that match a template, in natural order.

    Targets without a degraded image are not used.

    Args:
        root: folder that the template's folders are in.
        template: of the names.
        required: raise if no degraded image has a target.
        strict: the folder of degraded images must contain no others, and not have the names of the
            targets.
        recursive: include subfolders.
        centre_crop: crop targets that are larger than the degraded images.

    Returns:
        The pairs; None if no degraded image has a target.

    Raises:
        ArgumentError: degraded images have no target, or files differ only in their suffix.
    """
    inputs = template.degraded.files(root, recursive=recursive)
    targets = template.target.files(root, recursive=recursive)
    if not inputs or not targets:
        return None
    names = match_names(template, inputs, targets)
    if not names and not required:
        return None
    degraded = _folder(root, template.degraded.folder) or root
    expected: Mapping[str, Path] = inputs
    if strict and template.degraded.names != template.target.names:
        expected, whole = (
            NameTemplate(side.folder, "{}").files(root, recursive=recursive) or {}
            for side in (template.degraded, template.target)
        )
        if expected.keys() <= whole.keys():  # equal names need no template
            return None
    unpaired = [name for name in expected if name not in names]
    if unpaired:
        target = _folder(root, template.target.folder) or root
        raise UnpairedError(
            f"the names of the images in {degraded} and {target} do not match;\n"
            f"{len(unpaired)} of {len(unpaired) + len(names)} have no target: "
            f"{few_names(unpaired)}",
            degraded,
            target,
            len(names),
        )
    return [
        Pair(
            inputs[name].relative_to(degraded).with_suffix("").as_posix(),
            inputs[name],
            targets[target],
            centre_crop=centre_crop,
        )
        for name, target in names.items()
    ]


def _folder(root: Path, path: str) -> Path | None:
    """Return a folder below the root; its exact name first, then ignoring case."""
    if not root.is_dir():
        return None
    if not path or path == ".":
        return root
    if (root / path).is_dir():
        return root / path
    first, _, rest = path.partition("/")
    child = root / first if (root / first).is_dir() else child_folder(root, first)
    return None if child is None else _folder(child, rest)


def _has_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES
