"""The part of an axis of the image that a tensor shows."""

from fractions import Fraction
from typing import NamedTuple

__all__ = ["WHOLE", "Place", "Places"]


class Place(NamedTuple):
    """The part of an axis of the image that a tensor shows.

    Attributes:
        start, end: of the part, where the axis runs from 0 to 1; start > end if it is mirrored.
        by: index of the call that cut or moved it; -1 if none did.
    """

    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)
    by: int = -1

    @property
    def length(self) -> Fraction:
        """Its signed length."""
        return self.end - self.start

    @property
    def is_part(self) -> bool:
        """It shows less than the whole axis."""
        return abs(self.length) != 1

    @property
    def is_moved(self) -> bool:
        """Its pixels lie elsewhere: mirrored, or shifted by a part of the image."""
        return self.length < 0 or (not self.is_part and self.start != 0)

    def part(self, start: Fraction, end: Fraction, by: int) -> "Place":
        """The part of it from `start` to `end`, as shares of its length."""
        return Place(self.start + start * self.length, self.start + end * self.length, by)

    def same(self, other: "Place") -> bool:
        """Whether it shows the same part."""
        return self[:2] == other[:2]


WHOLE = Place()

Places = dict[str, Place]
"""By axis, "H" or "W"; the whole axis if it is absent."""
