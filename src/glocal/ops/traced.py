"""Forms of the local operations that never ask how large the map is.

A tracer (`torch.export`, the ONNX exporter, `torch.jit.trace`) keeps the one branch that it sees.
Here the sizes are only computed with, so that the program that comes out serves maps below, at
and above the window alike.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.ops.windows import LEAST, Overlap, Size, stride

__all__ = [
    "fold_windows",
    "is_compiling",
    "is_tracing",
    "over_windows",
    "pixels",
    "shares",
    "smaller",
    "unfold_windows",
    "window_attention",
]


def is_tracing() -> bool:
    """Whether sizes that are asked for now would be frozen into a program."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None


def is_compiling() -> bool:
    """Whether `torch.compile` looks, which takes a branch on sizes but compiles anew for each."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def pixels(x: Tensor, window: Size) -> Tensor:
    """How many pixels a window holds: a scalar tensor."""
    return _length(x, -2, window[0])[1] * _length(x, -1, window[1])[1]


def over_windows(
    x: Tensor,
    window: Size,
    slide: Callable[[Tensor, int, int], Tensor],
    nothing: float,
) -> Tensor:
    """Combine the window of each pixel: (..., h, w) to (..., h, w).

    Args:
        x: the map.
        window: (height, width); may be larger than the map.
        slide: (x, length, dim) to the combination of every `length` neighbours along `dim`.
        nothing: the value that combines with any other to that other.
    """
    for dim, length in ((-2, window[0]), (-1, window[1])):
        size, inside = _length(x, dim, length)
        place = torch.arange(x.shape[dim], device=x.device)
        start = torch.minimum((place - (inside - 1) // 2).clamp_min(0), size - inside)
        # Beyond the border lies nothing, so that a window longer than the map holds just the map.
        padding = (0, length - 1) if dim == -1 else (0, 0, 0, length - 1)
        x = slide(F.pad(x, padding, value=nothing), length, dim).index_select(dim, start)
    return x


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Size, eps: float
) -> Tensor:
    """Transposed attention by cutting out the overlapping windows; see `ops`."""
    accumulator = torch.promote_types(q.dtype, torch.float32)
    a, b = (
        F.normalize(unfold_windows(t.to(accumulator), window).flatten(-2), dim=-1, eps=eps)
        for t in (q, k)
    )
    attention = (a @ b.transpose(-2, -1) * temperature).softmax(-1)
    values = unfold_windows(v, window)
    out = attention.to(v.dtype) @ values.flatten(-2)
    out = out.reshape(*out.shape[:-1], *values.shape[-2:])
    return fold_windows(out, (v.shape[-2], v.shape[-1]), window)


def smaller(size: Any, bound: int) -> Any:
    """The smaller of a size that a tracer follows, in whatever way it does, and a number."""
    return size.clamp_max(bound) if isinstance(size, Tensor) else torch.sym_min(size, bound)


def unfold_windows(x: Tensor, window: Size, overlap: Overlap = LEAST) -> Tensor:
    """`ops.tile`, with some rows and columns of windows too many: see `_starts`."""
    rows, columns = (_inside(x, d, k, overlap) for d, k in ((-2, window[0]), (-1, window[1])))
    windows: Tensor = x[..., rows[:, None, :, None], columns[None, :, None, :]]
    return windows.movedim((-4, -3), (0, 1)).flatten(0, 2)


def fold_windows(tiles: Tensor, size: Size, window: Size, overlap: Overlap = LEAST) -> Tensor:
    """`ops.fold_windows` of what `unfold_windows` cut with this window."""
    like = tiles.new_empty(size)
    rows, columns = (_inside(like, d, k, overlap) for d, k in ((-2, window[0]), (-1, window[1])))
    present = _present(like, -2, window[0], overlap)[:, None] & _present(
        like, -1, window[1], overlap
    )
    windows = tiles.unflatten(0, (rows.shape[0], columns.shape[0], -1)).movedim((0, 1), (-4, -3))
    inside = (rows.shape[1], columns.shape[1])
    weights = present.to(tiles)[:, :, None, None].expand(*present.shape, *inside)
    share = shares(tiles, inside, overlap)
    weights = weights if share is None else weights * share
    place = (rows[:, None, :, None], columns[None, :, None, :])
    windows = (windows * weights).movedim((-4, -3, -2, -1), (0, 1, 2, 3))
    total = windows.new_zeros((*size, *windows.shape[4:]))
    total = total.index_put(place, windows, accumulate=True)
    count = windows.new_zeros(size).index_put(place, weights, accumulate=True)
    averaged: Tensor = total.movedim((0, 1), (-2, -1)) / count
    return averaged


def shares(like: Tensor, window: Size, overlap: Overlap) -> Tensor | None:
    """How much each pixel of a window counts where windows overlap, (h, w); None if all alike."""
    if overlap.blend == "mean":
        return None
    down, along = (torch.arange(1, n + 1, device=like.device, dtype=like.dtype) for n in window)
    return torch.minimum(down, down.flip(0))[:, None] * torch.minimum(along, along.flip(0))


def _inside(x: Tensor, dim: int, window: int, overlap: Overlap) -> Tensor:
    """Where the pixels of each window of `unfold_windows` lie: (windows, pixels)."""
    start = _starts(x, dim, window, overlap)
    return start[:, None] + torch.arange(smaller(x.shape[dim], window), device=x.device)


def _starts(x: Tensor, dim: int, window: int, overlap: Overlap) -> Tensor:
    """Starts of `windows.starts` and at least one more, so that their number is never the 1 that
    tracers treat apart."""
    size, inside = _length(x, dim, window)
    step = stride(window, overlap.share)
    gaps = torch.div(size - inside + step - 1, step, rounding_mode="floor").clamp_min(1)
    even = torch.div(size - inside + gaps - 1, gaps, rounding_mode="floor")
    return torch.minimum(_numbers(x, dim, step) * even, size - inside)


def _present(x: Tensor, dim: int, window: int, overlap: Overlap) -> Tensor:
    """Which of the windows of `_starts` are not too many."""
    size, inside = _length(x, dim, window)
    step = stride(window, overlap.share)
    return _numbers(x, dim, step) * step < size - inside + step


def _numbers(x: Tensor, dim: int, step: int) -> Tensor:
    return torch.arange((x.shape[dim] + step - 1) // step + 1, device=x.device)


def _length(x: Tensor, dim: int, window: int) -> tuple[Tensor, Tensor]:
    """The size of an axis and of a window inside it, as scalar tensors, which tracers follow."""
    size = torch.arange(1, x.shape[dim] + 1, device=x.device)[-1]
    return size, size.clamp_max(window)
