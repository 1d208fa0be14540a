"""The places of an image where several restorations of it differ most."""

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
    """The squares in which images of one size differ most, the most differing first.

    What counts is the mean over the square of the spread between the largest and the smallest of
    the images' values, for each pixel and channel. The squares do not overlap, so that there may
    be fewer of them than asked for; of images that are all alike there are none.

    >>> first = np.zeros((100, 100, 3), np.uint8)
    >>> second = first.copy()
    >>> second[70:90, 10:30] = 9
    >>> differing([first, second], side=20)
    [Box(top=70, left=10, height=20, width=20)]

    Args:
        images: (h, w, c) each, of one shape.
        count: how many squares, at most.
        side: of a square in pixels; an image that is smaller is taken whole.
    """
    stack = np.stack(images)
    spread = (stack.max(0).astype(np.int64) - stack.min(0)).sum(2)
    height, width = (min(side, size) for size in spread.shape)
    sums = _window_sums(spread, height, width)
    found: list[Box] = []
    while len(found) < count and sums.max() > 0:
        top, left = (int(index) for index in np.unravel_index(sums.argmax(), sums.shape))
        found.append(Box(top, left, height, width))
        sums[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = 0
    return found


def cut(image: NDArray[Any], box: Box, whole: tuple[int, int]) -> NDArray[Any]:
    """A box of an image; one smaller than (height, width) `whole` is enlarged by repetition."""
    factor = whole[0] // image.shape[0]
    rows = np.arange(box.top, box.top + box.height) // factor
    columns = np.arange(box.left, box.left + box.width) // factor
    return image[np.ix_(rows, columns)]


def _window_sums(values: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Sums over all windows, by their first pixel."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows = total[height:] - total[:-height]
    return np.asarray(rows[:, width:] - rows[:, :-width])
