"""Transposed attention on overlapping windows, of which none is cut out."""

import math

import torch
from torch import Tensor

from glocal.ops import opaque, traced
from glocal.ops.kernels import attention as kernel
from glocal.ops.kernels.plain import is_plain
from glocal.ops.windowed import accumulating_dtype, no_autocast
from glocal.ops.windows import Size, areas, membership

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
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
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
    # A sum over a cell is that of its parts, which are members of the same windows.
    parts = [_parts(q, cell) for cell in areas((h, w), window)]
    places = [part for each in parts for part in each]
    accumulator = accumulating_dtype(q)
    if kernel.takes(q, k):
        grams, squares_q, squares_k = kernel.products(q, k, places)
    else:
        products = [_products(q, k, place, accumulator) for place in places]
        grams, squares_q, squares_k = (torch.stack(each) for each in zip(*products, strict=True))
    down, across = membership(h, window[0], axis=0), membership(w, window[1], axis=1)
    member = torch.kron(grams.new_tensor(down), grams.new_tensor(across))
    counts = torch.tensor([len(each) for each in parts], device=member.device)
    member = member.repeat_interleave(counts, 1)

    def gather(per_place: Tensor) -> Tensor:
        """(windows, ...) from (places, ...)."""
        windows: Tensor = torch.tensordot(member, per_place, 1)
        return windows

    # Clamped before the root, whose derivative at 0 is infinite.
    scale_q = gather(squares_q).clamp_min(eps**2).sqrt().unsqueeze(-1)
    scale_k = gather(squares_k).clamp_min(eps**2).sqrt().unsqueeze(-2)
    logits = gather(grams) / scale_q / scale_k * temperature
    attention = logits.softmax(-1)
    share = member / member.sum(0)
    averaged = torch.tensordot(share.t(), attention, 1).to(v.dtype)
    if kernel.takes(v, out) and is_plain(averaged):
        kernel.apply(averaged, v, places, out)
        return
    for matrix, place in zip(averaged, places, strict=True):
        pixels, made = _pixels_of(v, place), out[..., *place]
        if out.stride(2) == 1:
            made.movedim(-3, -1).copy_((pixels @ matrix.mT).unflatten(-2, made.shape[-2:]))
        else:
            made.copy_((matrix @ pixels.mT).unflatten(-1, made.shape[-2:]))


def _products(
    q: Tensor, k: Tensor, area: Area, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pixels of an area: q kᵀ (..., c, c), q² and k² (..., c)."""
    a, b = (_pixels_of(t, area).to(dtype) for t in (q, k))
    squares_a, squares_b = (torch.linalg.vector_norm(t, dim=-2).square() for t in (a, b))
    return a.mT @ b, squares_a, squares_b


def _parts(x: Tensor, area: Area) -> list[Area]:
    """Some rows of an area at a time, which are the whole area where there is no cache to fit."""
    rows, columns = area
    if x.device.type != "cpu":
        return [area]
    row = math.prod(x.shape[1:3]) * (columns.stop - columns.start) * x.element_size()
    step = max(_CACHED // row, 1)
    begins = range(rows.start, rows.stop, step)
    return [(slice(begin, min(begin + step, rows.stop)), columns) for begin in begins]


def _pixels_of(x: Tensor, area: Area) -> Tensor:
    """(..., pixels, c) of an area of a map (..., c, h, w); nothing is transposed in memory."""
    part = x[..., *area]
    if x.stride(-3) == 1:
        return part.movedim(-3, -1).flatten(-3, -2)
    return part.flatten(-2).mT
