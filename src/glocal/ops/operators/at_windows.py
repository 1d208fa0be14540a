"""Operators with one value per window, for programs that glocal writes itself.

A program that is saved for other runtimes computes a statistic where the windows are, and pads it
to the map last. Its counts of windows are symbols, which tracers must not compare with 1: there are
at least two windows along an axis of unknown length, the second equal to the first where one window
covers the axis. `exporting.onnx_windows` has the operators in ONNX.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.ops.sliding import over_windows, sum_windows
from glocal.ops.window_map import WindowMap
from glocal.ops.windows import AxisWindows, Size, axis_windows

__all__ = ["map_of_values", "maxima_at_windows", "means_at_windows"]


@torch.library.custom_op(
    "glocal::means_at_windows",
    mutates_args=(),
    schema="(Tensor x, int[] window, int[] step, SymInt[] count) -> Tensor",
)
def means_at_windows(
    x: Tensor, window: Sequence[int], step: Sequence[int], count: Sequence[int]
) -> Tensor:
    """Mean over windows, (b, c, h, w) to (b, c, windows down, windows along).

    Args:
        x: the map, in a dtype to accumulate in.
        window: (height, width) in pixels of the map; may be larger than it.
        step: pixels from one window to the next along each axis.
        count: windows along each axis; more than there are repeat the last.
    """
    axes, inside = _axes(x, window, step)
    return _repeated(sum_windows(x, inside, axes, 1 / (inside[0] * inside[1])), count)


@torch.library.custom_op(
    "glocal::maxima_at_windows",
    mutates_args=(),
    schema="(Tensor x, int[] window, SymInt[] count) -> Tensor",
)
def maxima_at_windows(x: Tensor, window: Sequence[int], count: Sequence[int]) -> Tensor:
    """Maximum over every window, as `means_at_windows`."""
    _, inside = _axes(x, window, (1, 1))
    return _repeated(over_windows(x, inside, torch.maximum).clone(), count)


@torch.library.custom_op(
    "glocal::map_of_values",
    mutates_args=(),
    schema="(Tensor values, SymInt[] size, int[] window, int[] step) -> Tensor",
)
def map_of_values(
    values: Tensor, size: Sequence[int], window: Sequence[int], step: Sequence[int]
) -> Tensor:
    """Give each pixel the value of its window, interpolated between windows.

    Args:
        values: (b, c, windows down, windows along).
        size: (height, width) of the map; 1 on an axis that one window covers.
        window, step: as in `means_at_windows`.
    """
    axes = [axis_windows(n, k, s) for n, k, s in zip(size, window, step, strict=True)]
    values = values[..., : axes[0].count, : axes[1].count]
    full = WindowMap(values.contiguous(), (axes[0], axes[1])).padded()
    return full.expand(*values.shape[:-2], *size).contiguous()


def _axes(
    x: Tensor, window: Sequence[int], step: Sequence[int]
) -> tuple[tuple[AxisWindows, AxisWindows], Size]:
    """The windows of a map, and the window clipped to it."""
    (h, w), (kh, kw) = x.shape[-2:], window
    axes = axis_windows(h, kh, step[0]), axis_windows(w, kw, step[1])
    return axes, (min(kh, h), min(kw, w))


def _repeated(values: Tensor, count: Sequence[int]) -> Tensor:
    down, along = (wanted - have for wanted, have in zip(count, values.shape[-2:], strict=True))
    return F.pad(values, (0, along, 0, down), mode="replicate")


@means_at_windows.register_fake
def _(x: Tensor, window: Any, step: Any, count: Any) -> Tensor:
    return x.new_empty(*x.shape[:-2], *count)


@maxima_at_windows.register_fake
def _(x: Tensor, window: Any, count: Any) -> Tensor:
    return x.new_empty(*x.shape[:-2], *count)


@map_of_values.register_fake
def _(values: Tensor, size: Any, window: Any, step: Any) -> Tensor:
    return values.new_empty(*values.shape[:-2], *size)
