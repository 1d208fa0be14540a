"""Student's confidence intervals of means and of paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glocal.errors import ArgumentError

__all__ = ["FEWEST", "Interval", "interval_of", "paired", "student_quantile"]

FEWEST = 5
"""Fewest values for which an interval is shown: the spread of fewer is an accident."""


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval, mean ± half_width.

    Attributes:
        mean: of the values.
        half_width: of the interval; NaN for a single value.
        count: number of values.
        level: share of such intervals that contain the true mean, if the values are independent
            draws from a normal distribution.
    """

    mean: float
    half_width: float
    count: int
    level: float = 0.95

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half_width

    def text(self, digits: int = 3, *, sign: bool = True, unit: str = "") -> str:
        """Format the mean with the half-width, or with the number of few values.

        >>> interval_of([0.1, 0.2, 0.3, 0.2, 0.2]).text(unit=" dB")
        '+0.200 ± 0.088 dB'
        >>> interval_of([0.1, 0.2]).text(unit=" dB")
        '+0.150 dB (n = 2)'
        """
        mean = f"{self.mean:{'+' if sign else ''}.{digits}f}"
        if self.count < FEWEST:
            return f"{mean}{unit} (n = {self.count})"
        return f"{mean} ± {self.half_width:.{digits}f}{unit}"

    @property
    def is_shown(self) -> bool:
        """True if there are enough values for `text` to show the interval."""
        return self.count >= FEWEST


def interval_of(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of independent values.

    Raises:
        ArgumentError: there are no values, or the level is not between 0 and 1.
    """
    if not values:
        raise ArgumentError("an interval needs at least one value")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        student_quantile(level, 1)  # raises for a wrong level
        return Interval(mean, math.nan, 1, level)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = student_quantile(level, count - 1) * math.sqrt(variance / count)
    return Interval(mean, half, count, level)


def paired(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of first − second, pair by pair.

    What two restorations of one image share (how hard the image is) cancels, so the interval is
    much narrower than those of the two means.

    >>> paired([30.2, 25.3, 28.1, 27.2, 29.2], [30.0, 25.0, 28.0, 27.0, 29.0]).text()
    '+0.200 ± 0.088'

    Raises:
        ArgumentError: as in `interval_of`, or the lengths differ.
    """
    if len(first) != len(second):
        raise ArgumentError(
            f"cannot pair {len(first)} values with {len(second)}; give equally many"
        )
    return interval_of([a - b for a, b in zip(first, second, strict=True)], level)


def student_quantile(level: float, degrees: int) -> float:
    """Return the t with P(|T| < t) = `level`, for Student's T.

    >>> round(student_quantile(0.95, 9), 4)
    2.2622

    Source: the finite sums for a whole number of degrees, Abramowitz and Stegun 26.7.3 and 26.7.4.

    Raises:
        ArgumentError: the level is not between 0 and 1, or the degrees are below 1.
    """
    if not 0 < level < 1 or degrees < 1:
        raise ArgumentError(
            f"level must be between 0 and 1 and degrees at least 1, got {level} and {degrees}"
        )
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _probability(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return math.tan(high) * math.sqrt(degrees)


def _probability(theta: float, degrees: int) -> float:
    """Return P(|T| < t) for t = tan(θ) √degrees."""
    cosine, odd = math.cos(theta), degrees % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, degrees, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if not odd:
        return math.sin(theta) * total
    if degrees == 1:
        total = 0.0
    return 2 / math.pi * (theta + math.sin(theta) * total)
