"""The position of a tile in its image, for operations with a grid of windows.

A statistic has a window around every pixel, so a tile has the same windows as the whole image.
Operations that mix pixels have few windows, evenly spaced from border to border of the map; in a
tile they must know its position to use the windows of the whole image.

A network's ``forward`` takes the image only, so the placement cannot be an argument. `placed` puts
it into a context variable, like torch's gradient mode: it holds inside a ``with``, in the thread
that entered it. An operation knows the size of its own map, and `Placement.whole` finds the
resolution by the ratio of the tile's size to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

__all__ = [
    "ALIGN",
    "Extent",
    "Placement",
    "Resolution",
    "Whole",
    "is_placed",
    "is_recorded",
    "placed",
    "recorded_grids",
    "resolutions_of",
    "whole_of",
]

ALIGN = 64
"""Tiles of a network with window grids begin at multiples of this many pixels: the largest ratio
of image to feature map of the published networks, and the most that they pad to."""

_RATIOS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Whole:
    """An axis of the whole map, in pixels of that map.

    Attributes:
        size: length of the axis.
        origin: where the tile's map begins on it.
    """

    size: int
    origin: int


@dataclass(frozen=True)
class Resolution:
    """A resolution at which a network has grids of windows, along one axis.

    Attributes:
        axis: 0 for rows, 1 for columns.
        ratio: pixels of the image for each pixel of the map.
        padding: pixels that the network appends to the whole image along the axis.
    """

    axis: int
    ratio: int
    padding: int


@dataclass(frozen=True)
class Extent:
    """Pixels [start, stop) of an axis of ``size`` pixels."""

    start: int
    stop: int
    size: int


@dataclass(frozen=True)
class Placement:
    """The position of a tile in its image, in pixels of the image.

    Attributes:
        rows, columns: the extent of the tile along both axes.
        resolutions: those of the network's grids, measured on the image; see `resolutions_of`.
    """

    rows: Extent
    columns: Extent
    resolutions: tuple[Resolution, ...] = ()

    def whole(self, axis: int, length: int) -> Whole | None:
        """The axis of the whole map, given the length of the tile's map.

        A tile that ends inside the image is not padded; one that ends at the border of the image
        is padded like the image.

        >>> placement = Placement(Extent(0, 128, 128), Extent(64, 192, 318), (Resolution(1, 2, 2),))
        >>> placement.whole(1, 64), placement.whole(1, 32)
        (Whole(size=160, origin=32), None)

        Returns:
            None where no known resolution has a map of this length.
        """
        tile = (self.rows, self.columns)[axis]
        for each in self.resolutions:
            padding = each.padding if tile.stop == tile.size else 0
            padded = tile.size + each.padding
            if (
                each.axis == axis
                and length * each.ratio == tile.stop - tile.start + padding
                and padded % each.ratio == 0
            ):
                return Whole(padded // each.ratio, tile.start // each.ratio)
        return None


def resolutions_of(lengths: set[tuple[int, int]], size: tuple[int, int]) -> tuple[Resolution, ...]:
    """The resolutions of maps, by their lengths for an image of a given size.

    The ratio is a power of two, and the network appends fewer than `ALIGN` pixels.

    >>> for each in resolutions_of({(0, 320), (0, 160), (1, 248)}, (320, 494)):
    ...     print(each)
    Resolution(axis=0, ratio=1, padding=0)
    Resolution(axis=0, ratio=2, padding=0)
    Resolution(axis=1, ratio=2, padding=2)

    Args:
        lengths: (axis, length) of each map.
        size: (height, width) of the image.
    """
    return tuple(
        Resolution(axis, ratio, length * ratio - size[axis])
        for axis in (0, 1)
        for ratio in _RATIOS
        for own, length in sorted(lengths)
        if own == axis and 0 <= length * ratio - size[axis] < ALIGN
    )


@dataclass(frozen=True)
class _Context:
    placement: Placement | None
    lengths: set[tuple[int, int]] = field(default_factory=set)


_context: ContextVar[_Context | None] = ContextVar("glocal_placement", default=None)


@contextmanager
def placed(placement: Placement) -> Iterator[None]:
    """Run a network on a tile: inside the ``with``, `whole_of` knows its position.

    >>> here = Placement(Extent(0, 8, 8), Extent(4, 12, 20), (Resolution(1, 1, 0),))
    >>> with placed(here):
    ...     whole_of(1, 8), whole_of(0, 8)
    (Whole(size=20, origin=4), None)
    """
    token = _context.set(_Context(placement))
    try:
        yield
    finally:
        _context.reset(token)


@contextmanager
def recorded_grids() -> Iterator[set[tuple[int, int]]]:
    """Collect (axis, length) of every map with a grid of windows, in the context."""
    context = _Context(None)
    token = _context.set(context)
    try:
        yield context.lengths
    finally:
        _context.reset(token)


def is_placed() -> bool:
    """True inside `placed`."""
    context = _context.get()
    return context is not None and context.placement is not None


def is_recorded() -> bool:
    """True inside `recorded_grids`."""
    context = _context.get()
    return context is not None and context.placement is None


def whole_of(axis: int, length: int) -> Whole | None:
    """Return the axis of the whole map, given the length of a tile's map, or None."""
    context = _context.get()
    if context is None:
        return None
    context.lengths.add((axis, length))
    return None if context.placement is None else context.placement.whole(axis, length)
