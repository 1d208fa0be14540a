"""Sums and other reductions over windows by runs of doubling length; adjoints.

Nothing is subtracted and no window's result contains a term from outside it, so the rounding error
grows with log(window) and not with the size of the image.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.ops.kernels import native
from glocal.ops.kernels.plain import is_plain
from glocal.ops.windows import AxisWindows, Size

__all__ = [
    "over_windows",
    "replicate_borders",
    "replicate_borders_adjoint",
    "slide",
    "sum_windows",
    "sum_windows_adjoint",
]

STRIP_VALUES = 1 << 20
"""Values of a strip that is summed at a time: a few temporaries of that size fit the cache."""
ROW_VALUES = 1 << 15
"""Values from which on torch's operations use several threads."""
BLOCK = 16
"""Rows whose sums `_slide_by_rows` reuses: they fit the cache."""

Combine = Callable[[Tensor, Tensor], Tensor]


def slide(x: Tensor, length: int, dim: int, combine: Combine) -> Tensor:
    """Combine every `length` neighbours along `dim`: n becomes n - length + 1.

    `combine` is associative. Runs of 1, 2, 4, ... neighbours are made from two runs of half the
    length; the runs that the binary digits of `length` select, end to end, make a window.
    """
    valid = x.shape[dim] - length + 1
    result, run, offset = None, 1, 0
    while True:
        if length & run:
            piece = x.narrow(dim, offset, valid)
            result = piece if result is None else combine(result, piece)
            offset += run
        if 2 * run > length:
            assert result is not None
            return result
        n = x.shape[dim] - run
        x = combine(x.narrow(dim, 0, n), x.narrow(dim, run, n))
        run *= 2


def over_windows(x: Tensor, window: Size, combine: Combine) -> Tensor:
    """Combine the pixels of each window inside: (..., h - kh + 1, w - kw + 1)."""
    return slide(slide(x, window[0], -2, combine), window[1], -1, combine)


def sum_windows(
    x: Tensor,
    window: Size,
    axes: tuple[AxisWindows, AxisWindows] | None = None,
    scale: float = 1,
) -> Tensor:
    """Sum over windows inside the map, times `scale`; in C++ where it is built.

    Args:
        x: (..., h, w).
        window: (height, width) in pixels, at most that of the map.
        axes: select the windows; all of them when None.
        scale: of the sums.

    Returns:
        (..., windows down, windows along).
    """
    if axes is not None and any(axis.step > 1 for axis in axes):
        return _sum_on_grid(x, window, axes, scale)
    return _sum_every(x, window, scale)


def _sum_every(x: Tensor, window: Size, scale: float) -> Tensor:
    """Sum over every window inside the map."""
    if native.available(x, window):
        return native.window_sums(x, window, scale)

    def along(x: Tensor) -> Tensor:
        return slide(x, window[1], -1, torch.add) * scale

    down = partial(slide, length=window[0], dim=-2, combine=torch.add)
    x = _slide_by_rows(x, window[0]) if _pays_by_rows(x, window[0]) else _by_strips(down, x, -1)
    return _by_strips(along, x, -2)


