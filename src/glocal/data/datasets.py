"""Find the image pairs of a data set and read their pixels.

Published RealBlur figures align each image to its target by a homography first; this module does
not. Convert the MATLAB files of SIDD and DND, and LMDB databases, to PNG first.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glocal.data.layouts import LAYOUTS, Layout, folders_layout
from glocal.data.pairing import Pair, natural_key, stems_of
from glocal.errors import ArgumentError
from glocal.images.image_files import read
from glocal.texts import few_names

__all__ = ["LAYOUTS", "Layout", "Pair", "pairs", "read_pair"]

Floats: TypeAlias = NDArray[np.float32]


def pairs(
    root: str | Path, layout: str = "auto", *, noise_sigma: float | None = None
) -> list[Pair]:
    """The pairs of degraded and target images of a data set, in natural order.

    Args:
        root: folder of the data set, or of its test images.
        layout: name of one of `LAYOUTS`; "DEGRADED:TARGET", two folders inside `root` with equal
            file names; or "auto", the first layout that matches.
        noise_sigma: for a folder of clean images (Kodak, McMaster, Urban100): standard deviation
            of the Gaussian noise to add, in 1/255.

    Raises:
        ArgumentError: the folder does not match the layout, or files have no counterpart.
    """
    root = Path(root)
    if not root.is_dir():
        raise ArgumentError(f"{root}: no such folder")
    if noise_sigma is not None:
        return _clean(root, layout, noise_sigma)
    if layout == "auto":
        return _guess(root)
    chosen = _layout_named(layout)
    found = chosen.find(root)
    if not found:
        raise ArgumentError(
            f"{root}: does not match the layout {chosen.name}, which has {chosen.expects};\n"
            f"{_contents(root)}"
        )
    return found


def read_pair(pair: Pair) -> tuple[Floats, Floats | None]:
    """The pixels of a pair, degraded and target, as (h, w, c) float32 in [0, 1].

    The noise of `noise_sigma` follows the published colour denoising results: NumPy's legacy
    generator, seeded with 0 for every image, neither clipped nor rounded. The two views of a
    dual-pixel pair are concatenated along the channels. Alpha is dropped.

    Returns:
        The degraded image and its target (or None). Both have one size, except that
        super-resolution targets are larger by an integer factor.

    Raises:
        ImageError: a file cannot be read.
        ArgumentError: the sizes or channels of the images do not match.
    """
    degraded = _pixels(pair.degraded)
    if pair.noise_sigma is not None:
        noise = np.random.RandomState(0).normal(0, pair.noise_sigma / 255, degraded.shape)
        return (degraded + noise).astype(np.float32), degraded
    target = None if pair.target is None else _pixels(pair.target)
    if target is not None:
        if pair.centre_crop:
            target = _centre(target, degraded.shape[:2])
        sizes = [(t, d) for t, d in zip(target.shape, degraded.shape, strict=True)]
        factors = {t // d for t, d in sizes[:2]}
        if any(t % d for t, d in sizes[:2]) or len(factors) > 1 or sizes[2][0] != sizes[2][1]:
            raise ArgumentError(
                f"{pair.degraded} is {_size(degraded)}, but its target {pair.target} is "
                f"{_size(target)}"
            )
    if pair.second is not None:
        second = _pixels(pair.second)
        if second.shape != degraded.shape:
            raise ArgumentError(
                f"{pair.degraded} is {_size(degraded)}, but its second view {pair.second} is "
                f"{_size(second)}"
            )
        degraded = np.concatenate([degraded, second], axis=2)
    return degraded, target


# --- choosing a layout -----------------------------------------------------------------------


def _guess(root: Path) -> list[Pair]:
    for layout in (layout for layout in LAYOUTS if layout.auto):
        found = layout.find(root)
        if not found:
            continue
        matching = [
            other.name
            for other in LAYOUTS
            if layout.family and other.family == layout.family and other.find(root)
        ]
        if len(matching) > 1:
            raise ArgumentError(
                f"{root}: matches the layouts {' and '.join(matching)}; choose one of them as the "
                "layout"
            )
        return found
    tried = ", ".join(each.name for each in LAYOUTS if each.auto)
    raise ArgumentError(
        f"{root}: matches no known layout; {_contents(root)}\n"
        f"tried {tried} (--layout NAME shows what is missing for one of them). Give the two "
        "folders as the layout DEGRADED:TARGET; clean images need a noise_sigma (--noise-sigma), "
        "images without targets the layout dnd (--layout dnd)"
    )


def _layout_named(name: str) -> Layout:
    if ":" in name:
        degraded, target = name.split(":", 1)
        return folders_layout(degraded, target)
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise ArgumentError(f"unknown layout {name!r}; use one of {known}, or DEGRADED:TARGET")


def _clean(root: Path, layout: str, noise_sigma: float) -> list[Pair]:
    if layout != "auto":
        raise ArgumentError(
            f"the layout {layout} has degraded images; noise_sigma is only for clean images"
        )
    if not noise_sigma >= 0:
        raise ArgumentError(f"noise_sigma must be 0 or more (in 1/255), got {noise_sigma}")
    images = stems_of(root, recursive=False)
    if not images:
        raise ArgumentError(f"{root}: has no images to add noise to; {_contents(root)}")
    return [Pair(name, path, path, noise_sigma=noise_sigma) for name, path in images.items()]


def _contents(root: Path) -> str:
    """The contents of a folder as text, with a hint on formats that cannot be read."""
    entries = sorted(
        (path for path in root.iterdir() if not path.name.startswith(".")),
        key=lambda path: natural_key(path.name),
    )
    listed = few_names((f"{path.name}/" if path.is_dir() else path.name for path in entries), 5)
    return f"it contains {listed or 'nothing'}" + _unreadable([root, *entries])


def _unreadable(paths: Iterable[Path]) -> str:
    suffixes = {
        inside.suffix for path in paths if path.is_dir() for inside in [path, *path.iterdir()]
    }
    if ".lmdb" in suffixes:
        return " (LMDB databases cannot be read: convert them to PNG files)"
    if ".mat" in suffixes:
        return " (MATLAB files cannot be read: convert them to PNG files)"
    return ""


# --- pixels ----------------------------------------------------------------------------------


def _pixels(path: Path) -> Floats:
    pixels = read(path).pixels
    return (pixels / np.float32(np.iinfo(pixels.dtype).max)).astype(np.float32)


def _centre(target: Floats, size: tuple[int, ...]) -> Floats:
    top, left = ((own - wanted) // 2 for own, wanted in zip(target.shape, size, strict=False))
    return target if min(top, left) < 0 else target[top : top + size[0], left : left + size[1]]


def _size(pixels: Floats) -> str:
    height, width, channels = pixels.shape
    return f"{height}×{width} with {channels} channels"
