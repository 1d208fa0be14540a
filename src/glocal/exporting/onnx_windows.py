"""The operators of `glocal.ops.operators.at_windows` in ONNX.

Window means are dilated depthwise convolutions with equal weights: three of 8 + 8 + 6 taps sum 384
neighbours. Every engine has fast code for them, no window contains a term from outside it, and
nothing is larger than the map. Sizes that are known when the graph is written become constants.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnxscript
from onnxscript import ir

from glocal.ops.windows import axis_windows

__all__ = ["Value", "constant", "ints", "map_of_values", "maxima", "means", "op"]

op: Any = onnxscript.opset18
"""The operators: a call adds a node to the graph that is written."""

Value = Any
"""A value of that graph."""

TAPS = 16
"""Largest number of taps of a convolution; a window with a larger prime factor is split."""

MAP_COST = 6
"""Taps of a convolution that take as long as reading and writing a map."""

END = np.iinfo(np.int64).max
"""The end of a slice to the end of an axis."""

ROWS, COLUMNS = 2, 3


def means(x: Value, window: Sequence[int], step: Sequence[int], count: Sequence[Any]) -> Value:
    """See `means_at_windows`."""
    dtype, channels, sizes = x.dtype, _known(x, 1), (_known(x, ROWS), _known(x, COLUMNS))
    for dim, size, length, apart in zip((ROWS, COLUMNS), sizes, window, step, strict=True):
        axis = _Axis(x, dim, size, length, apart, dtype)
        if size is not None and size <= length:
            x = op.ReduceMean(x, ints(dim))
        elif dtype == ir.DataType.FLOAT and channels is not None:
            x = axis.corrected(axis.means(channels))
        else:
            sums = axis.every(axis.slide(axis.padded(0.0), op.Add))
            x = axis.corrected(op.Mul(sums, axis.number(1 / length)))
    return x


def maxima(x: Value, window: Sequence[int], count: Sequence[Any]) -> Value:
    """See `maxima_at_windows`."""
    dtype, sizes = x.dtype, (_known(x, ROWS), _known(x, COLUMNS))
    for dim, size, length in zip((ROWS, COLUMNS), sizes, window, strict=True):
        axis = _Axis(x, dim, size, length, 1, dtype)
        if size is not None and size <= length:
            x = op.ReduceMax(x, ints(dim))
        else:
            x = axis.slide(axis.padded(-math.inf), op.Max)
            x = x if size is not None else op.Expand(x, axis.repeats())
    return x


def map_of_values(
    values: Value, size: Sequence[Any], window: Sequence[int], step: Sequence[int]
) -> Value:
    """See `map_of_values`."""
    dtype, scales = values.dtype, [1.0, 1.0]
    for i, wanted in enumerate(size):
        scales[i] = 1.0 if wanted == 1 and isinstance(wanted, int) else float(step[i])
    if scales != [1.0, 1.0]:
        values = op.Resize(
            op.Cast(values, to=ir.DataType.FLOAT),
            None,
            constant(np.array([1, 1, *scales], np.float32)),
            mode="linear",
            coordinate_transformation_mode="asymmetric",
        )
        values = op.Cast(values, to=dtype)
    before, after = [], []
    for dim, length, apart, wanted in zip((ROWS, COLUMNS), window, step, size, strict=True):
        if isinstance(wanted, int):
            known = axis_windows(wanted, length, apart)
            before.append(ints(known.before))
            after.append(ints(wanted - known.before - known.count * (apart if wanted > 1 else 1)))
            continue
        whole = op.Reshape(op.Cast(wanted, to=ir.DataType.INT64), ints(1))
        start = op.Div(op.Sub(op.Min(whole, ints(length)), ints(1)), ints(2))
        if apart > 1:
            start = op.Add(start, _first(whole, length, apart))
        before.append(start)
        after.append(op.Sub(op.Sub(whole, start), op.Shape(values, start=dim, end=dim + 1)))
    pads = op.Concat(ints(0, 0), *before, ints(0, 0), *after, axis=0)
    return op.Pad(values, pads, None, None, mode="edge")


@dataclass(frozen=True)
class _Axis:
    """An axis of a map over whose windows something is computed.

    Attributes:
        x: the map (b, c, h, w).
        dim: the number of the axis.
        size: its length; None if it is known only when the graph runs.
        length: of a window; at most `size` if that is known.
        step: pixels from one window to the next.
        dtype: of the map.
    """

    x: Value
    dim: int
    size: int | None
    length: int
    step: int
    dtype: ir.DataType

    def means(self, channels: int) -> Value:
        """Means over the windows, as if the axis were at least as long as one."""
        padded = self.padded(0.0)
        if self.step == 1:
            return self._runs(padded, channels, self.length, 1 / self.length)
        padded = self._slice(padded, self._start())
        whole, rest = divmod(self.length, self.step)
        blocks = self._pool(padded, self.step)
        windows = self._runs(blocks, channels, whole, self.step / self.length)
        if not rest:
            return windows
        ends = self._pool(self._slice(padded, ints(whole * self.step)), rest)
        ends = op.Mul(ends, self.number(rest / self.length))
        lengths = (op.Shape(t, start=self.dim, end=self.dim + 1) for t in (windows, ends))
        number = op.Min(*lengths)
        return op.Add(*(self._slice(t, ints(0), number) for t in (windows, ends)))

    def _runs(self, x: Value, channels: int, length: int, scale: float) -> Value:
        """Sum every `length` neighbours, times `scale`, by depthwise convolutions."""
        factors = _factors(length)
        if factors is None:
            part = next(n for n in range(length - 1, 0, -1) if _factors(n) is not None)
            begun = self._slice(x, ints(0), ints(part - length))
            ended = self._slice(x, ints(part))
            return op.Add(
                self._runs(begun, channels, part, scale),
                self._runs(ended, channels, length - part, scale),
            )
        dilation = length
        for factor in factors or (1,):
            # The widest steps come first: they leave the smallest map to the others.
            dilation //= factor
            kernel = self._along(factor)
            weight = constant(np.full((channels, 1, *kernel), scale, np.float32))
            x = op.Conv(
                x,
                weight,
                group=channels,
                dilations=self._along(dilation),
                kernel_shape=kernel,
            )
            scale = 1.0
        return x

    def slide(self, x: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """Combine every `length` neighbours by runs of doubling length (`ops.sliding.slide`)."""
        result, run, offset, length = None, 1, 0, self.length

        def part(start: int, missing: int) -> Value:
            return self._slice(x, ints(start), ints(-missing if missing else END))

        while True:
            if length & run:
                piece = part(offset, length - run - offset)
                result = piece if result is None else combine(result, piece)
                offset += run
            if 2 * run > length:
                return result
            x = combine(part(0, run), part(run, 0))
            run *= 2

    def every(self, slid: Value) -> Value:
        """Select every `step`-th window."""
        if self.step == 1:
            return slid
        return op.Slice(slid, self._start(), ints(END), ints(self.dim), ints(self.step))

    def padded(self, value: float) -> Value:
        """The map, whose axis is at least as long as a window."""
        if self.size is not None:
            return self.x
        missing = op.Max(op.Sub(ints(self.length), self._size()), ints(0))
        pads = op.Concat(ints(0), missing, axis=0)
        return op.Pad(self.x, pads, self.number(value), ints(self.dim))

    def corrected(self, means: Value) -> Value:
        """Means of an axis that may be shorter than a window, without what pads it."""
        if self.size is not None:
            return means
        inside = op.Min(self._size(), ints(self.length))
        factor = op.Div(self.number(self.length), op.Cast(inside, to=self.dtype))
        return op.Mul(means, op.Expand(op.Reshape(factor, ints(1, 1, 1, 1)), self.repeats()))

    def repeats(self) -> Value:
        """The shape of a factor with two places along the axis if one window covers it, else 1."""
        covered = op.LessOrEqual(self._size(), ints(self.length))
        places = op.Add(op.Cast(covered, to=ir.DataType.INT64), ints(1))
        return op.Where(constant(np.arange(4) == self.dim), places, ints(1, 1, 1, 1))

    def number(self, value: float) -> Value:
        """A number in the dtype of the map."""
        return constant(np.array(value, self.dtype.numpy()))

    def _start(self) -> Value:
        """The start of the first window of the grid, (1,)."""
        if self.size is None:
            return _first(self._size(), self.length, self.step)
        return ints((self.size - self.length) % self.step // 2)

    def _pool(self, x: Value, length: int) -> Value:
        """Means of the first `length` of every `step` pixels."""
        kernel, strides = self._along(length), self._along(self.step)
        return op.AveragePool(x, kernel_shape=kernel, strides=strides)

    def _slice(self, x: Value, start: Value, end: Value | None = None) -> Value:
        return op.Slice(x, start, ints(END) if end is None else end, ints(self.dim))

    def _size(self) -> Value:
        return op.Shape(self.x, start=self.dim, end=self.dim + 1)

    def _along(self, length: int) -> list[int]:
        return [length, 1] if self.dim == ROWS else [1, length]


@lru_cache
def _factors(length: int) -> tuple[int, ...] | None:
    """Split a length into factors of at most `TAPS` that cost least; None if there are none.

    >>> _factors(384), _factors(97)
    ((8, 8, 6), None)
    """
    if length <= 1:
        return ()
    found = []
    for factor in range(min(TAPS, length), 1, -1):
        rest = None if length % factor else _factors(length // factor)
        if rest is not None:
            found.append((factor, *rest))
    # A convolution costs its taps, and reading and writing the map.
    return min(found, key=lambda some: sum(some) + MAP_COST * len(some), default=None)


def _first(size: Value, length: int, step: int) -> Value:
    """The start of the first window of a grid, (1,)."""
    more = op.Max(op.Sub(size, ints(length)), ints(0))
    return op.Div(op.Mod(more, ints(step)), ints(2))


def constant(value: Any) -> Value:
    """A constant from an array."""
    return op.Constant(value=ir.tensor(value))


def ints(*values: int) -> Value:
    """A constant of int64, (n,)."""
    return constant(np.array(values, np.int64))


def _known(x: Value, dim: int) -> int | None:
    """The length of a dim if it is known before the graph runs, else None."""
    size = None if x.shape is None else x.shape[dim]
    return size if isinstance(size, int) else None
