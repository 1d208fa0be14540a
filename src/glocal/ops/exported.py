"""Forms of the local operations without a branch on the size of the map.

An exporter (`torch.export`, the ONNX exporter, `torch.jit.trace`) keeps the one branch that it
sees. Here sizes are only computed with, so that the recorded program serves maps below, at and
above the window alike. These forms are also the decompositions of the operators in
`glocal.ops.operators`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops.moments import moments_by_means, scale_and_shift
from glocal.ops.numerics import sum_dtype
from glocal.ops.sliding import slide
from glocal.ops.windows import LEAST, Overlap, Size, stride

__all__ = [
    "blend_weights",
    "channel_attention",
    "fold_windows",
    "instance_norm",
    "pixels",
    "smaller",
    "unfold_windows",
    "window_maxima",
    "window_moments",
    "window_sums",
]


def pixels(x: Tensor, window: Sequence[int]) -> Tensor:
    """Number of pixels in a window of the map, clipped to it: a scalar tensor."""
    return _length(x, -2, window[0])[1] * _length(x, -1, window[1])[1]


def window_sums(x: Tensor, window: Sequence[int]) -> Tensor:
    """Sum over the window of each pixel, (..., h, w) to (..., h, w)."""
    return _over_windows(x, window, partial(slide, combine=torch.add), 0.0)


def window_maxima(x: Tensor, window: Sequence[int]) -> Tensor:
    """Maximum over the window of each pixel, (..., h, w) to (..., h, w)."""
    return _over_windows(x, window, partial(slide, combine=torch.maximum), -torch.inf)


def window_moments(x: Tensor, window: Sequence[int], groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over the window of each pixel and a group of channels.

    (b, c, h, w) to 2 × (b, groups, h, w), in `numerics.widest_dtype`.
    """

    def means(x: Tensor, channels: int) -> Tensor:
        return window_sums(x, window) / (pixels(x, window) * channels)

    return moments_by_means(x, groups, means)


