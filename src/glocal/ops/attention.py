"""Transposed attention on overlapping windows, of which none is cut out."""

import math

import torch
from torch import Tensor

from glocal import opaque, traced
from glocal.kernels import native
from glocal.kernels.pages import on_huge_pages
from glocal.ops.windowed import accumulating_dtype, no_autocast
from glocal.windows import Size, areas, membership

__all__ = ["local_channel_attention"]

Area = tuple[slice, slice]
"""Rows and columns of a map."""
_CACHED = 2 * 2**20
"""Bytes of a map that are computed with at a time on a CPU: their copy is still in the cache when
it is multiplied. 1 MiB costs small maps time, 4 MiB large ones."""


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
    out = on_huge_pages(torch.empty_like(v, memory_format=torch.contiguous_format))
    if v.stride(2) == 1:  # channels of a pixel lie together, and so do those of what is made of it
        batch, heads, c, h, w = v.shape
        out = out.view(batch, h, w, heads, c).permute(0, 3, 4, 1, 2)
    with no_autocast(q.device.type):
        _attend_by_cells(q, k, v, out, temperature, window, eps)
    return out


def _attend_by_cells(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, temperature: Tensor, window: Size, eps: float
) -> None:
    h, w = q.shape[-2:]
    places = areas((h, w), window)
    accumulator = accumulating_dtype(q)
    products = [_products(q, k, area, accumulator) for area in places]
    grams, norms_q, norms_k = (torch.stack(each) for each in zip(*products, strict=True))
    down, across = membership(h, window[0], axis=0), membership(w, window[1], axis=1)
    member = torch.kron(grams.new_tensor(down), grams.new_tensor(across))

    def gather(per_cell: Tensor) -> Tensor:
        """(windows, ...) from (cells, ...)."""
        windows: Tensor = torch.tensordot(member, per_cell, 1)
        return windows

    # Clamped before the root, whose derivative at 0 is infinite.
    scale_q = gather(norms_q).clamp_min(eps**2).sqrt().unsqueeze(-1)
    scale_k = gather(norms_k).clamp_min(eps**2).sqrt().unsqueeze(-2)
    logits = gather(grams) / scale_q / scale_k * temperature
    attention = logits.softmax(-1)
    share = member / member.sum(0)
    averaged = torch.tensordot(share.t(), attention, 1).to(v.dtype)
    for matrix, area in zip(averaged, places, strict=True):
        for part in _parts(v, area):
            pixels, place = _pixels_of(v, part), out[..., *part]
            size = place.shape[-2:]
            if out.stride(2) == 1:
                _put(place.movedim(-3, -1), (pixels @ matrix.mT).unflatten(-2, size))
            else:
                _put(place, (matrix @ pixels.mT).unflatten(-1, size))


def _products(
    q: Tensor, k: Tensor, area: Area, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pixels of an area: q kᵀ (..., c, c), q² and k² (..., c)."""

    def of(part: Area) -> tuple[Tensor, Tensor, Tensor]:
        a, b = (_pixels_of(t, part).to(dtype) for t in (q, k))
        squares = (torch.linalg.vector_norm(t, dim=-2).square() for t in (a, b))
        return a.mT @ b, *squares

    parts = iter(_parts(q, area))
    sums = of(next(parts))
    for part in parts:
        for total, more in zip(sums, of(part), strict=True):
            total += more
    return sums


def _parts(x: Tensor, area: Area) -> list[Area]:
    """Some rows of an area at a time, which are the whole area where there is no cache to fit."""
    rows, columns = area
    if x.device.type != "cpu":
        return [area]
    row = math.prod(x.shape[:3]) * (columns.stop - columns.start) * x.element_size()
    step = max(_CACHED // row, 1)
    begins = range(rows.start, rows.stop, step)
    return [(slice(begin, min(begin + step, rows.stop)), columns) for begin in begins]


def _pixels_of(x: Tensor, area: Area) -> Tensor:
    """(..., pixels, c) of an area of a map (..., c, h, w); nothing is transposed in memory."""
    part = x[..., *area]
    if x.stride(-3) == 1:
        return _together(part.movedim(-3, -1), -3).flatten(-3, -2)
    return _together(part, -2).flatten(-2).mT


def _together(x: Tensor, dim: int) -> Tensor:
    """The same, where this dim and the next one can be made one without a copy."""
    if x.stride(dim) == x.shape[dim + 1] * x.stride(dim + 1) or not native.copies(x):
        return x
    return native.copy(torch.empty_like(x, memory_format=torch.contiguous_format), x)


def _put(out: Tensor, x: Tensor) -> None:
    if native.copies(out) and native.copies(x) and out.dtype == x.dtype:
        native.copy(out, x)
    else:
        out.copy_(x)
