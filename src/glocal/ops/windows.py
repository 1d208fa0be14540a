"""Window arithmetic: positions of windows, tiles and cells on a map.

Pure functions of integers, without tensors. Most of them handle one axis. Sizes are in pixels of
the map in question; pairs are (height, width).

A few lines above 300: small functions of whole numbers that use each other.
"""

import itertools
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from glocal.errors import ArgumentError
from glocal.ops.placement import Whole, whole_of

__all__ = [
    "CROPS",
    "LEAST",
    "AxisWindows",
    "Crops",
    "Overlap",
    "Precision",
    "Size",
    "Window",
    "areas",
    "as_size",
    "axis_windows",
    "cells",
    "covers",
    "grid_step",
    "map_scale",
    "membership",
    "scale_window",
    "start_of",
    "starts",
    "stride",
    "window_axes",
]

Size: TypeAlias = tuple[int, int]
Precision: TypeAlias = Literal["exact", "fast"]


class Crops(Enum):
    """In place of a window: a statistic comes from crops of the input, see `ops.crops`."""

    CROPS = "crops"

    def __repr__(self) -> str:
        """One word, as the plan shows it."""
        return self.value


CROPS = Crops.CROPS
Window: TypeAlias = Size | Crops
"""(height, width) in pixels of a map, or `CROPS`."""

GRID = 16
"""Places along a window at which a fast statistic is computed; others are interpolated."""


@dataclass(frozen=True)
class Overlap:
    """How the windows of an operation that mixes pixels overlap and are blended.

    Attributes:
        share: least part of a window that its neighbour covers too, along each axis: at least 0,
            below 1.
        blend: "mean" averages the windows of a pixel with equal weights; "linear" weights each
            window by the distance of the pixel from its border.

    Raises:
        ArgumentError: the share or the blend is none of these.
    """

    share: float = 0.0
    blend: Literal["mean", "linear"] = "mean"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.blend not in ("mean", "linear"):
            raise ArgumentError(
                'an overlap needs 0 <= share < 1 and blend "mean" or "linear", '
                f"got share={self.share!r}, blend={self.blend!r}"
            )


