"""Restore a part of a photograph, to try a way before the whole."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from glocal.errors import ArgumentError
from glocal.images.image_files import Image
from glocal.inference.any_image import restore
from glocal.inference.tiling import local_window
from glocal.ops.windows import Size

__all__ = ["Region", "check_region", "restored_region"]

ALIGN = 64
"""The part that the network sees begins at multiples of this, like the maps of the photograph."""


class Region(NamedTuple):
    """A rectangle of a photograph, in pixels.

    Attributes:
        x: the first column.
        y: the first row.
        width: number of columns.
        height: number of rows.
    """

    x: int
    y: int
    width: int
    height: int


def check_region(region: Region, size: Size) -> None:
    """Check that a region lies in a photograph.

    Args:
        region: the region.
        size: (height, width) of the photograph.

    Raises:
        ArgumentError: it does not.
    """
    x, y, width, height = region
    if min(x, y) < 0 or min(width, height) < 1 or x + width > size[1] or y + height > size[0]:
        raise ArgumentError(
            f"the region of {width} × {height} pixels at {x},{y} does not lie in the photograph of "
            f"{size[1]} × {size[0]} pixels"
        )


def restored_region(
    model: nn.Module, image: Image, region: Region, **options: Any
) -> tuple[Image, np.ndarray]:
    """Return the region of an image, and its restored pixels.

    A converted network sees a window more on each side, so that a region inside the photograph has
    about the pixels that the whole restoration gives it. Any other network sees the region alone.

    Args:
        model: the network.
        image: the photograph.
        region: a part of it.
        options: those of `glocal.restore`, without inputs.

    Raises:
        ArgumentError: the region does not lie in the photograph, or as `glocal.restore`.
    """
    check_region(region, image.size)
    around = local_window(model) or (0, 0)
    own = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
    rows, columns = map(_seen, own, around, image.size)
    seen = np.ascontiguousarray(image.colours.seen(image.pixels)[rows, columns])
    pixels = restore(model, seen, **options)
    scale = pixels.shape[0] // seen.shape[0]
    inner = (
        slice(scale * (part.start - whole.start), scale * (part.stop - whole.start))
        for part, whole in zip(own, (rows, columns), strict=True)
    )
    alpha = None if image.alpha is None else np.ascontiguousarray(image.alpha[own])
    part = dataclasses.replace(image, pixels=np.ascontiguousarray(image.pixels[own]), alpha=alpha)
    return part, np.ascontiguousarray(pixels[*inner])


def _seen(part: slice, margin: int, length: int) -> slice:
    """The rows or columns around a part that the network sees."""
    start = max(0, part.start - margin) // ALIGN * ALIGN if margin else part.start
    return slice(start, min(length, part.stop + margin))
