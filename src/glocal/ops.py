"""Local operations: each global operation of the field, over the window of every pixel.

Pure functions of tensors. A map is (b, c, h, w); `window` is (height, width) in pixels of
that map. The window of a pixel is the nearest one that lies wholly inside the map, so border
pixels share the result of the nearest interior window (TLC, arXiv 2112.04491, section 3).

A statistic comes back as a map that *broadcasts* against the input: (b, c, h, w), with size 1
on every axis that the window covers. Where it covers both, the result is the global one. Without
gradients it is a `WindowMap`, which is a full map only where somebody asks for one.

With precision "fast", sums, means and moments are those of windows on a coarse grid, exact there,
and interpolated between. A window moved by one pixel changes a mean by at most the range of the
map ÷ window, so that a fast mean lies within range · (sy / 2ky + sx / 2kx) of the exact one, for
windows (ky, kx) and grid steps (sy, sx) = window / 24, rounded down: at most 1/24 of the range,
and far less where the map is not made to reach it. Programs that are traced or compiled are exact.

Numerics: sums run over pairs of neighbours of doubling length, so that a window's sum never
holds a term from outside it, nothing is subtracted, and the rounding error grows with
log(window) and not with the image. Half precision accumulates in float32; second moments are
centred and accumulate in float64.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal import opaque, traced
from glocal.errors import ArgumentError
from glocal.kernels import native
from glocal.sliding import over_windows, slide, sum_windows
from glocal.window_map import lay_out
from glocal.windows import (
    LEAST,
    Axis,
    Overlap,
    Precision,
    Size,
    cells,
    covers,
    starts,
    window_axes,
)

__all__ = [
    "local_channel_attention",
    "local_group_norm",
    "local_instance_norm",
    "local_layer_norm",
    "local_max",
    "local_mean",
    "local_moments",
    "local_norm",
    "local_sum",
    "tile",
    "untile",
    "window_pixels",
]

NO_AXES = (Axis(1, 1), Axis(1, 1))
SLICE_PIXELS = 1 << 20  # pixels a slice may hold: a few temporaries of it fit in cache


def local_mean(x: Tensor, window: Size, precision: Precision = "exact") -> Tensor:
    """Mean over the window of each pixel.

    >>> local_mean(torch.arange(5.0).view(1, 1, 1, 5), (1, 3)).flatten().tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`.
        precision: "exact", or "fast" within the bound above.

    Returns:
        (b, c, h or 1, w or 1) in the dtype of `x`: 1 where the window covers the axis.
    """
    window = _clip(x, window)
    if _covers(window, x):
        return x.mean((-2, -1), keepdim=True)
    axes = _axes(x, window, precision)
    return _to_map(_window_means(x.to(_accumulator(x)), window, axes).to(x.dtype), axes)


def local_sum(x: Tensor, window: Size, precision: Precision = "exact") -> Tensor:
    """Sum over the window of each pixel; as `local_mean`."""
    window = _clip(x, window)
    if _covers(window, x):
        return x.sum((-2, -1), keepdim=True)
    axes = _axes(x, window, precision)
    total = _window_sums(x.to(_accumulator(x)), window, axes)
    return _to_map(total.to(x.dtype), axes)


def local_max(x: Tensor, window: Size) -> Tensor:
    """Maximum over the window of each pixel; shapes as in `local_mean`."""
    window = _clip(x, window)
    if _covers(window, x):
        return x.amax((-2, -1), keepdim=True)
    axes = _axes(x, window, "exact")
    return _to_map(_by_slices(lambda part: _window_maxima(part, window), x), axes)


def local_norm(x: Tensor, window: Size, precision: Precision = "exact") -> Tensor:
    """L2 norm (root of the sum of squares) over the window of each pixel.

    As `local_mean`. Source: GRN, ConvNeXt V2 (arXiv 2301.00808), equation 1.
    """
    window = _clip(x, window)
    if _covers(window, x):
        whole: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
        return whole
    axes = _axes(x, window, precision)
    total = _window_sums(x.to(_accumulator(x)).square(), window, axes)
    # The derivative of the root is infinite at 0; that of a norm is 0 there, by convention.
    root = total.clamp_min(torch.finfo(total.dtype).tiny).sqrt() * (total > 0)
    return _to_map(root.to(x.dtype), axes)


def local_moments(
    x: Tensor,
    window: Size,
    *,
    groups: int | None = None,
    correction: int = 0,
    precision: Precision = "exact",
) -> tuple[Tensor, Tensor]:
    """Mean and variance over the window of each pixel and over each group of channels.

    >>> mean, variance = local_moments(torch.tensor([[[[1.0, 3.0, 3.0, 5.0]]]]), (1, 2))
    >>> mean.flatten().tolist(), variance.flatten().tolist()
    ([2.0, 3.0, 4.0, 4.0], [1.0, 0.0, 1.0, 1.0])

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`.
        groups: how many groups the channels form; each channel alone when None.
        correction: what is taken from the count in the variance's divisor (1 is unbiased).
        precision: "exact", or "fast": each moment within the bound above, of its own range.

    Returns:
        mean and variance, (b, groups, h or 1, w or 1), in the accumulating dtype (float64
        where the device has it); the variance is never negative.
    """
    groups = x.shape[1] if groups is None else groups
    if x.shape[1] % groups:
        raise ArgumentError(f"{x.shape[1]} channels do not divide into {groups} groups")
    window = _clip(x, window)
    axes = _axes(x, window, precision)
    mean, variance = _moments(x, window, groups, correction, axes)
    return _to_map(mean, axes), _to_map(variance, axes)


def _moments(
    x: Tensor, window: Size, groups: int, correction: int, axes: tuple[Axis, Axis]
) -> tuple[Tensor, Tensor]:
    wide = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    wide = _grouped(wide, groups)
    # Any constant may be taken off before squaring; the mean of the whole map leaves least to
    # cancel, which is what keeps the variance exact for a large mean and a small spread.
    centre = wide.mean((2, 3, 4), keepdim=True)
    offset = wide - centre
    channels = x.shape[1] // groups
    first = _window_means(offset.sum(2), window, axes, channels)
    second = _window_means(offset.square().sum(2), window, axes, channels)
    variance = (second - first.square()).clamp_min(0)
    if correction:
        pixels = _pixels(x, window) * channels
        spare = pixels - correction
        # A tensor where a tracer looks. A number stays one: compilers would freeze its tensor.
        spare = spare.clamp_min(0) if isinstance(spare, Tensor) else max(spare, 0)
        variance = variance * pixels / spare
    return first + centre[:, :, 0], variance


def local_instance_norm(
    x: Tensor,
    window: Size,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Instance norm by the mean and variance of each pixel's own window.

    Args:
        x: (b, c, h, w).
        window: (height, width) in pixels of `x`.
        weight, bias: (c,) or None.
        eps: added to the variance.
        precision: of the statistics.

    Returns:
        (b, c, h, w) in the dtype of `x`. Source: TLC (arXiv 2112.04491), section 4.
    """
    if _covers(window, x):
        # The kernel of F.instance_norm, without its refusal of a map of one pixel.
        cudnn = torch.backends.cudnn.enabled
        return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, cudnn)
    return _normalise(x, window, x.shape[1], weight, bias, eps, precision)


