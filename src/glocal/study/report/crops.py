"""Find the parts of an image where several restorations differ most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "cut", "differing"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def differing(images: Sequence[Pixels], count: int = 3, side: int = 120) -> list[Box]:
    """Return the squares in which images of one size differ most, largest first.

    The difference at a pixel and channel is the range of the images' values, and that of a square
    is its mean. The squares do not overlap, so there may be fewer than `count`. Equal images have
    none.

    >>> first = np.zeros((100, 100, 3), np.uint8)
    >>> second = first.copy()
    >>> second[70:90, 10:30] = 9
    >>> differing([first, second], side=20)
    [Box(top=70, left=10, height=20, width=20)]

    Args:
        images: (h, w, c) each, of one shape.
        count: largest number of squares.
        side: of a square in pixels; a smaller image is returned whole.
    """
    stack = np.stack(images)
    ranges = (stack.max(0) - stack.min(0)).sum(2, dtype=np.int64)
    height, width = (min(side, size) for size in ranges.shape)
    sums = _window_sums(ranges, height, width)
    found: list[Box] = []
    while len(found) < count and sums.max() > 0:
        top, left = (int(index) for index in np.unravel_index(sums.argmax(), sums.shape))
        found.append(Box(top, left, height, width))
        sums[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = 0
    return found


def cut(image: NDArray[Any], box: Box, whole: tuple[int, int]) -> NDArray[Any]:
    """Return a box of an image, repeating pixels if it is smaller than `whole`.

    Args:
        image: (h, w, c).
        box: in pixels of an image of size `whole`.
        whole: (height, width), a multiple of the size of `image`.
    """
    factor = whole[0] // image.shape[0]
    rows = np.arange(box.top, box.top + box.height) // factor
    columns = np.arange(box.left, box.left + box.width) // factor
    return image[np.ix_(rows, columns)]


def _window_sums(values: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Return the sum over each window, at the window's first pixel."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows = total[height:] - total[:-height]
    return np.asarray(rows[:, width:] - rows[:, :-width])
