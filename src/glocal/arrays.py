"""Detect common mistakes in the layout and range of pixel arrays."""

import math
from collections.abc import Sequence

__all__ = ["LARGEST", "layout_mistake", "range_mistake"]

LARGEST = 8.0
"""Largest magnitude of floats that can be in units of white: three stops above it. No photograph in
0 to 255 is as dark as that."""

_CHANNELS = (1, 3, 4)


def layout_mistake(shape: Sequence[int], *, channels_last: bool) -> str:
    """Say that an image seems to have its channels in the other place; empty if not.

    >>> layout_mistake((3, 20, 30), channels_last=True)
    'it looks like (c, h, w); pass image.transpose(1, 2, 0), of shape (20, 30, 3)'
    >>> layout_mistake((20, 30, 3), channels_last=False)
    'it looks like (h, w, c); pass image.permute(2, 0, 1), of shape (3, 20, 30)'
    >>> layout_mistake((20, 30, 3), channels_last=True)
    ''

    Args:
        shape: of an array or tensor; the last three dims are those of the image.
        channels_last: whether (h, w, c) is expected, else (c, h, w).
    """
    if len(shape) < 3:
        return ""
    *batch, first, middle, last = shape
    if channels_last:
        if first not in _CHANNELS or last in _CHANNELS or min(middle, last) <= max(_CHANNELS):
            return ""
        return (
            "it looks like (c, h, w); pass image.transpose(1, 2, 0), of shape "
            f"({middle}, {last}, {first})"
        )
    if last not in _CHANNELS or first in _CHANNELS or min(first, middle) <= max(_CHANNELS):
        return ""
    order = ", ".join(map(str, (*range(len(batch)), *(len(batch) + n for n in (2, 0, 1)))))
    moved = ", ".join(map(str, (*batch, last, first, middle)))
    lead = "b, " if batch else ""
    return f"it looks like ({lead}h, w, c); pass image.permute({order}), of shape ({moved})"


def range_mistake(least: float, most: float) -> str:
    """Say that floats are not finite or lie far outside [0, 1]; empty if neither.

    >>> range_mistake(0, 255)
    'values from 0 to 255 are not in [0, 1]; divide by 255'
    >>> range_mistake(-0.1, 1.5), range_mistake(0.0, math.nan)
    ('', 'some values are NaN or infinite; replace them first, as with numpy.nan_to_num')
    """
    if not (math.isfinite(least) and math.isfinite(most)):
        return "some values are NaN or infinite; replace them first, as with numpy.nan_to_num"
    if max(-least, most) <= LARGEST:
        return ""
    peak = next((f"by {n}" for n in (255, 65535) if max(-least, most) <= n), "by its maximum")
    return f"values from {least:g} to {most:g} are not in [0, 1]; divide {peak}"
