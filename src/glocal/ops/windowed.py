"""What all local operations are made of: sums and maxima of windows, and maps of them.

Where torch runs, sizes are numbers; where an exporter or a compiler follows, they are unknown.
Sums, maxima and sizes have a form for each, and it is chosen here.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glocal.ops import opaque, traced
from glocal.ops.kernels.plain import is_plain
from glocal.ops.sliding import over_windows, slide, sum_windows
from glocal.ops.window_map import lay_out
from glocal.ops.windows import AxisWindows, Precision, Size, covers, window_axes

__all__ = [
    "accumulating_dtype",
    "axes_of",
    "by_slices",
    "clip",
    "covers_map",
    "is_followed",
    "no_autocast",
    "pixels_of_window",
    "to_map",
    "window_maxima",
    "window_means",
    "window_sums",
]

NO_AXES = (AxisWindows(1, 1), AxisWindows(1, 1))
SLICE_PIXELS = 1 << 20  # pixels a slice may hold: a few temporaries of it fit in cache


def covers_map(window: Size, x: Tensor) -> bool:
    """Whether a window holds the whole map; False where that cannot be known."""
    if traced.is_tracing():
        return False
    if traced.is_compiling():
        return opaque.surely_covers(window, x)
    return covers(window, (x.shape[-2], x.shape[-1]))


def clip(x: Tensor, window: Size) -> Size:
    """The window, no larger than the map."""
    if traced.is_tracing():
        return window
    return (min(window[0], x.shape[-2]), min(window[1], x.shape[-1]))


def pixels_of_window(x: Tensor, window: Size) -> Tensor | int:
    """How many pixels a window holds that was clipped to the map."""
    return traced.pixels(x, window) if traced.is_tracing() else window[0] * window[1]


def no_autocast(device: str) -> AbstractContextManager[Any]:
    """Autocast would narrow the sums that are to be wide."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def accumulating_dtype(x: Tensor) -> torch.dtype:
    """Of sums: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def window_sums(x: Tensor, window: Size, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    """Of every window; of those of the axes where torch runs."""
    if traced.is_tracing():
        return traced.over_windows(x, window, partial(slide, combine=torch.add), 0.0)
    if traced.is_compiling():
        sums: Tensor = opaque.window_sums(x, window)
        return sums
    return sum_windows(x, window, axes)


def window_means(
    x: Tensor, window: Size, axes: tuple[AxisWindows, AxisWindows], channels: int = 1
) -> Tensor:
    """Window sums ÷ pixels of a window ÷ channels that were summed before."""
    pixels = pixels_of_window(x, window) * channels
    if isinstance(pixels, int) and not traced.is_compiling():
        return sum_windows(x, window, axes, 1 / pixels)
    return window_sums(x, window, axes) / pixels


def window_maxima(x: Tensor, window: Size) -> Tensor:
    """Of every window."""
    if traced.is_tracing():
        return traced.over_windows(x, window, partial(slide, combine=torch.maximum), -torch.inf)
    if traced.is_compiling():
        maxima: Tensor = opaque.window_maxima(x, window)
        return maxima
    return over_windows(x, window, torch.maximum)


def to_map(values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    """Values of windows as a map of the pixels."""
    if is_followed():
        return values  # a map already
    return lay_out(values, axes)


def axes_of(x: Tensor, window: Size, precision: Precision) -> tuple[AxisWindows, AxisWindows]:
    """Which windows are computed, and where their pixels lie."""
    if is_followed():  # where results are full maps, and sizes are not asked for
        return NO_AXES
    return window_axes((x.shape[-2], x.shape[-1]), window, precision)


def is_followed() -> bool:
    """Whether somebody makes a program of what is computed."""
    return traced.is_tracing() or traced.is_compiling()


def by_slices(f: Callable[[Tensor], Tensor], x: Tensor, channels: int = 1) -> Tensor:
    """f(x), computed `channels` or a multiple of them at a time where that saves memory.

    A slice whose temporaries fit the processor's cache is several times faster on a CPU than
    the whole tensor. Gradients and compilers want the whole.
    """
    if torch.compiler.is_compiling() or traced.is_tracing() or not is_plain(x):
        return f(x)
    b, c, h, w = x.shape
    step = channels * max(1, SLICE_PIXELS // (channels * h * w))
    if b == 1 and step >= c:
        return f(x)
    out = None
    for i in range(b):
        for first in range(0, c, step):
            part = f(x[i : i + 1, first : first + step])
            if out is None:
                out = part.new_empty((b, c, *part.shape[2:]))
            out[i, first : first + step] = part[0]
    assert out is not None
    return out
