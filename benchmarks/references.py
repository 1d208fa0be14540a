"""Naive float32 forms for speed comparisons, and float64 references for errors.

The naive window sums are differences of two cumulative sums, as in most code.
"""

import torch
import torch.nn.functional as F
from case import Size
from torch import Tensor

from glocal.ops import fold_windows, unfold_windows


def mean(x: Tensor, window: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Mean over the window of each pixel from a summed-area table, borders replicated."""
    h, w = x.shape[-2:]
    kh, kw = min(window[0], h), min(window[1], w)
    sums = F.pad(x.to(dtype).cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    valid = sums[..., kh:, kw:] - sums[..., :-kh, kw:] - sums[..., kh:, :-kw]
    valid = (valid + sums[..., :-kh, :-kw]) / (kh * kw)
    top, left = (kh - 1) // 2, (kw - 1) // 2
    return F.pad(valid, (left, kw - 1 - left, top, kh - 1 - top), mode="replicate")


def moments(x: Tensor, window: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Mean and variance, as E[x²] − E[x]²."""
    wide = x.to(dtype)
    first = mean(wide, window, dtype)
    return first, mean(wide.square(), window, dtype) - first.square()


def instance_norm(x: Tensor, window: Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalise each pixel by the mean and variance of its window."""
    first, variance = moments(x, window, dtype)
    return (x - first) * (variance + 1e-5).rsqrt()


def true_mean(x: Tensor, window: Size) -> Tensor:
    """Reference mean in float64, after subtracting the mean of the whole map."""
    centre = x.double().mean((-2, -1), keepdim=True)
    return mean(x.double() - centre, window, torch.float64) + centre


def true_variance(x: Tensor, window: Size) -> Tensor:
    """As `true_mean`."""
    centred = x.double() - x.double().mean((-2, -1), keepdim=True)
    return moments(centred, window, torch.float64)[1].clamp_min(0)


def true_instance_norm(x: Tensor, window: Size) -> Tensor:
    """As `true_mean`."""
    return (x.double() - true_mean(x, window)) * (true_variance(x, window) + 1e-5).rsqrt()


def attention(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Transposed attention over the whole map, (b, heads, c, h, w)."""
    flat = [t.flatten(3) for t in (q, k, v)]
    a, b = (F.normalize(t, dim=-1) for t in flat[:2])
    return ((a @ b.transpose(-2, -1) * temperature).softmax(-1) @ flat[2]).view_as(v)


def attention_by_windows(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Size
) -> Tensor:
    """Transposed attention on overlapping windows, cut out, stacked and averaged back."""
    parts = (unfold_windows(t.flatten(1, 2), window).unflatten(1, q.shape[1:3]) for t in (q, k, v))
    return fold_windows(attention(*parts, temperature).flatten(1, 2), q.shape[-2:]).view_as(v)