def local_group_norm(
    x: Tensor,
    groups: int,
    window: Size,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Group norm by the statistics of each pixel's own window; as `local_instance_norm`."""
    if _covers(window, x):
        return F.group_norm(x, groups, weight, bias, eps)
    return _normalise(x, window, groups, weight, bias, eps, precision)


def local_layer_norm(
    x: Tensor,
    window: Size,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Layer norm over channels and the window of each pixel, affine by channel.

    As `local_group_norm` with one group.
    """
    return local_group_norm(x, 1, window, weight, bias, eps, precision)


def local_channel_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor | float, window: Size, eps: float = 1e-12
) -> Tensor:
    """Transposed (channel by channel) attention on overlapping windows, overlaps averaged.

    In each window, q and k are L2-normalised over its pixels, attention is
    softmax(q kᵀ · temperature) over the channels of k, and the output is attention · v.
    Source: Restormer (arXiv 2111.09881), equation 1, localised as in TLC, section 4.

    No window is ever cut out. The products q kᵀ and the squared norms are sums over pixels, so
    each is computed once per cell of the partition that the window edges induce and cells are
    added into windows; and an average of linear maps is linear, so it is the attention
    *matrices* of the windows over a cell that are averaged, and v is met once.

    Args:
        q, k: (b, heads, c, h, w).
        v: (b, heads, d, h, w) with d equal to c.
        temperature: a number or a tensor that broadcasts to (heads, 1, 1).
        window: (height, width) in pixels of the map.
        eps: least norm, as in `torch.nn.functional.normalize`.

    Returns:
        (b, heads, c, h, w) in the dtype of `v`.
    """
    temperature = torch.as_tensor(temperature, device=q.device).expand(q.shape[1], 1, 1)
    if traced.is_tracing():
        return traced.window_attention(q, k, v, temperature, window, eps)
    if traced.is_compiling():
        return opaque.window_attention(q, k, v, temperature, window, eps)
    with _no_autocast(q.device.type):
        return _attention_by_cells(q, k, v, temperature, window, eps)


def _attention_by_cells(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Size, eps: float
) -> Tensor:
    h, w = q.shape[-2:]
    rows, columns = cells(h, window[0]), cells(w, window[1])
    areas = [(slice(*r), slice(*s)) for r in rows for s in columns]
    accumulator = _accumulator(q)
    grams, norms_q, norms_k = [], [], []
    for area in areas:
        a, b = (_pixels_of(t, area).to(accumulator) for t in (q, k))
        grams.append(a.mT @ b)
        norms_q.append(torch.linalg.vector_norm(a, dim=-2).square())
        norms_k.append(torch.linalg.vector_norm(b, dim=-2).square())
    member = torch.kron(
        _membership(h, window[0], q.device, accumulator),
        _membership(w, window[1], q.device, accumulator),
    )

    def gather(per_cell: list[Tensor]) -> Tensor:
        """(windows, ...) from one of each cell."""
        windows: Tensor = torch.tensordot(member, torch.stack(per_cell), 1)
        return windows

    # Clamped before the root, whose derivative at 0 is infinite.
    scale_q = gather(norms_q).clamp_min(eps**2).sqrt().unsqueeze(-1)
    scale_k = gather(norms_k).clamp_min(eps**2).sqrt().unsqueeze(-2)
    logits = gather(grams) / scale_q / scale_k * temperature
    attention = logits.softmax(-1)
    share = member / member.sum(0)
    averaged = torch.tensordot(share.t(), attention, 1).to(v.dtype)
    last = v.stride(2) == 1
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    if last:  # and so is what is made of it
        batch, heads, c = v.shape[:3]
        out = v.new_empty((batch, h, w, heads, c)).permute(0, 3, 4, 1, 2)
    for matrix, area in zip(averaged, areas, strict=True):
        pixels, place = _pixels_of(v, area), out[..., area[0], area[1]]
        made = (pixels @ matrix.mT).mT if last else matrix @ pixels.mT
        place.copy_(made.unflatten(-1, place.shape[-2:]))
    return out


def _pixels_of(x: Tensor, area: tuple[slice, slice]) -> Tensor:
    """(..., pixels, c) of an area of a map (..., c, h, w); nothing is transposed in memory."""
    part = x[..., area[0], area[1]]
    if x.stride(-3) == 1:
        return part.movedim(-3, -1).flatten(-3, -2)
    return part.flatten(-2).mT


def window_pixels(x: Tensor, window: Size) -> Tensor | int:
    """How many pixels a window on the map (..., h, w) holds; a scalar tensor when tracing."""
    return _pixels(x, _clip(x, window))


def tile(x: Tensor, window: Size, overlap: Overlap = LEAST) -> Tensor:
    """Overlapping windows of a map (b, ..., h, w), stacked on the batch dim.

    Returns:
        (b · n, ..., min(h, window), min(w, window)), the n windows of `windows.starts` row by
        row, window-major: all images' first window comes first.
    """
    if traced.is_tracing() or traced.is_compiling():
        return traced.tile(x, window, overlap)
    kh, kw = _clip(x, window)
    places = _places((x.shape[-2], x.shape[-1]), (kh, kw), overlap)
    return torch.cat([x[..., i : i + kh, j : j + kw] for i, j in places])


def untile(
    tiles: Tensor, size: Size, window: Size | None = None, overlap: Overlap = LEAST
) -> Tensor:
    """The map of which `tile` made these windows; where they overlap, they are blended.

    Args:
        tiles: (b · n, ..., kh, kw), as `tile` stacks them.
        size: (height, width) of the map.
        window: that `tile` was given; asked for where a tracer looks, to which sizes are unknown.
        overlap: that `tile` was given.

    Returns:
        (b, ..., height, width) in the dtype of `tiles`; sums accumulate in float32 at least.
    """
    if traced.is_tracing() or traced.is_compiling():
        if window is None:
            raise ArgumentError("untile needs the window that the tiles were cut with")
        wide = tiles.to(_accumulator(tiles))
        return traced.untile(wide, size, window, overlap).to(tiles.dtype)
    h, w = size
    kh, kw = tiles.shape[-2:]
    places = _places(size, (kh, kw), overlap)
    if tiles.shape[0] % len(places):
        raise ArgumentError(
            f"{tiles.shape[0]} tiles of {kh}x{kw} do not fill maps of {h}x{w}: "
            f"each map takes {len(places)}"
        )
    batch = tiles.shape[0] // len(places)
    total = tiles.new_zeros((batch, *tiles.shape[1:-2], h, w), dtype=_accumulator(tiles))
    weights = total.new_zeros((h, w))
    weight = traced.shares(total, (kh, kw), overlap)
    for (i, j), piece in zip(places, tiles.split(batch), strict=True):
        total[..., i : i + kh, j : j + kw] += piece if weight is None else piece * weight
        weights[i : i + kh, j : j + kw] += 1 if weight is None else weight
    return (total / weights).to(tiles.dtype)


def _places(size: Size, window: Size, overlap: Overlap) -> list[Size]:
    """(top, left) of the windows of `tile`, row by row."""
    rows, columns = (starts(n, k, overlap.share) for n, k in zip(size, window, strict=True))
    return [(i, j) for i in rows for j in columns]


def _covers(window: Size, x: Tensor) -> bool:
    if traced.is_tracing():
        return False
    if traced.is_compiling():
        return opaque.surely_covers(window, x)
    return covers(window, (x.shape[-2], x.shape[-1]))


def _clip(x: Tensor, window: Size) -> Size:
    if traced.is_tracing():
        return window
    return (min(window[0], x.shape[-2]), min(window[1], x.shape[-1]))


def _pixels(x: Tensor, window: Size) -> Tensor | int:
    return traced.pixels(x, window) if traced.is_tracing() else window[0] * window[1]


def _no_autocast(device: str) -> AbstractContextManager[Any]:
    """Autocast would narrow the sums that are to be wide."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _window_sums(x: Tensor, window: Size, axes: tuple[Axis, Axis]) -> Tensor:
    if traced.is_tracing():
        return traced.over_windows(x, window, partial(slide, combine=torch.add), 0.0)
    if traced.is_compiling():
        sums: Tensor = opaque.window_sums(x, window)
        return sums
    return sum_windows(x, window, axes)


def _window_means(x: Tensor, window: Size, axes: tuple[Axis, Axis], channels: int = 1) -> Tensor:
    """Window sums ÷ pixels of a window ÷ channels that were summed before."""
    pixels = _pixels(x, window) * channels
    if isinstance(pixels, int) and not traced.is_compiling():
        return sum_windows(x, window, axes, 1 / pixels)
    return _window_sums(x, window, axes) / pixels


def _window_maxima(x: Tensor, window: Size) -> Tensor:
    if traced.is_tracing():
        return traced.over_windows(x, window, partial(slide, combine=torch.maximum), -torch.inf)
    if traced.is_compiling():
        maxima: Tensor = opaque.window_maxima(x, window)
        return maxima
    return over_windows(x, window, torch.maximum)


def _to_map(values: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    if _is_followed():
        return values  # a map already
    return lay_out(values, axes)


def _axes(x: Tensor, window: Size, precision: Precision) -> tuple[Axis, Axis]:
    if _is_followed():  # where results are full maps, and sizes are not asked for
        return NO_AXES
    return window_axes((x.shape[-2], x.shape[-1]), window, precision)


def _is_followed() -> bool:
    """Whether somebody makes a program of what is computed."""
    return traced.is_tracing() or traced.is_compiling()


def _grouped(x: Tensor, groups: int) -> Tensor:
    """(b, groups, channels of a group, h, w)."""
    if groups == x.shape[1]:
        return x.unsqueeze(2)  # tracers would not see that the map is not split
    split: Tensor = x.unflatten(1, (groups, -1))
    return split


def _normalise(
    x: Tensor,
    window: Size,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    precision: Precision,
) -> Tensor:
    per_group = x.shape[1] // groups
    window = _clip(x, window)
    alone = per_group == 1 and (weight is None) == (bias is None)
    # Exact in C++ is quicker than fast with torch.
    if alone and not _is_followed() and native.available(x, window):
        return native.instance_norm(x, window, weight, bias, eps)
    axes = _axes(x, window, precision)

    def normalise(part: Tensor) -> Tensor:
        here = part.shape[1] // per_group
        wide = _grouped(part.to(_accumulator(part)), here)
        # Without it, rounding the means would cost what a large mean has more digits than a
        # small deviation.
        wide = wide - wide.mean((2, 3, 4), keepdim=True)
        wide = wide.squeeze(2) if per_group == 1 else wide.flatten(1, 2)
        mean, variance = _moments(wide, window, here, 0, axes)
        mean, scale = (t.to(wide.dtype) for t in (mean, (variance + eps).rsqrt()))
        if here > 1 and per_group > 1:
            mean, scale = (
                t.unsqueeze(2).expand(-1, -1, per_group, -1, -1).flatten(1, 2)
                for t in (mean, scale)
            )
        return ((wide - _to_map(mean, axes)) * _to_map(scale, axes)).to(part.dtype)

    out = _by_slices(normalise, x, per_group)
    if weight is not None:
        out = out * weight.view(-1, 1, 1)
    if bias is not None:
        out = out + bias.view(-1, 1, 1)
    return out


def _by_slices(f: Callable[[Tensor], Tensor], x: Tensor, channels: int = 1) -> Tensor:
    """f(x), computed `channels` or a multiple of them at a time where that saves memory.

    A slice whose temporaries fit the processor's cache is several times faster on a CPU than
    the whole tensor. Gradients and compilers want the whole.
    """
    differentiable = torch.is_grad_enabled() and x.requires_grad
    whole = differentiable or torch.compiler.is_compiling() or traced.is_tracing()
    if x.device.type != "cpu" or whole:
        return f(x)
    b, c, h, w = x.shape
    step = channels * max(1, SLICE_PIXELS // (channels * h * w))
    if b == 1 and step >= c:
        return f(x)
    out = None
    for i in range(b):
        for first in range(0, c, step):
            part = f(x[i : i + 1, first : first + step])
            if out is None:
                out = part.new_empty((b, c, *part.shape[2:]))
            out[i, first : first + step] = part[0]
    assert out is not None
    return out


def _membership(size: int, window: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(windows, cells) of one axis: 1 where the cell lies in the window."""
    return torch.tensor(
        [
            [float(begin <= a and b <= begin + window) for a, b in cells(size, window)]
            for begin in starts(size, window)
        ],
        device=device,
        dtype=dtype,
    )
