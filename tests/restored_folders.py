"""Folders of photographs for tests of executors, and what was made of them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from glocal.images import image_files as images
from glocal.images.icc import linear_profile
from glocal.images.image_files import Image
from glocal.runs.jobs import FileResult


def photographs(folder: Path, count: int, size: tuple[int, int] = (96, 100)) -> Path:
    """Make photographs of 16 bits with a profile, a damaged one, and one in a subfolder.

    By default they are too large to share a batch on a CPU.
    """
    rng = np.random.default_rng(0)
    names = [f"{number:02d}" for number in range(count - 1)] + ["sub/last"]
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 2**16, (*size, 3)).astype(np.uint16)
        images.write(path, Image(pixels, icc=linear_profile(3)))
    (folder / "damaged.png").write_bytes(b"no image")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The results in a folder, by name."""
    found = sorted(folder.rglob("*.png"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def statuses(results: Iterable[FileResult]) -> Counter[str]:
    """How many files have each status."""
    return Counter(str(each.status) for each in results)
