"""The period of a network: how far an image can be shifted without a change of how it is divided.

A network that halves the image three times and has windows of 8 pixels there divides the image in
the same way again after 64 pixels. Tiles that begin at multiples of the period are divided like the
whole image.
"""

import math
from collections.abc import Iterable

from glocal.scanning.dims import Dim, role

__all__ = ["MAX_PERIOD", "period_of"]

MAX_PERIOD = 256
"""Longest period in pixels that is believed; a longer one comes from sizes that were misread."""


def period_of(tensors: Iterable[Iterable[Dim]], steps: tuple[int, int]) -> int:
    """Return the least common multiple of image pixels to each pixel or cell; 0 if unknown.

    >>> from glocal.scanning.dims import dims_of_shapes
    >>> halved = dims_of_shapes((1, 8, 32, 32), (1, 8, 64, 32), (1, 8, 32, 64))
    >>> period_of([halved], (64, 64))
    2

    Args:
        tensors: dims of all tensors of the three runs of a scan.
        steps: pixels by which the second run is higher, and the third wider.
    """
    grown = {
        (role(factor.sizes), factor.sizes)
        for dims in tensors
        for dim in dims
        for factor in dim
        if not factor.joined
    }
    period = 1
    for axis, (first, higher, wider) in grown:
        if axis not in ("H", "W"):
            continue
        step, more = (steps[0], higher - first) if axis == "H" else (steps[1], wider - first)
        if more <= 0 or max(step, more) % min(step, more):
            return 0
        period = math.lcm(period, max(1, step // more))
    return period if period <= MAX_PERIOD else 0
