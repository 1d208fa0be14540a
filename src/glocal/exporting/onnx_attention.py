"""Local transposed attention in ONNX (`ops.local_channel_attention`).

A graph for images of any size cannot hold one slice per window, so the pixels of all windows are
gathered by one index. A pixel of the result is the mean of that pixel in its windows, gathered
again: nothing is scattered. Channels are last, so that a pixel is copied as a whole.
"""

from collections.abc import Sequence

import numpy as np
from onnxscript import ir

from glocal.exporting.onnx_windows import Value, constant, ints, op

__all__ = ["channel_attention"]


def channel_attention(
    q: Value, k: Value, v: Value, temperature: Value, window: Sequence[int], eps: float
) -> Value:
    """See `operators.channel_attention`."""
    dtype = v.dtype
    wide = dtype if dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    rows, columns = (_Places(q, dim, length) for dim, length in zip((3, 4), window, strict=True))
    a, b, values = (_windows(t, rows, columns) for t in (q, k, v))
    a, b = (op.Cast(t, to=wide) for t in (a, b))
    least = constant(np.array(eps**2, wide.numpy()))
    # A product with ones: engines are slow to reduce a dim that is not the last.
    ones = op.Expand(
        constant(np.ones((1, 1), wide.numpy())),
        op.Concat(ints(1), op.Mul(rows.inside, columns.inside), axis=0),
    )
    norms_a, norms_b = (op.Sqrt(op.Max(op.MatMul(ones, op.Mul(t, t)), least)) for t in (a, b))
    products = op.MatMul(op.Transpose(a, perm=[0, 1, 2, 4, 3]), b)
    cosines = op.Div(op.Div(products, op.Transpose(norms_a, perm=[0, 1, 2, 4, 3])), norms_b)
    scale = op.Reshape(op.Cast(temperature, to=wide), ints(1, -1, 1, 1, 1))
    attention = op.Softmax(op.Mul(cosines, scale), axis=-1)
    turned = op.Transpose(op.Cast(attention, to=dtype), perm=[0, 1, 2, 4, 3])
    channels = op.Shape(v, start=2, end=3)
    mixed = op.MatMul(values, turned)
    mixed = op.Reshape(mixed, op.Concat(ints(0, 0, -1), channels, axis=0))
    corners = [
        op.Gather(mixed, _pixel_in_window(rows, columns, *ends), axis=2)
        for ends in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    quarter = constant(np.array(0.25, dtype.numpy()))
    mean = op.Mul(op.Add(op.Add(*corners[:2]), op.Add(*corners[2:])), quarter)
    return op.Reshape(op.Transpose(mean, perm=[0, 1, 3, 2]), op.Shape(v))


def _windows(x: Value, rows: "_Places", columns: "_Places") -> Value:
    """(b, heads, c, h, w) to (b, heads, windows, pixels, c)."""
    flat = op.Reshape(x, ints(0, 0, 0, -1))
    of_rows = op.Unsqueeze(op.Mul(rows.pixels, columns.size), ints(2, 3))
    within = op.Add(of_rows, columns.pixels)
    within = op.Transpose(within, perm=[0, 2, 1, 3])  # windows down, along, pixels down, along
    number = op.Mul(rows.number, columns.number)
    within = op.Reshape(within, op.Concat(number, ints(-1), axis=0))
    return op.Gather(op.Transpose(flat, perm=[0, 1, 3, 2]), within, axis=2)


def _pixel_in_window(rows: "_Places", columns: "_Places", down: int, along: int) -> Value:
    """Index of each pixel of the map, (h · w,), among the pixels of all windows.

    Args:
        rows, columns: the windows.
        down, along: 0 for the first window of the pixel along the axis, 1 for the last.
    """
    inside = op.Mul(rows.inside, columns.inside)
    of_rows = op.Add(
        op.Mul(rows.window[down], op.Mul(columns.number, inside)),
        op.Mul(rows.place[down], columns.inside),
    )
    of_columns = op.Add(op.Mul(columns.window[along], inside), columns.place[along])
    return op.Reshape(op.Add(op.Unsqueeze(of_rows, ints(1)), of_columns), ints(-1))


class _Places:
    """The windows along an axis, as in `ops.windows.starts`.

    Attributes:
        size: of the axis, (1,).
        number: of windows, (1,).
        inside: pixels of a window, (1,).
        pixels: (windows, inside), the pixels of each window.
        window: the first and the last window that each pixel is in, 2 × (size,). There are none in
            between, up to 32768 pixels along an axis.
        place: the pixel's place in these windows, 2 × (size,).
    """

    def __init__(self, x: Value, dim: int, length: int) -> None:
        """Compute where the windows of an axis of a map are.

        Args:
            x: the map.
            dim: the axis.
            length: of a window; may be larger than the axis.
        """
        one = ints(1)
        self.size = op.Shape(x, start=dim, end=dim + 1)
        self.inside = op.Min(self.size, ints(length))
        last = op.Sub(self.size, self.inside)
        gaps = op.Max(_ceil(last, ints(length)), one)
        step = op.Max(_ceil(last, gaps), one)
        self.number = op.Add(_ceil(last, step), one)
        begins = op.Min(op.Mul(_range(self.number), step), last)
        self.pixels = op.Add(op.Unsqueeze(begins, one), _range(self.inside))
        pixel = _range(self.size)
        begun, ended = (
            op.ReduceSum(
                op.Cast(op.LessOrEqual(edges, op.Unsqueeze(pixel, one)), to=ir.DataType.INT64),
                one,
                keepdims=0,
            )
            for edges in (begins, op.Add(begins, self.inside))
        )
        self.window = ended, op.Sub(begun, one)
        self.place = tuple(op.Sub(pixel, op.Gather(begins, window)) for window in self.window)


def _ceil(number: Value, divisor: Value) -> Value:
    return op.Div(op.Sub(op.Add(number, divisor), ints(1)), divisor)


def _range(number: Value) -> Value:
    """0, 1, … of a number (1,)."""
    return op.Range(_scalar(0), op.Squeeze(number, ints(0)), _scalar(1))


def _scalar(value: int) -> Value:
    return constant(np.array(value, np.int64))
