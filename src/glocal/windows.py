"""Window arithmetic: where windows, tiles and cells lie on a map of a given size.

Pure functions on integers, one axis at a time unless a pair is asked for; no tensors.
Sizes are pixels of whatever map the caller speaks of, pairs are (height, width).
"""

import itertools
from dataclasses import dataclass
from typing import Literal, TypeAlias

from glocal.errors import ArgumentError

__all__ = [
    "LEAST",
    "Overlap",
    "Size",
    "as_size",
    "cells",
    "covers",
    "scale_window",
    "start_of",
    "starts",
    "stride",
]

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Overlap:
    """How the windows of an operation that mixes pixels overlap, and become one map again.

    Attributes:
        share: of a window that its neighbour covers too, at least, along each axis; from 0 to
            below 1.
        blend: "mean" averages the windows of a pixel alike; "linear" weighs each by how far from
            its border the pixel lies.
    """

    share: float = 0.0
    blend: Literal["mean", "linear"] = "mean"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.blend not in ("mean", "linear"):
            raise ArgumentError(
                "an overlap is a share of the window from 0 to below 1, blended by mean or linear, "
                f"got {self.share!r}, {self.blend!r}"
            )


LEAST = Overlap()
"""No more overlap than it takes to fill the map: the official one."""


def as_size(value: int | tuple[int, int], name: str) -> Size:
    """A positive (height, width) from an int or a pair.

    >>> as_size(256, "train_size")
    (256, 256)

    Raises:
        ArgumentError: the value is no positive int and no pair of them.
    """
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ArgumentError(
            f"{name} must be a positive int or a (height, width) pair of them, got {value!r}"
        )
    return (pair[0], pair[1])


def scale_window(feature: Size, window: Size, train: Size) -> Size:
    """The window on a feature map, from the window in input pixels.

    A layer that sees a `feature`-sized map when the input is `train`-sized gets the share
    `window / train` of it, rounded down as in the official code, at least 1 pixel.
    Source: TLC (arXiv 2112.04491), section 4.

    >>> scale_window(feature=(64, 64), window=(384, 384), train=(256, 256))
    (96, 96)
    """
    return (
        max(1, feature[0] * window[0] // train[0]),
        max(1, feature[1] * window[1] // train[1]),
    )


def covers(window: Size, size: Size) -> bool:
    """Whether the window reaches over the whole map, so that local means global."""
    return window[0] >= size[0] and window[1] >= size[1]


def start_of(pixel: int, window: int, size: int) -> int:
    """First pixel of the window of a pixel: centred on it, pushed inside the map.

    An even window reaches one pixel further to the right than to the left.

    >>> [start_of(p, window=4, size=6) for p in range(6)]
    [0, 0, 1, 2, 2, 2]
    """
    window = min(window, size)
    return min(max(pixel - (window - 1) // 2, 0), size - window)


def starts(size: int, window: int, share: float = 0.0) -> list[int]:
    """Starts of the fewest windows that tile an axis and overlap by a share of their size.

    They are evenly stepped, the last pushed inside the border. With no share to keep,
    ceil(size / window) windows: the grid of the official transposed attention.

    >>> starts(720, 384), starts(100, 384), starts(720, 384, share=0.5)
    ([0, 336], [0], [0, 168, 336])
    """
    if size <= window:
        return [0]
    step = -(-(size - window) // -(-(size - window) // stride(window, share)))
    return [*range(0, size - window, step), size - window]


def stride(window: int, share: float) -> int:
    """How far apart windows may start that overlap by a share of their size.

    >>> stride(256, 0.5), stride(1, 0.9)
    (128, 1)
    """
    return max(1, int(window * (1 - share)))


def cells(size: int, window: int) -> list[tuple[int, int]]:
    """The pieces [start, stop) into which the edges of `starts`' windows cut an axis.

    Every window is a run of whole cells.

    >>> cells(720, 384)
    [(0, 336), (336, 384), (384, 720)]
    """
    begins = starts(size, window)
    edges = sorted({*begins, *(min(b + window, size) for b in begins)})
    return list(itertools.pairwise(edges))
