"""Shared by tests of data sets: trees of empty files, and pairs as text."""

from pathlib import Path

from glocal.data.pairing import Pair


def grow(root: Path, tree: str) -> Path:
    """Create the empty files of a tree."""
    for name in tree.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(root: Path, found: list[Pair]) -> list[tuple[str, str, str | None]]:
    """Name, degraded file and target of each pair, relative to the root."""
    return [
        (
            pair.name,
            pair.degraded.relative_to(root).as_posix(),
            None if pair.target is None else pair.target.relative_to(root).as_posix(),
        )
        for pair in found
    ]
