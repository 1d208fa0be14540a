"""The ways to restore an image, and the options that have an effect in each.

Imports nothing heavy, so that the command line can name the ways in its help.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from glocal.errors import ArgumentError

__all__ = [
    "CONVERTING",
    "DEFAULT_WAY",
    "WAYS",
    "Converting",
    "Way",
    "check_way",
    "is_given",
    "takes",
]

Way: TypeAlias = Literal["full", "windows", "crops", "stitch", "auto", "degraded"]
"""How a network restores an image that is larger than its training crops.

"full" runs the original network on the whole image. "windows", "crops" and "auto" run the converted
network, with statistics from windows, from crops, or from both (see `localize`). "stitch" runs the
original network on overlapping, blended tiles of the training size. "degraded" runs no network and
leaves the image as it is: what every other way has to beat.
"""

WAYS: tuple[Way, ...] = get_args(Way)

Converting: TypeAlias = Literal["windows", "crops", "auto"]
"""A way that converts the network."""

CONVERTING: tuple[Converting, ...] = get_args(Converting)

DEFAULT_WAY: Converting = "auto"
"""The way of the command line, unless another is chosen."""

_TAKEN_BY: Mapping[str, tuple[Way, ...]] = {
    "window": ("windows", "auto"),
    "precision": ("windows", "auto"),
    "stride": ("crops", "auto"),
    "smooth_statistics": ("crops",),
    "fallback": CONVERTING,
    "keep_global": CONVERTING,
    "allow_global": CONVERTING,
    "tile": ("stitch",),
    "overlap": ("stitch",),
    "blend": ("stitch",),
}
"""The ways in which an option has an effect; options that are not listed always have one."""


def takes(way: Way, option: str) -> bool:
    """True if an option of `Settings` has an effect in this way."""
    return way in _TAKEN_BY.get(option, WAYS)


def is_given(value: object) -> bool:
    """True if an option has a value other than none, an unset flag or an empty list."""
    return value is not None and value is not False and value != ()


def check_way(way: Way, options: Mapping[str, object], *, command_line: bool = False) -> None:
    """Check that every option that is given has an effect in this way.

    >>> check_way("full", {"window": 384})
    Traceback (most recent call last):
    glocal.errors.ArgumentError: window has no effect with way full; it needs way windows or auto

    Args:
        way: the way.
        options: by name.
        command_line: write options in the error as on the command line.

    Raises:
        ArgumentError: an option has none.
    """
    for name, value in options.items():
        if is_given(value) and not takes(way, name):
            ways = _TAKEN_BY[name]
            needed = " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))
            prefix, option = ("--", name.replace("_", "-")) if command_line else ("", name)
            raise ArgumentError(
                f"{prefix}{option} has no effect with {prefix}way {way}; "
                f"it needs {prefix}way {needed}"
            )
