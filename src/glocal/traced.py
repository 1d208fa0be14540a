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

from glocal.windows import Size

__all__ = [
    "is_compiling",
    "is_tracing",
    "over_windows",
    "pixels",
    "smaller",
    "tile",
    "untile",
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
    rows, down = _places(q, -2, window[0])
    columns, across = _places(q, -1, window[1])
    place = (rows[:, None, :, None], columns[None, :, None, :])
    present = down[:, None, :, None] * across[None, :, None, :]

    def cut(t: Tensor) -> Tensor:
        """(b, heads, c, h, w) to (b, heads, windows down, along, c, pixels)."""
        windows = t[..., place[0], place[1]] * present.to(t.dtype)
        flat: Tensor = windows.permute(0, 1, 3, 4, 2, 5, 6).flatten(-2)
        return flat

    accumulator = torch.promote_types(q.dtype, torch.float32)
    a, b = (F.normalize(cut(t.to(accumulator)), dim=-1, eps=eps) for t in (q, k))
    attention = (a @ b.transpose(-2, -1) * temperature[:, None, None]).softmax(-1)
    out = (attention.to(v.dtype) @ cut(v)).unflatten(-1, window)
    total = torch.zeros_like(v.permute(3, 4, 0, 1, 2))
    total = total.index_put(place, out.permute(2, 3, 5, 6, 0, 1, 4), accumulate=True)
    count = torch.zeros_like(v[0, 0, 0]).index_put(place, present.to(v.dtype), accumulate=True)
    return total.permute(2, 3, 4, 0, 1) / count


def smaller(size: Any, bound: int) -> Any:
    """The smaller of a size that a tracer follows, in whatever way it does, and a number."""
    return size.clamp_max(bound) if isinstance(size, Tensor) else torch.sym_min(size, bound)


def tile(x: Tensor, window: Size) -> Tensor:
    """`ops.tile`, with one row and one column of windows too many: see `_starts`."""
    rows, columns = _inside(x, -2, window[0]), _inside(x, -1, window[1])
    windows: Tensor = x[..., rows[:, None, :, None], columns[None, :, None, :]]
    return windows.movedim((-4, -3), (0, 1)).flatten(0, 2)


def untile(tiles: Tensor, size: Size, window: Size) -> Tensor:
    """`ops.untile` of what `tile` cut with this window."""
    like = tiles.new_empty(size)
    rows, columns = _inside(like, -2, window[0]), _inside(like, -1, window[1])
    present = (_present(like, -2, window[0])[:, None] & _present(like, -1, window[1])).to(tiles)
    windows = tiles.unflatten(0, (rows.shape[0], columns.shape[0], -1)).movedim((0, 1), (-4, -3))
    windows = windows * present[:, :, None, None]
    place = (rows[:, None, :, None], columns[None, :, None, :])
    total = windows.new_zeros((*size, *windows.shape[:-4]))
    total = total.index_put(place, windows.movedim((-4, -3, -2, -1), (0, 1, 2, 3)), accumulate=True)
    weights = present[:, :, None, None].expand(*present.shape, rows.shape[1], columns.shape[1])
    count = windows.new_zeros(size).index_put(place, weights, accumulate=True)
    averaged: Tensor = total.movedim((0, 1), (-2, -1)) / count
    return averaged


def _inside(x: Tensor, dim: int, window: int) -> Tensor:
    """Where the pixels of each window of `tile` lie: (windows, pixels)."""
    start = _starts(x, dim, window)
    return start[:, None] + torch.arange(smaller(x.shape[dim], window), device=x.device)


def _starts(x: Tensor, dim: int, window: int) -> Tensor:
    """Starts of `windows.starts` and one more, so that their number is never the 1 that tracers
    treat apart."""
    size, inside = _length(x, dim, window)
    gaps = torch.div(size - 1, inside, rounding_mode="floor").clamp_min(1)
    step = torch.div(size - inside + gaps - 1, gaps, rounding_mode="floor")
    number = torch.arange((x.shape[dim] + window - 1) // window + 1, device=x.device)
    return torch.minimum(number * step, size - inside)


def _present(x: Tensor, dim: int, window: int) -> Tensor:
    """Which of the windows of `_starts` are not one too many."""
    size, inside = _length(x, dim, window)
    number = torch.arange((x.shape[dim] + window - 1) // window + 1, device=x.device)
    return number * inside < size


def _length(x: Tensor, dim: int, window: int) -> tuple[Tensor, Tensor]:
    """The size of an axis and of a window inside it, as scalar tensors, which tracers follow."""
    size = torch.arange(1, x.shape[dim] + 1, device=x.device)[-1]
    return size, size.clamp_max(window)


def _places(x: Tensor, dim: int, window: int) -> tuple[Tensor, Tensor]:
    """Where the pixels of each window of `windows.starts` lie, and which of them are there.

    Both are (windows, window): there is always one window too many, so that their number is
    never the 1 that tracers treat apart, and windows may reach over the border.
    """
    size, inside = _length(x, dim, window)
    gaps = torch.div(size - 1, inside, rounding_mode="floor").clamp_min(1)
    step = torch.div(size - inside + gaps - 1, gaps, rounding_mode="floor")
    number = torch.arange((x.shape[dim] + window - 1) // window + 1, device=x.device)
    start = torch.minimum(number * step, size - inside)
    place = start[:, None] + torch.arange(window, device=x.device)
    present = (place < size) & (number * inside < size)[:, None]
    return torch.minimum(place, size - 1), present
