"""Local operations by definition: visit every pixel, cut out its window, apply the operation.

The window of a pixel is the nearest one that is wholly inside the map. The result is the same as
sliding the window over the interior and replicating the outermost results, (k - 1) // 2 of them at
the top and left and the rest at the bottom and right.

A `window` is an int or (height, width) in pixels of the map; it is clipped to the map.
Everything is computed and returned in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Window = int | tuple[int, int]


def window_start(p: int, k: int, n: int) -> int:
    """First index of the k-wide window of pixel p on an axis of n pixels.

    >>> [window_start(p, 3, 6) for p in range(6)]
    [0, 0, 1, 2, 3, 3]
    >>> [window_start(p, 4, 6) for p in range(6)]
    [0, 0, 1, 2, 2, 2]
    """
    k = min(k, n)
    return min(max(p - (k - 1) // 2, 0), n - k)


def sliding(x: Tensor, window: Window, f: Callable[[Tensor], Tensor]) -> Tensor:
    """Map (b, c', h, w) of f over the window of each pixel; f: (b, c, kh, kw) -> (b, c')."""
    x = x.double()
    h, w = x.shape[2:]
    kh, kw = _clipped(window, h, w)
    rows = []
    for i in range(h):
        top = window_start(i, kh, h)
        row = []
        for j in range(w):
            left = window_start(j, kw, w)
            row.append(f(x[:, :, top : top + kh, left : left + kw]))
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)


def at_pixels(
    x: Tensor,
    window: Window,
    statistic: Callable[[Tensor], Tensor],
    meet: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Map whose pixel p is that of meet(x, statistic(window of p)), one run for each pixel."""
    h, w = x.shape[2:]
    kh, kw = _clipped(window, h, w)
    result = torch.empty(0)
    for i in range(h):
        top = window_start(i, kh, h)
        for j in range(w):
            left = window_start(j, kw, w)
            patch = x[:, :, top : top + kh, left : left + kw].contiguous()
            whole = meet(x, statistic(patch))
            if not result.numel():
                result = torch.empty_like(whole)
            result[..., i, j] = whole[..., i, j]
    return result


def local_mean(x: Tensor, window: Window) -> Tensor:
    """Mean over the window of each pixel."""
    return sliding(x, window, lambda patch: patch.mean((2, 3)))


def local_var(x: Tensor, window: Window, correction: int = 0) -> Tensor:
    """Variance over the window of each pixel: biased for correction 0, unbiased for 1.

    The unbiased variance of one pixel is NaN.
    """

    def var(patch: Tensor) -> Tensor:
        deviation = patch - patch.mean((2, 3), keepdim=True)
        return deviation.square().sum((2, 3)) / (patch.shape[2] * patch.shape[3] - correction)

    return sliding(x, window, var)


def local_std(x: Tensor, window: Window, correction: int = 0) -> Tensor:
    """Standard deviation over the window of each pixel."""
    return local_var(x, window, correction).sqrt()


def local_max(x: Tensor, window: Window) -> Tensor:
    """Maximum over the window of each pixel."""
    return sliding(x, window, lambda patch: patch.amax((2, 3)))


def local_min(x: Tensor, window: Window) -> Tensor:
    """Minimum over the window of each pixel."""
    return sliding(x, window, lambda patch: patch.amin((2, 3)))


def local_norm(x: Tensor, window: Window) -> Tensor:
    """Root of the sum of squares over the window of each pixel."""
    return sliding(x, window, lambda patch: patch.square().sum((2, 3)).sqrt())


