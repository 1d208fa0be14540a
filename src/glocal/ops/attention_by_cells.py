"""Transposed attention on overlapping windows, in C++ or torch.

No window is ever cut out. The edges of all windows partition the map into cells; a window is a run
of whole cells. A product over a window is the sum of the products over its cells, so each pixel is
multiplied once. The average of linear maps is linear, so it is the *matrices* of the windows over a
cell that are averaged, and each pixel is mixed once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from glocal.ops.kernels import attention as kernel
from glocal.ops.kernels.plain import is_plain
from glocal.ops.numerics import no_autocast, sum_dtype, weighted_sum
from glocal.ops.windows import Size, areas, membership

__all__ = ["Area", "Cells", "cells_of", "channel_attention", "channel_products", "mix_channels"]

Area = tuple[slice, slice]
"""Rows and columns of a map."""

CACHED_BYTES = 2 * 2**20
"""Bytes of a map that are multiplied at a time on a CPU: the copy that is made of them is still in
the cache then. 1 MiB is slower on small maps, 4 MiB on large ones."""


@dataclass(frozen=True)
class Cells:
    """The cells of a map, cut into areas that fit the cache.

    Attributes:
        areas: rows and columns of each area.
        weights: (windows, areas), 1 where a window holds an area.
    """

    areas: list[Area]
    weights: Tensor

    def shares(self) -> Tensor:
        """(windows, areas): 1 / n for each of the n windows that hold an area."""
        return self.weights / self.weights.sum(0)


def channel_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Size, eps: float
) -> Tensor:
    """`ops.local_channel_attention`; the temperature is a tensor (heads, 1, 1)."""
    cells = cells_of(q, window)
    grams, squares_q, squares_k = channel_products(q, k, cells, cells.weights)
    # Clamped before the root, whose derivative at 0 is infinite.
    norms_q = squares_q.clamp_min(eps**2).sqrt().unsqueeze(-1)
    norms_k = squares_k.clamp_min(eps**2).sqrt().unsqueeze(-2)
    attention = (grams / norms_q / norms_k * temperature).softmax(-1)
    return mix_channels(attention, v, cells, cells.shares())


def cells_of(x: Tensor, window: Size) -> Cells:
    """The cells of a map (b, heads, c, h, w) and of windows (height, width) on it."""
    h, w = x.shape[-2:]
    parts = [_parts(x, cell) for cell in areas((h, w), window)]
    down, across = membership(h, window[0], axis=0), membership(w, window[1], axis=1)
    like = x.new_empty(0, dtype=sum_dtype(x))
    weights = torch.kron(like.new_tensor(down), like.new_tensor(across))
    counts = torch.tensor([len(each) for each in parts], device=x.device)
    return Cells([area for each in parts for area in each], weights.repeat_interleave(counts, 1))


def channel_products(
    q: Tensor, k: Tensor, cells: Cells, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q kᵀ, q² and k², summed over the pixels of each window.

    Args:
        q, k: (b, heads, c, h, w).
        cells: of the map.
        weights: (windows, areas), how much an area counts in a window.

    Returns:
        (windows, b, heads, c, c) and 2 × (windows, b, heads, c), in float32 at least.
    """
    with no_autocast(q.device.type):
        if kernel.takes(q, k):
            per_area = kernel.products(q, k, cells.areas)
        else:
            each = [_products(q, k, area) for area in cells.areas]
            grams, squares_q, squares_k = (torch.stack(some) for some in zip(*each, strict=True))
            per_area = grams, squares_q, squares_k
        grams, squares_q, squares_k = (weighted_sum(weights, some) for some in per_area)
    return grams, squares_q, squares_k


def mix_channels(matrices: Tensor, v: Tensor, cells: Cells, weights: Tensor) -> Tensor:
    """Multiply each pixel by the weighted sum of the matrices of its windows.

    Args:
        matrices: (windows, b, heads, d, c).
        v: (b, heads, c, h, w).
        cells: of the map.
        weights: (windows, areas), how much a window's matrix counts in an area.

    Returns:
        (b, heads, d, h, w) in the dtype of `v`; the channels of a pixel are adjacent in memory
        where those of `v` are.
    """
    with no_autocast(v.device.type):
        shares = weights.to(matrices.dtype).t()
        per_area = weighted_sum(shares, matrices).to(v.dtype)
        (batch, heads, _, h, w), c = v.shape, matrices.shape[-2]
        if v.stride(2) == 1:
            out = v.new_empty(batch, h, w, heads, c).permute(0, 3, 4, 1, 2)
        else:
            out = v.new_empty(batch, heads, c, h, w)
        if kernel.takes(v, out) and is_plain(per_area):
            kernel.apply(per_area, v, cells.areas, out)
            return out
        for matrix, area in zip(per_area, cells.areas, strict=True):
            pixels, part = _pixels_of(v, area), out[..., *area]
            if out.stride(2) == 1:
                part.movedim(-3, -1).copy_((pixels @ matrix.mT).unflatten(-2, part.shape[-2:]))
            else:
                part.copy_((matrix @ pixels.mT).unflatten(-1, part.shape[-2:]))
        return out


def _products(q: Tensor, k: Tensor, area: Area) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pixels of an area: q kᵀ (..., c, c), q² and k² (..., c)."""
    a, b = (_pixels_of(t, area).to(sum_dtype(q)) for t in (q, k))
    squares_a, squares_b = (torch.linalg.vector_norm(t, dim=-2).square() for t in (a, b))
    return a.mT @ b, squares_a, squares_b


def _parts(x: Tensor, area: Area) -> list[Area]:
    """Yield rows of an area that fit a CPU's cache; the whole area on other devices."""
    rows, columns = area
    if x.device.type != "cpu":
        return [area]
    row = math.prod(x.shape[1:3]) * (columns.stop - columns.start) * x.element_size()
    step = max(CACHED_BYTES // row, 1)
    begins = range(rows.start, rows.stop, step)
    return [(slice(begin, min(begin + step, rows.stop)), columns) for begin in begins]


def _pixels_of(x: Tensor, area: Area) -> Tensor:
    """Return an area of (..., c, h, w) as (..., pixels, c), without a transpose."""
    part = x[..., *area]
    if x.stride(-3) == 1:
        return part.movedim(-3, -1).flatten(-3, -2)
    return part.flatten(-2).mT