@dataclass(frozen=True)
class AxisWindows:
    """The windows of the pixels along an axis.

    Attributes:
        size: number of pixels; 1 where one window covers the axis.
        count: number of windows that have a value.
        before: index of the pixel whose window is the first of them.
        step: pixels from one window to the next; values in between are interpolated.
        centres: centres of the windows in pixels if they are not evenly spaced; `before` and `step`
            have no meaning then.
    """

    size: int
    count: int
    before: int = 0
    step: int = 1
    centres: tuple[float, ...] = ()

    @property
    def interpolated(self) -> bool:
        """True if there are pixels between the windows."""
        return self.step > 1 or bool(self.centres)

    def pixels(self) -> slice | list[int]:
        """The pixel of each window."""
        if self.centres:
            return [round(centre) for centre in self.centres]
        return slice(self.before, self.before + (self.count - 1) * self.step + 1, self.step)

    def runs(self) -> list[tuple[slice, slice, int]]:
        """Return runs of pixels before, on and after the windows.

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
    """Return the windows of a map's pixels along its rows and columns.

    >>> rows, columns = window_axes((9, 9), (3, 9))
    >>> (rows.count, rows.before), (columns.count, columns.before)
    ((7, 1), (1, 0))

    Args:
        size: (height, width) of the map.
        window: (height, width), at most that of the map.
        precision: "exact" has a window for each pixel, "fast" one every 16th of a window's length,
            or a little closer.
    """

    rows, columns = (
        axis_windows(n, k, grid_step(k, precision)) for n, k in zip(size, window, strict=True)
    )
    return rows, columns


def grid_step(window: int, precision: Precision) -> int:
    """Return the pixels from one window that has a value to the next.

    >>> grid_step(384, "exact"), grid_step(384, "fast"), grid_step(100, "fast")
    (1, 24, 5)
    """
    most = 1 if precision == "exact" else max(1, window // GRID)
    # Among similar steps, one that divides the window has the fewest pixels to sum.
    return next((n for n in range(most, most // 2, -1) if window % n == 0), most)


def axis_windows(size: int, window: int, step: int) -> AxisWindows:
    """Return the windows of an axis, every `step` pixels."""
    if window >= size:
        return AxisWindows(1, 1)
    places = size - window + 1
    # The windows are centred: as many places remain before the first as after the last.
    first = (places - 1) % step // 2
    return AxisWindows(size, (places - 1) // step + 1, (window - 1) // 2 + first, step)


LEAST = Overlap()
"""The least overlap with which windows fill the map, as in the official code of TLC."""


def as_size(value: int | tuple[int, int], name: str) -> Size:
    """A positive (height, width) from an int or a pair.

    >>> as_size(256, "train_size")
    (256, 256)

    Raises:
        ArgumentError: the value is neither a positive int nor a pair of them.
    """
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ArgumentError(
            f"{name} must be a positive int or a (height, width) pair of them, got {value!r}"
        )
    return (pair[0], pair[1])


def scale_window(feature: Size, window: Size, train: Size) -> Size:
    """Return the window in pixels of a feature map, from the window in input pixels.

    It is window / train of the feature map, rounded down as in the official code, at least 1 pixel.
    Source: TLC (arXiv 2112.04491), section 4.

    >>> scale_window(feature=(64, 64), window=(384, 384), train=(256, 256))
    (96, 96)

    Args:
        feature: (height, width) of the feature map when the input has the size `train`.
        window: (height, width) in input pixels.
        train: (height, width) of the training crops in input pixels.
    """
    return (
        max(1, feature[0] * window[0] // train[0]),
        max(1, feature[1] * window[1] // train[1]),
    )


def map_scale(small: int, whole: int) -> float:
    """Return pixels of a feature map for each pixel of the image, along one axis.

    A network may pad the image, so the ratio of the sizes is a little off.

    >>> map_scale(9, 33), map_scale(66, 33)
    (0.25, 2)

    Args:
        small: length of the feature map.
        whole: length of the image.
    """
    return round(small / whole) if small > whole else 1 / round(whole / small)


def covers(window: Size, size: Size) -> bool:
    """True if the window covers the map: the local operation is then the global one."""
    return window[0] >= size[0] and window[1] >= size[1]


def start_of(pixel: int, window: int, size: int) -> int:
    """Return the first pixel of a pixel's window: centred, shifted inside the map.

    An even window extends one pixel further to the right than to the left.

    >>> [start_of(p, window=4, size=6) for p in range(6)]
    [0, 0, 1, 2, 2, 2]
    """
    window = min(window, size)
    return min(max(pixel - (window - 1) // 2, 0), size - window)


def starts(size: int, window: int, share: float = 0.0, *, axis: int | None = None) -> list[int]:
    """Return starts of the fewest windows that cover an axis and overlap by a share.

    The steps are equal, except that the last window is shifted inside the border. With a share of
    0 there are ceil(size / window) windows: the grid of the official transposed attention.

    >>> starts(720, 384), starts(100, 384), starts(720, 384, share=0.5)
    ([0, 336], [0], [0, 168, 336])

    Args:
        size: length of the axis.
        window: length of a window; may be larger than the axis.
        share: least part of a window that its neighbour covers too.
        axis: 0 for rows, 1 for columns: if the map is a tile, the windows of the whole map are used
            (`glocal.ops.placement`). None for a map that is never a tile.
    """
    whole = None if axis is None else whole_of(axis, size)
    if size <= window:
        return [0]
    if whole is not None:
        return _starts_on(whole, size, window, share)
    step = -(-(size - window) // -(-(size - window) // stride(window, share)))
    return [*range(0, size - window, step), size - window]


def _starts_on(whole: Whole, size: int, window: int, share: float) -> list[int]:
    """Return starts of the whole map's windows in a tile, and of one at each border.

    A window at a border of the tile that is not one of the whole map gives wrong results near that
    border; they are in the halo, which is cut off.
    """
    everywhere = starts(whole.size, window, share)
    last = size - window
    inside = [s - whole.origin for s in everywhere if 0 <= s - whole.origin <= last]
    return sorted({0, *inside, last})


def stride(window: int, share: float) -> int:
    """Return the largest distance of window starts for an overlap by a share.

    >>> stride(256, 0.5), stride(1, 0.9)
    (128, 1)
    """
    return max(1, int(window * (1 - share)))


def cells(size: int, window: int, *, axis: int | None = None) -> list[tuple[int, int]]:
    """Return the cells [start, stop) between the edges of the windows of `starts`.

    Each window is a run of whole cells.

    >>> cells(720, 384)
    [(0, 336), (336, 384), (384, 720)]
    """
    begins = starts(size, window, axis=axis)
    edges = sorted({*begins, *(min(b + window, size) for b in begins)})
    return list(itertools.pairwise(edges))


def membership(size: int, window: int, *, axis: int | None = None) -> list[list[float]]:
    """(windows, cells) of an axis: 1 where the cell is part of the window.

    >>> membership(720, 384)
    [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    """
    pieces = cells(size, window, axis=axis)
    return [
        [float(begin <= a and b <= begin + window) for a, b in pieces]
        for begin in starts(size, window, axis=axis)
    ]


def areas(size: Size, window: Size) -> list[tuple[slice, slice]]:
    """Return rows and columns of the cells of a map, row by row, even on tiles."""
    rows, columns = (cells(size[i], window[i], axis=i) for i in (0, 1))
    return [(slice(*r), slice(*s)) for r in rows for s in columns]