def local_group_norm(
    x: Tensor,
    groups: int,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group norm with the mean and biased variance of each pixel's window over its channel group.

    weight, bias: (c,), or a shape that broadcasts with (c, h, w).
    """
    x = x.double()
    b, c, h, w = x.shape
    per_group = c // groups

    def moments(patch: Tensor) -> Tensor:
        flat = patch.reshape(b, groups, -1)
        mean = flat.mean(-1, keepdim=True)
        var = (flat - mean).square().mean(-1, keepdim=True)
        return torch.cat([mean, var], dim=-1).reshape(b, groups * 2)

    mean, var = sliding(x, window, moments).reshape(b, groups, 2, h, w).unbind(2)
    mean = mean.repeat_interleave(per_group, dim=1)
    var = var.repeat_interleave(per_group, dim=1)
    return _affine((x - mean) / torch.sqrt(var + eps), weight, bias)


def local_instance_norm(
    x: Tensor,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Instance norm with the mean and biased variance of each pixel's window in its channel."""
    return local_group_norm(x, x.shape[1], window, weight, bias, eps)


def local_layer_norm(
    x: Tensor,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer norm with the mean and biased variance of each pixel's window over all channels."""
    return local_group_norm(x, 1, window, weight, bias, eps)


def attention_starts(size: int, k: int) -> list[int]:
    """First indices of the overlapping k-wide attention windows on an axis of `size` pixels.

    >>> attention_starts(9, 4)
    [0, 3, 5]
    """
    if size <= k:
        return [0]
    count = math.ceil(size / k)
    step = math.ceil((size - k) / (count - 1))
    starts = []
    start = 0
    while start + k < size:
        starts.append(start)
        start += step
    return [*starts, size - k]


def local_channel_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Window
) -> Tensor:
    """Channel × channel attention in each overlapping window; overlaps are averaged.

    q, k, v: (b, heads, c, h, w); temperature: (heads, 1, 1). q and k are scaled to unit length
    over the pixels of the window (lengths below 1e-12 count as 1e-12).
    """
    q, k, v, temperature = (t.double() for t in (q, k, v, temperature))
    h, w = q.shape[3:]
    kh, kw = _clipped(window, h, w)
    total = torch.zeros_like(q)
    count = torch.zeros(h, w, dtype=torch.float64)
    for top in attention_starts(h, kh):
        for left in attention_starts(w, kw):
            here = (..., slice(top, top + kh), slice(left, left + kw))
            wq, wk, wv = (t[here].flatten(3) for t in (q, k, v))
            wq = wq / wq.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)
            wk = wk / wk.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)
            attention = (wq @ wk.transpose(-2, -1) * temperature).softmax(-1)
            total[here] += (attention @ wv).unflatten(-1, (kh, kw))
            count[here] += 1
    return total / count


# The same by prefix sums, so that a network runs in a second. Tests compare them with the loops.


def mean_by_sums(x: Tensor, window: Window) -> Tensor:
    """`local_mean` by prefix sums."""
    x = x.double()
    h, w = x.shape[2:]
    kh, kw = _clipped(window, h, w)
    sums = x.new_zeros(*x.shape[:2], h + 1, w + 1)
    sums[:, :, 1:, 1:] = x.cumsum(2).cumsum(3)
    top = torch.tensor([window_start(i, kh, h) for i in range(h)])
    left = torch.tensor([window_start(j, kw, w) for j in range(w)])
    bands = sums[:, :, top + kh] - sums[:, :, top]
    return (bands[..., left + kw] - bands[..., left]) / (kh * kw)


def var_by_sums(x: Tensor, window: Window) -> Tensor:
    """Biased `local_var` by prefix sums of values that are centred on the mean of the map."""
    x = x.double()
    x = x - x.mean((2, 3), keepdim=True)
    return (mean_by_sums(x.square(), window) - mean_by_sums(x, window).square()).clamp_min(0)


def instance_norm_by_sums(
    x: Tensor,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`local_instance_norm` by prefix sums."""
    x = x.double()
    x = (x - mean_by_sums(x, window)) / torch.sqrt(var_by_sums(x, window) + eps)
    return _affine(x, weight, bias)


def _clipped(window: Window, h: int, w: int) -> tuple[int, int]:
    kh, kw = (window, window) if isinstance(window, int) else window
    if kh < 1 or kw < 1:
        raise ValueError(f"a window has at least one pixel, got {kh}×{kw}")
    return min(kh, h), min(kw, w)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = x * (weight.double()[:, None, None] if weight.ndim == 1 else weight.double())
    if bias is not None:
        x = x + (bias.double()[:, None, None] if bias.ndim == 1 else bias.double())
    return x
