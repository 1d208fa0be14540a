"""Window arithmetic: where windows, tiles and cells lie on a map of a given size.

Pure functions on integers, one axis at a time unless a pair is asked for; no tensors.
Sizes are pixels of whatever map the caller speaks of, pairs are (height, width).
"""

import itertools
from dataclasses import dataclass
from typing import Literal, TypeAlias

from glocal.errors import ArgumentError
from glocal.ops.placement import Whole, whole_of

__all__ = [
    "LEAST",
    "AxisWindows",
    "Overlap",
    "Precision",
    "Size",
    "as_size",
    "cells",
    "covers",
    "scale_window",
    "start_of",
    "starts",
    "stride",
    "window_axes",
]

Size: TypeAlias = tuple[int, int]
Precision: TypeAlias = Literal["exact", "fast"]

GRID = 16
"""A fast window statistic is evaluated this many times along a window, and between interpolated."""


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


@dataclass(frozen=True)
class AxisWindows:
    """Which windows the pixels along an axis have.

    Attributes:
        size: pixels; 1 where one window covers the axis.
        count: windows that there are values of.
        before: the pixel whose window is the first of them.
        step: pixels from one to the next; between them values are interpolated.
    """

    size: int
    count: int
    before: int = 0
    step: int = 1

    def runs(self) -> list[tuple[slice, slice, int]]:
        """Pixels, their windows, and how many pixels those are: before, inside and after.

        >>> AxisWindows(size=6, count=3, before=2).runs()[0]
        (slice(0, 2, None), slice(0, 1, None), 2)
        """
        inner = self.before + self.count
        pieces = [
            (slice(0, self.before), slice(0, 1), self.before),
            (slice(self.before, inner), slice(0, self.count), self.count),
            (slice(inner, self.size), slice(self.count - 1, self.count), self.size - inner),
        ]
        return [piece for piece in pieces if piece[2] > 0]


def window_axes(
    size: Size, window: Size, precision: Precision = "exact"
) -> tuple[AxisWindows, AxisWindows]:
    """The windows of a map's pixels: of each, or of a grid of them.

    >>> window_axes((9, 9), (3, 9))
    (AxisWindows(size=9, count=7, before=1, step=1), AxisWindows(size=1, count=1, before=0, step=1))

    Args:
        size: (height, width) of the map.
        window: (height, width), at most those of the map.
        precision: "fast" takes a window every 16th of its length, or a little closer.
    """

    def axis(size: int, window: int) -> AxisWindows:
        if window >= size:
            return AxisWindows(1, 1)
        places = size - window + 1
        most = 1 if precision == "exact" else max(1, window // GRID)
        # Of steps much alike, one that divides the window has the least to sum.
        step = next((n for n in range(most, most // 2, -1) if window % n == 0), most)
        count = (places - 1) // step + 1
        # As many places are left over before the first as after the last.
        first = (places - 1) % step // 2
        return AxisWindows(size, count, (window - 1) // 2 + first, step)

    return axis(size[0], window[0]), axis(size[1], window[1])


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


def starts(size: int, window: int, share: float = 0.0, *, axis: int | None = None) -> list[int]:
    """Starts of the fewest windows that tile an axis and overlap by a share of their size.

    They are evenly stepped, the last pushed inside the border. With no share to keep,
    ceil(size / window) windows: the grid of the official transposed attention.

    >>> starts(720, 384), starts(100, 384), starts(720, 384, share=0.5)
    ([0, 336], [0], [0, 168, 336])

    With an axis, 0 for rows and 1 for columns, the windows are those of the whole map, should this
    one be a tile of it (`glocal.ops.placement`).
    """
    whole = None if axis is None else whole_of(axis, size)
    if size <= window:
        return [0]
    if whole is not None:
        return _starts_on(whole, size, window, share)
    step = -(-(size - window) // -(-(size - window) // stride(window, share)))
    return [*range(0, size - window, step), size - window]


def _starts_on(whole: Whole, size: int, window: int, share: float) -> list[int]:
    """The whole map's windows that lie in a tile of it, and one at each border.

    Those at a border that is none of the whole map's spoil what is near to it. It is in the halo.
    """
    everywhere = starts(whole.size, window, share)
    last = size - window
    inside = [s - whole.origin for s in everywhere if 0 <= s - whole.origin <= last]
    return sorted({0, *inside, last})


def stride(window: int, share: float) -> int:
    """How far apart windows may start that overlap by a share of their size.

    >>> stride(256, 0.5), stride(1, 0.9)
    (128, 1)
    """
    return max(1, int(window * (1 - share)))


def cells(size: int, window: int, *, axis: int | None = None) -> list[tuple[int, int]]:
    """The pieces [start, stop) into which the edges of `starts`' windows cut an axis.

    Every window is a run of whole cells.

    >>> cells(720, 384)
    [(0, 336), (336, 384), (384, 720)]
    """
    begins = starts(size, window, axis=axis)
    edges = sorted({*begins, *(min(b + window, size) for b in begins)})
    return list(itertools.pairwise(edges))


def membership(size: int, window: int, *, axis: int | None = None) -> list[list[float]]:
    """For every window of an axis and every cell: 1 where the cell lies in the window.

    >>> membership(720, 384)
    [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    """
    pieces = cells(size, window, axis=axis)
    return [
        [float(begin <= a and b <= begin + window) for a, b in pieces]
        for begin in starts(size, window, axis=axis)
    ]


def areas(size: Size, window: Size) -> list[tuple[slice, slice]]:
    """The cells of a map, row by row; where it is a tile of another, by that one's windows."""
    rows, columns = (cells(size[i], window[i], axis=i) for i in (0, 1))
    return [(slice(*r), slice(*s)) for r in rows for s in columns]