def instance_norm(
    x: Tensor, window: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Instance norm of (b, c, h, w) by the statistics of each pixel's window."""
    mean, variance = window_moments(x, window, x.shape[1])
    return scale_and_shift((x - mean) * (variance + eps).rsqrt(), weight, bias).to(x.dtype)


def _over_windows(
    x: Tensor, window: Sequence[int], slide: Callable[[Tensor, int, int], Tensor], neutral: float
) -> Tensor:
    """Combine the window of each pixel, (..., h, w) to (..., h, w).

    Args:
        x: the map.
        window: (height, width); may be larger than the map.
        slide: (x, length, dim) to the combination of every `length` neighbours along `dim`.
        neutral: the value that changes no other that it is combined with.
    """
    for dim, length in ((-2, window[0]), (-1, window[1])):
        size, inside = _length(x, dim, length)
        place = torch.arange(x.shape[dim], device=x.device)
        start = torch.minimum((place - (inside - 1) // 2).clamp_min(0), size - inside)
        # Neutral values beyond the border make a window that is longer than the map hold the map.
        padding = (0, length - 1) if dim == -1 else (0, 0, 0, length - 1)
        x = slide(F.pad(x, padding, value=neutral), length, dim).index_select(dim, start)
    return x


def channel_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Size, eps: float
) -> Tensor:
    """`ops.local_channel_attention`, by cutting the overlapping windows out."""
    wide = sum_dtype(q)
    a, b = (
        F.normalize(unfold_windows(t.to(wide), window).flatten(-2), dim=-1, eps=eps) for t in (q, k)
    )
    attention = (a @ b.transpose(-2, -1) * temperature).softmax(-1)
    values = unfold_windows(v, window)
    out = attention.to(v.dtype) @ values.flatten(-2)
    out = out.reshape(*out.shape[:-1], *values.shape[-2:])
    return fold_windows(out, (v.shape[-2], v.shape[-1]), window)


def smaller(size: Any, bound: int) -> Any:
    """Return min(size, bound) of an int, a `SymInt` or a scalar tensor."""
    return size.clamp_max(bound) if isinstance(size, Tensor) else torch.sym_min(size, bound)


def unfold_windows(x: Tensor, window: Size, overlap: Overlap = LEAST) -> Tensor:
    """`ops.unfold_windows`, with a few more rows and columns: see `_starts`."""
    rows, columns = (
        _pixels_of_windows(x, d, k, overlap) for d, k in ((-2, window[0]), (-1, window[1]))
    )
    windows: Tensor = x[..., rows[:, None, :, None], columns[None, :, None, :]]
    return windows.movedim((-4, -3), (0, 1)).flatten(0, 2)


def fold_windows(
    tiles: Tensor, size: Size, window: Size | None = None, overlap: Overlap = LEAST
) -> Tensor:
    """`ops.fold_windows` of the result of `unfold_windows`; `window` is required.

    Raises:
        ArgumentError: there is no window.
    """
    if window is None:
        raise ArgumentError(
            "fold_windows got no window while a program is recorded, in which the size of the "
            "tiles is a symbol; pass the window that unfold_windows got"
        )
    dtype, tiles = tiles.dtype, tiles.to(sum_dtype(tiles))
    like = tiles.new_empty(size)
    rows, columns = (
        _pixels_of_windows(like, d, k, overlap) for d, k in ((-2, window[0]), (-1, window[1]))
    )
    counted = [_counted(like, d, k, overlap) for d, k in ((-2, window[0]), (-1, window[1]))]
    present = counted[0][:, None] & counted[1]
    windows = tiles.unflatten(0, (rows.shape[0], columns.shape[0], -1)).movedim((0, 1), (-4, -3))
    inside = (rows.shape[1], columns.shape[1])
    weights = present.to(tiles)[:, :, None, None].expand(*present.shape, *inside)
    blend = blend_weights(tiles, inside, overlap)
    weights = weights if blend is None else weights * blend
    place = (rows[:, None, :, None], columns[None, :, None, :])
    windows = (windows * weights).movedim((-4, -3, -2, -1), (0, 1, 2, 3))
    total = windows.new_zeros((*size, *windows.shape[4:]))
    total = total.index_put(place, windows, accumulate=True)
    count = windows.new_zeros(size).index_put(place, weights, accumulate=True)
    averaged: Tensor = total.movedim((0, 1), (-2, -1)) / count
    return averaged.to(dtype)


def blend_weights(like: Tensor, window: Size, overlap: Overlap) -> Tensor | None:
    """Return the weight of each pixel of a window, (h, w); None if all are equal.

    Args:
        like: a tensor of the device and dtype of the weights.
        window: (height, width) in pixels.
        overlap: says how overlapping windows are blended.
    """
    if overlap.blend == "mean":
        return None
    down, along = (torch.arange(1, n + 1, device=like.device, dtype=like.dtype) for n in window)
    return torch.minimum(down, down.flip(0))[:, None] * torch.minimum(along, along.flip(0))


def _pixels_of_windows(x: Tensor, dim: int, window: int, overlap: Overlap) -> Tensor:
    """Indices along an axis of the pixels of each window: (windows, pixels)."""
    start = _starts(x, dim, window, overlap)
    return start[:, None] + torch.arange(smaller(x.shape[dim], window), device=x.device)


def _starts(x: Tensor, dim: int, window: int, overlap: Overlap) -> Tensor:
    """Starts of `windows.starts`, and at least one more.

    Their number is then never 1, a size that tracers handle apart.
    """
    size, inside = _length(x, dim, window)
    step = stride(window, overlap.share)
    gaps = torch.div(size - inside + step - 1, step, rounding_mode="floor").clamp_min(1)
    even = torch.div(size - inside + gaps - 1, gaps, rounding_mode="floor")
    return torch.minimum(_numbers(x, dim, step) * even, size - inside)


def _counted(x: Tensor, dim: int, window: int, overlap: Overlap) -> Tensor:
    """True for the windows of `_starts` that `windows.starts` has too."""
    size, inside = _length(x, dim, window)
    step = stride(window, overlap.share)
    return _numbers(x, dim, step) * step < size - inside + step


def _numbers(x: Tensor, dim: int, step: int) -> Tensor:
    return torch.arange((x.shape[dim] + step - 1) // step + 1, device=x.device)


def _length(x: Tensor, dim: int, window: int) -> tuple[Tensor, Tensor]:
    """Return the length of an axis and of a window clipped to it, as scalar tensors."""
    size = torch.arange(1, x.shape[dim] + 1, device=x.device)[-1]
    return size, size.clamp_max(window)
