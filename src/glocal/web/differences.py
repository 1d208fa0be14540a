"""Where two pictures differ most, from their previews."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glocal.images.previews import Preview
from glocal.study.report.crops import Box as Place
from glocal.study.report.crops import differing
from glocal.web.errors import NotReadyError
from glocal.web.schemas import Box, Difference

__all__ = ["difference"]

Pixels: TypeAlias = NDArray[np.uint8]

_PIXELS = 8_000_000
"""Larger pictures are compared at a smaller scale, for memory."""


def difference(first: Preview, second: Preview, count: int, side: int) -> Difference:
    """Return the squares in which two pictures differ most, largest first.

    A picture that another enlarges is compared in the size of the other.

    Args:
        first, second: the pictures.
        count: largest number of squares.
        side: of a square, in pixels of the larger picture.

    Raises:
        NotReadyError: neither size is a multiple of the other.
    """
    whole = max(first.size, second.size)
    if not all(_divides(each.size, whole) for each in (first, second)):
        raise NotReadyError("the pictures have different shapes, and cannot be compared")
    a, b = _alike(first.pixels(_PIXELS), second.pixels(_PIXELS))
    scale = whole[0] / a.shape[0]
    boxes = differing([a, b], count, max(1, round(side / scale)))
    return Difference(
        height=whole[0],
        width=whole[1],
        boxes=[
            Box(
                top=round(box.top * scale),
                left=round(box.left * scale),
                height=round(box.height * scale),
                width=round(box.width * scale),
                mean=float(np.abs(_part(a, box) - _part(b, box)).mean()),
            )
            for box in boxes
        ],
    )


def _divides(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    scale = whole[0] // size[0]
    return (size[0] * scale, size[1] * scale) == whole


def _alike(a: Pixels, b: Pixels) -> tuple[Pixels, Pixels]:
    """Two pictures in the size of the larger one, by repeating pixels."""
    if a.shape == b.shape:
        return a, b
    height, width = max(a.shape[:2], b.shape[:2])

    def enlarged(pixels: Pixels) -> Pixels:
        rows = np.arange(height) * pixels.shape[0] // height
        columns = np.arange(width) * pixels.shape[1] // width
        return pixels[np.ix_(rows, columns)]

    return enlarged(a), enlarged(b)


def _part(pixels: Pixels, box: Place) -> NDArray[np.int16]:
    rows, columns = (
        slice(box.top, box.top + box.height),
        slice(box.left, box.left + box.width),
    )
    return pixels[rows, columns].astype(np.int16)
