"""Forms of window computation: eager, by operators, and for exporters.

`windows_of` is where the form of an operation is chosen; all forms have the same methods.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Protocol

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from glocal.ops import exported, operators
from glocal.ops.kernels import native
from glocal.ops.kernels.plain import is_plain, is_transformed, wants_gradient
from glocal.ops.moments import merge_moments, moments_by_means
from glocal.ops.program_windows import ProgramWindows
from glocal.ops.programs import is_compiling, is_exporting, keeps_operators
from glocal.ops.sliding import over_windows, sum_windows
from glocal.ops.window_map import as_map
from glocal.ops.windows import AxisWindows, Precision, Size, covers, window_axes

__all__ = ["Windows", "covers_map", "moment_windows_of", "windows_of"]


class Windows(Protocol):
    """The windows of the pixels of a map, and statistics over them."""

    @property
    def cover_map(self) -> bool:
        """True if the window is known to cover the whole map."""

    @property
    def pixels(self) -> int | Tensor:
        """Number of pixels in a window; a scalar tensor for exporters."""

    def sums(self, x: Tensor) -> Tensor:
        """Sum over each window of (b, c, h, w), which accumulates in the dtype of x."""

    def means(self, x: Tensor, channels: int = 1) -> Tensor:
        """Sum over each window ÷ pixels ÷ channels; x is a sum of that many channels."""

    def maxima(self, x: Tensor) -> Tensor:
        """Maximum over each window."""

    def moments(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Mean and variance over each window and group of channels, 2 × (b, groups, ...)."""

    def instance_norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor | None:
        """Return the instance norm in one pass, or None without such a form."""

    def as_map(self, values: Tensor) -> Tensor:
        """A map that broadcasts against the pixels, from what the other methods return."""


def windows_of(
    x: Tensor, window: Size, precision: Precision = "exact", *, operators_train: bool = True
) -> Windows:
    """The windows of a map, in the form for eager mode, a compiler or an exporter.

    Args:
        x: (b, c, h, w).
        window: (height, width) in pixels of the map; may be larger than it.
        precision: "fast" selects windows on a grid, in eager mode and in programs that keep
            operators.
        operators_train: in eager mode, use operators where a gradient is wanted and C++ computes
            the values; they train in half the time of torch's own operations on large maps.
    """
    if is_exporting():
        if keeps_operators():
            return ProgramWindows(x, window, precision)
        return _ExportedWindows(x, window)
    if is_compiling():
        return _OperatorWindows(x, window)
    h, w = (int(n) for n in x.shape[-2:])  # a symbol of another tracer becomes its number
    windows = _eager_windows(h, w, window[0], window[1], precision)
    if (
        operators_train
        and precision == "exact"
        and wants_gradient(x)
        and not is_transformed(x)
        and native.available(x.detach(), windows.window)
    ):
        return _OperatorWindows(x, window)
    return windows


def moment_windows_of(x: Tensor, window: Size, precision: Precision) -> Windows:
    """`windows_of` for moments: exact ones by C++ are faster than fast ones by torch.

    A program computes what this machine computes.
    """
    windows = windows_of(x, window, precision)
    if isinstance(windows, ProgramWindows) and native.built() and x.dtype == torch.float32:
        return windows_of(x, window)
    if precision == "exact" or not isinstance(windows, _EagerWindows):
        return windows
    return windows_of(x, window) if native.available(x, windows.window) else windows


def covers_map(window: Size, x: Tensor) -> bool:
    """True if the window is known to cover the whole map (..., h, w)."""
    return windows_of(x, window).cover_map


@dataclass(frozen=True)
class _EagerWindows:
    """Windows of a map of known size: one value per window, by C++ or torch.

    Where any kind of derivative is wanted, torch computes and records every operation: operators of
    `torch.library` have no forward-mode derivative and no batching rule.
    """

    size: Size
    window: Size
    precision: Precision

    @cached_property
    def cover_map(self) -> bool:
        return covers(self.window, self.size)

    @cached_property
    def axes(self) -> tuple[AxisWindows, AxisWindows]:
        return window_axes(self.size, self.window, self.precision)

    @cached_property
    def pixels(self) -> int:
        return self.window[0] * self.window[1]

    def sums(self, x: Tensor) -> Tensor:
        return sum_windows(x, self.window, self.axes)

    def means(self, x: Tensor, channels: int = 1) -> Tensor:
        return sum_windows(x, self.window, self.axes, 1 / (self.pixels * channels))

    def maxima(self, x: Tensor) -> Tensor:
        return over_windows(x, self.window, torch.maximum)

    def moments(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        if self.precision == "exact" and native.available(x, self.window):
            return merge_moments(*native.moments(x, self.window), groups)
        return moments_by_means(x, groups, self.means)

    def instance_norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor | None:
        if not native.available(x, self.window):
            return None
        if not all(t is None or is_plain(t) for t in (weight, bias)):
            return None
        return native.instance_norm(x, self.window, weight, bias, eps)

    def as_map(self, values: Tensor) -> Tensor:
        return as_map(values, self.axes)


@lru_cache(maxsize=1024)
def _eager_windows(h: int, w: int, kh: int, kw: int, precision: Precision) -> _EagerWindows:
    return _EagerWindows((h, w), (min(kh, h), min(kw, w)), precision)


class _OperatorWindows:
    """Windows by operators of `torch.library`, whose results are full maps."""

    def __init__(self, x: Tensor, window: Size) -> None:
        h, w = x.shape[-2:]
        self._window = window
        self.pixels = min(window[0], h) * min(window[1], w)
        # `torch.compile` may know a size, or not.
        self._covered = [statically_known_true(n <= k) for n, k in zip((h, w), window, strict=True)]
        self.cover_map = all(self._covered)

    def sums(self, x: Tensor) -> Tensor:
        sums: Tensor = operators.window_sums(x, self._window)
        return sums

    def means(self, x: Tensor, channels: int = 1) -> Tensor:
        return self.sums(x) / (self.pixels * channels)

    def maxima(self, x: Tensor) -> Tensor:
        maxima: Tensor = operators.window_maxima(x, self._window)
        return maxima

    def moments(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        mean, variance = operators.window_moments(x, self._window, groups)
        return mean, variance

    def instance_norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor | None:
        # On other devices a compiler fuses the normalisation with its neighbours.
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return None
        made: Tensor = operators.instance_norm(x, self._window, weight, bias, eps)
        return made

    def as_map(self, values: Tensor) -> Tensor:
        for dim, covered in zip((-2, -1), self._covered, strict=True):
            values = values.narrow(dim, 0, 1) if covered else values
        return values


class _ExportedWindows:
    """Windows without a branch on sizes, whose results are full maps."""

    cover_map = False

    def __init__(self, x: Tensor, window: Size) -> None:
        self._window = window
        self.pixels = exported.pixels(x, window)
        self.sums = partial(exported.window_sums, window=window)
        self.maxima = partial(exported.window_maxima, window=window)

    def means(self, x: Tensor, channels: int = 1) -> Tensor:
        return self.sums(x) / (self.pixels * channels)

    def moments(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        return exported.window_moments(x, self._window, groups)

    def instance_norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> None:
        return None

    def as_map(self, values: Tensor) -> Tensor:
        return values
