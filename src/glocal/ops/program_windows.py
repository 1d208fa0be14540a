"""Windows in a program that keeps operators, and lazy maps of their statistics.

The operators are those of `operators.at_windows`. As in eager mode, what is made of statistics
alone is computed once per window, and a full map is made where it meets pixels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from glocal.ops import exported
from glocal.ops.gradient_map import GradientMap
from glocal.ops.moments import moments_by_means
from glocal.ops.numerics import sum_dtype
from glocal.ops.operators.at_windows import map_of_values, maxima_at_windows, means_at_windows
from glocal.ops.windows import AxisWindows, Precision, Size, axis_windows, grid_step

__all__ = ["ProgramWindows", "ValueMap"]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Axis(AxisWindows):
    """The windows along an axis whose length may be a symbol.

    Attributes:
        window: length of a window; may be larger than the axis.
    """

    window: int

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Axis)
            and (self.window, self.step) == (other.window, other.step)
            and statically_known_true(self.size == other.size)
        )

    __hash__ = object.__hash__

    @classmethod
    def of(cls, size: Any, window: int, precision: Precision) -> "_Axis":
        """The windows along an axis of `size` pixels, an int or a symbol."""
        step = grid_step(window, precision)
        if isinstance(size, int):
            known = axis_windows(size, window, step)
            return cls(known.size, known.count, known.before, known.step, window=window)
        # One or more windows after the first: a number that is never compared with 1.
        count = torch.sym_max((size - window) // step, 1) + 1
        places = torch.sym_max(size - window, 0)
        before = (torch.sym_min(window, size) - 1) // 2 + places % step // 2
        return cls(size, count, before, step, window=window)


class ValueMap(GradientMap):
    """A map (..., h, w) that stores one value per window, in a program."""

    @staticmethod
    def __new__(cls, values: Tensor, axes: tuple[Any, Any]) -> "ValueMap":
        """Wrap (..., windows down, windows along) as a map (..., h, w)."""
        shape = (*values.shape[:-2], axes[0].size, axes[1].size)
        new: ValueMap = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=values.dtype, device=values.device
        )
        new.values, new.axes = values, axes
        return new

    def padded(self) -> Tensor:
        """The full map as a plain tensor."""
        rows, columns = self.axes
        if not isinstance(rows, _Axis) or not isinstance(columns, _Axis):
            return self.values
        values = self.values if self.ndim == 4 else self.values.flatten(0, -3)[None]
        sizes, windows = [rows.size, columns.size], [rows.window, columns.window]
        full: Tensor = map_of_values(values, sizes, windows, [rows.step, columns.step])
        return full.view(self.shape)


class ProgramWindows:
    """The `forms.Windows` of a program that keeps operators."""

    def __init__(self, x: Tensor, window: Size, precision: Precision) -> None:
        """The windows of a map (b, c, h, w); arguments as for `forms.windows_of`."""
        rows, columns = (
            _Axis.of(n, k, precision) for n, k in zip(x.shape[-2:], window, strict=True)
        )
        self._window = window
        self._axes = rows, columns
        self.cover_map = all(isinstance(a.size, int) and a.size == 1 for a in self._axes)
        self.pixels = exported.pixels(x, window)

    def sums(self, x: Tensor) -> Tensor:
        """Sum over each window of (b, c, h, w)."""
        return self.means(x) * self.pixels

    def means(self, x: Tensor, channels: int = 1) -> Tensor:
        """Sum over each window ÷ pixels ÷ channels."""
        steps, counts = [a.step for a in self._axes], [a.count for a in self._axes]
        means: Tensor = means_at_windows(x, self._window, steps, counts)
        return means if channels == 1 else means / channels

    def maxima(self, x: Tensor) -> Tensor:
        """Maximum over each window."""
        counts = [axis.count for axis in self._axes]
        maxima: Tensor = maxima_at_windows(x, self._window, counts)
        return maxima

    def moments(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Mean and variance over each window and group of channels, in `sum_dtype`."""
        return moments_by_means(x, groups, self.means, sum_dtype(x))

    def instance_norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> None:
        """None: a program has no form in one pass."""

    def as_map(self, values: Tensor) -> Tensor:
        """A lazy map of values of the windows."""
        return ValueMap(values, self._axes)