def _sum_on_grid(
    x: Tensor, window: Size, axes: tuple[AxisWindows, AxisWindows], scale: float
) -> Tensor:
    """Sum over windows on a grid, summing each block between their edges once."""
    steps = (axes[0].step, axes[1].step)
    # The pixel at which the first window begins, and the number of blocks in all windows together.
    first, count = zip(
        *(
            (max(0, a.before - (k - 1) // 2), a.count + k // a.step - 1)
            for a, k in zip(axes, window, strict=True)
        ),
        strict=True,
    )
    whole = all(k % step == 0 for k, step in zip(window, steps, strict=True))
    if whole and native.available(x, window):
        blocks = native.block_sums(x, first, steps, count)
        inside = (window[0] // steps[0], window[1] // steps[1])
        return _sum_every(blocks, inside, scale)
    for dim, length, axis, begin in zip((-2, -1), window, axes, first, strict=True):
        x = _stride(x.narrow(dim, begin, x.shape[dim] - begin), length, dim, axis)
    return x * scale


def _by_strips(f: Callable[[Tensor], Tensor], x: Tensor, dim: int) -> Tensor:
    """Compute f(x) in strips that fit the cache, along a dim that f keeps."""
    strip = max(1, STRIP_VALUES * x.shape[dim] // max(1, x.numel()))
    if not is_plain(x) or strip >= x.shape[dim]:
        return f(x)
    out = None
    for first in range(0, x.shape[dim], strip):
        length = min(strip, x.shape[dim] - first)
        part = f(x.narrow(dim, first, length))
        if out is None:
            shape = list(part.shape)
            shape[dim] = x.shape[dim]
            out = part.new_empty(shape)
            if x.is_contiguous(memory_format=torch.channels_last):
                out = out.contiguous(memory_format=torch.channels_last)
        out.narrow(dim, first, length).copy_(part)
    assert out is not None
    return out


def _pays_by_rows(x: Tensor, length: int) -> bool:
    row = x.numel() // x.shape[-2]
    return is_plain(x) and row >= ROW_VALUES and length >= 4 * BLOCK


def _slide_by_rows(x: Tensor, length: int) -> Tensor:
    """Sum every `length` rows, reading each row three times and a few rows at a time.

    A window is the end of one block of rows, whole blocks, and the beginning of another block. The
    ends grow upwards and the beginnings downwards, by one row at a time, while the rows of the
    block are in the cache. Nothing is subtracted here either.
    """
    whole, rest = divmod(length, BLOCK)
    valid = x.shape[-2] - length + 1
    blocks = -(-valid // BLOCK)
    totals = torch.empty_like(x.narrow(-2, 0, blocks + whole - 2))
    for total, block in zip(totals.unbind(-2), x.split(BLOCK, -2)[1:], strict=False):
        torch.sum(block, -2, out=total)
    middle = slide(totals, whole - 1, -2, torch.add)
    out = torch.empty_like(x.narrow(-2, 0, valid))
    rows, sums = x.unbind(-2), out.unbind(-2)
    for number, begun in enumerate(middle.unbind(-2)):
        first = number * BLOCK
        last = min(first + BLOCK, valid) - 1
        sums[last].copy_(torch.sum(x.narrow(-2, last, first + BLOCK - last), -2))
        for i in range(last - 1, first - 1, -1):
            torch.add(sums[i + 1], rows[i], out=sums[i])
        begun.add_(x.narrow(-2, first + whole * BLOCK, rest).sum(-2))
        sums[first].add_(begun)
        for i in range(first + 1, last + 1):
            sums[i].add_(begun.add_(rows[i + length - 1]))
    return out


def _stride(x: Tensor, length: int, dim: int, axis: AxisWindows) -> Tensor:
    """Sum `length` neighbours along `dim`, beginning at every `axis.step`-th pixel."""
    whole, rest = divmod(length, axis.step)
    blocks = x.narrow(dim, 0, (axis.count + whole - 1) * axis.step)
    blocks = blocks.unflatten(dim, (-1, axis.step)).sum(dim)  # dims count from the end
    sums = slide(blocks, whole, dim, torch.add)
    if rest:
        ends = x.narrow(dim, whole * axis.step, (axis.count - 1) * axis.step + rest)
        sums = sums + ends.unfold(dim, rest, axis.step).sum(-1)
    return sums


def replicate_borders(values: Tensor, size: Size) -> Tensor:
    """Give each pixel the value of its window, the nearest one inside the map.

    Args:
        values: (..., windows down, windows along) of all windows inside the map.
        size: (height, width) of the map.

    Returns:
        (..., h, w), with size 1 on an axis that one window covers.
    """
    padding = [0, 0, 0, 0]
    for axis, at in ((-1, 0), (-2, 2)):
        missing = size[axis] - values.shape[axis]
        if values.shape[axis] > 1:
            padding[at : at + 2] = missing // 2, missing - missing // 2
    return F.pad(values, padding, mode="replicate") if any(padding) else values


def replicate_borders_adjoint(x: Tensor, window: Size) -> Tensor:
    """Add the pixels of each window, (..., h, w) to (..., h - kh + 1, w - kw + 1).

    The adjoint of `replicate_borders`, expanded to the whole map.
    """
    for dim, length in ((-2, window[0]), (-1, window[1])):
        missing = length - 1
        before, valid = missing // 2, x.shape[dim] - missing
        inner = x.narrow(dim, before, valid).clone()
        inner.narrow(dim, 0, 1).add_(x.narrow(dim, 0, before).sum(dim, keepdim=True))
        after = x.narrow(dim, before + valid, missing - before)
        inner.narrow(dim, valid - 1, 1).add_(after.sum(dim, keepdim=True))
        x = inner
    return x


def sum_windows_adjoint(values: Tensor, window: Size) -> Tensor:
    """Sum the windows that contain each pixel to (..., h, w).

    The adjoint of `sum_windows`.
    """
    down, across = window[0] - 1, window[1] - 1
    if native.available(values, window):
        return sum_windows(F.pad(values, (across, across, down, down)), window)
    # One axis after the other, which pads less.
    values = slide(F.pad(values, (0, 0, down, down)), window[0], -2, torch.add)
    return slide(F.pad(values, (across, across)), window[1], -1, torch.add)
