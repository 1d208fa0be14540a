"""Where a tile lies in its image, told to operations whose windows lie on a grid of the whole map.

Statistics have a window around every pixel, so a tile of an image has the windows that the image
has. Operations that mix pixels have few windows, evenly spread from border to border; those of a
tile are the image's only if the tile knows where it lies. Like torch's gradient mode this holds
inside of a `with`, in the thread that entered it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Extent", "Whole", "looked_up", "placed", "whole_of"]

Extent: TypeAlias = tuple[int, int]
"""An axis of a map, 0 for rows and 1 for columns, and its length."""


@dataclass(frozen=True)
class Whole:
    """The axis of a whole map, and where on it a tile's map begins; in pixels of that map."""

    size: int
    origin: int


@dataclass(frozen=True)
class _Lookups:
    wholes: Mapping[Extent, Whole]
    asked: set[Extent] = field(default_factory=set)


_lookups: ContextVar[_Lookups | None] = ContextVar("glocal_placement", default=None)


@contextmanager
def placed(wholes: Mapping[Extent, Whole]) -> Iterator[None]:
    """Run a network on a tile whose maps, by the lengths of their axes, are parts of these.

    >>> with placed({(0, 8): Whole(size=20, origin=4)}):
    ...     whole_of(0, 8), whole_of(1, 8)
    (Whole(size=20, origin=4), None)
    """
    token = _lookups.set(_Lookups(wholes))
    try:
        yield
    finally:
        _lookups.reset(token)


@contextmanager
def looked_up() -> Iterator[set[Extent]]:
    """The axes on which a grid of windows is laid inside of the `with`."""
    lookups = _Lookups({})
    token = _lookups.set(lookups)
    try:
        yield lookups.asked
    finally:
        _lookups.reset(token)


def whole_of(axis: int, length: int) -> Whole | None:
    """What an axis of this length is a part of; None where it is the whole itself."""
    lookups = _lookups.get()
    if lookups is None:
        return None
    lookups.asked.add((axis, length))
    return lookups.wholes.get((axis, length))
