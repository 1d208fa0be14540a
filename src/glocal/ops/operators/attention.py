"""Operators of transposed attention; see `glocal.ops.operators`."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.ops import attention_by_cells
from glocal.ops.attention_by_cells import Cells, cells_of, channel_products, mix_channels
from glocal.ops.numerics import sum_dtype
from glocal.ops.operators.parts import clipped, like_first, like_second, save

__all__ = ["channel_attention"]


@torch.library.custom_op(
    "glocal::channel_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor temperature, int[] window, float eps) -> Tensor",
)
def channel_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Sequence[int], eps: float
) -> Tensor:
    """Transposed attention on overlapping windows, overlaps averaged.

    Args:
        q, k, v: (b, heads, c, h, w).
        temperature: (heads, 1, 1).
        window: (height, width) in pixels of the map; may be larger than it.
        eps: least norm of a channel of q and k.

    Returns:
        (b, heads, c, h, w) in the dtype of `v`, contiguous.
    """
    _, inside = clipped(q, window)
    return attention_by_cells.channel_attention(q, k, v, temperature, inside, eps).contiguous()


@torch.library.custom_op(
    "glocal::window_products",
    mutates_args=(),
    schema="(Tensor q, Tensor k, int[] window, bool averaged) -> (Tensor, Tensor, Tensor)",
)
def _window_products(
    q: Tensor, k: Tensor, window: Sequence[int], averaged: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """q kᵀ, q² and k², summed over the pixels of each window.

    The windows are those of `windows.starts` and an empty one: their number is then never 1, a
    size that compilers handle apart.

    Args:
        q, k: (b, heads, c, h, w).
        window: (height, width) in pixels of the map; may be larger than it.
        averaged: a pixel in n windows counts 1 / n.

    Returns:
        (windows, b, heads, c, c) and 2 × (windows, b, heads, c), in float32 at least.
    """
    cells, weights = _cells(q, window, averaged)
    grams, squares_q, squares_k = channel_products(q, k, cells, weights)
    return grams, squares_q, squares_k


@torch.library.custom_op(
    "glocal::window_mix",
    mutates_args=(),
    schema="(Tensor matrices, Tensor v, int[] window, bool averaged) -> Tensor",
)
def _window_mix(matrices: Tensor, v: Tensor, window: Sequence[int], averaged: bool) -> Tensor:
    """Multiply each pixel's channels by the sum or mean of its windows' matrices.

    Args:
        matrices: (windows, b, heads, c, c) of the windows of `_window_products`.
        v: (b, heads, c, h, w).
        window: (height, width) in pixels of the map; may be larger than it.
        averaged: divide the sum by the number of windows of the pixel.

    Returns:
        (b, heads, c, h, w) in the dtype of `v`, contiguous.
    """
    cells, weights = _cells(v, window, averaged)
    return mix_channels(matrices, v, cells, weights).contiguous()


def _cells(x: Tensor, window: Sequence[int], averaged: bool) -> tuple[Cells, Tensor]:
    """The cells of a map, and their weights in each window and in an empty one."""
    _, inside = clipped(x, window)
    cells = cells_of(x, inside)
    return cells, F.pad(cells.shares() if averaged else cells.weights, (0, 0, 0, 1))


def _products_like(
    q: Tensor, k: Tensor, window: Sequence[int], averaged: bool
) -> tuple[Tensor, Tensor, Tensor]:
    number = -(-q.shape[-2] // window[0]) * -(-q.shape[-1] // window[1])
    shape = (number + 1, *q.shape[:3])
    dtype = sum_dtype(q)
    squares = [q.new_empty(shape, dtype=dtype) for _ in range(2)]
    return q.new_empty((*shape, k.shape[2]), dtype=dtype), squares[0], squares[1]


channel_attention.register_fake(lambda q, k, v, *_: like_first(v))
_window_products.register_fake(_products_like)
_window_mix.register_fake(like_second)


# ---- derivatives


def _save_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.window, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _attention_backward(
    ctx: Any, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
    q, k, v, temperature = ctx.saved_tensors
    window, least = ctx.window, ctx.eps**2
    grams, squares_q, squares_k = _window_products(q, k, window, False)
    clamped_q, clamped_k = (t.clamp_min(least) for t in (squares_q, squares_k))
    norms = clamped_q.sqrt().unsqueeze(-1) * clamped_k.sqrt().unsqueeze(-2)
    cosines = grams / norms
    attention = (cosines * temperature).softmax(-1)
    wide = [t.to(grams.dtype) for t in (q, k, v, gradient)]
    to_attention, _, _ = _window_products(wide[3], wide[2], window, True)
    mean = (to_attention * attention).sum(-1, keepdim=True)
    to_logits = attention * (to_attention - mean)
    to_temperature = (to_logits * cosines).sum((0, 1, 3, 4)).view(-1, 1, 1)
    to_cosines = to_logits * temperature
    # cosine = gram / √(q² k²), so that its derivative by q² is -cosine / 2q².
    halves = to_cosines * cosines / -2
    to_q, to_k = _products_gradients(
        wide[0],
        wide[1],
        to_cosines / norms,
        halves.sum(-1) / clamped_q * (squares_q >= least),
        halves.sum(-2) / clamped_k * (squares_k >= least),
        (window, False),
    )
    to_v = _window_mix(attention.mT, gradient, window, True)
    return (
        to_q.to(q.dtype),
        to_k.to(k.dtype),
        to_v.to(v.dtype),
        to_temperature.to(temperature.dtype),
        None,
        None,
    )


def _products_gradients(
    q: Tensor,
    k: Tensor,
    to_grams: Tensor,
    to_squares_q: Tensor,
    to_squares_k: Tensor,
    rest: tuple[Sequence[int], bool],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of q and k from those of `_window_products`' results."""
    to_q, to_k = (
        _window_mix(matrices, other, *rest) + _window_mix(torch.diag_embed(2 * squares), own, *rest)
        for matrices, squares, own, other in (
            (to_grams, to_squares_q, q, k),
            (to_grams.mT, to_squares_k, k, q),
        )
    )
    return to_q, to_k


def _products_backward(
    ctx: Any, to_grams: Tensor, to_squares_q: Tensor, to_squares_k: Tensor
) -> tuple[Tensor, Tensor, None, None]:
    q, k = ctx.saved_tensors
    wide_q, wide_k = (t.to(to_grams.dtype) for t in (q, k))
    to_q, to_k = _products_gradients(wide_q, wide_k, to_grams, to_squares_q, to_squares_k, ctx.rest)
    return to_q.to(q.dtype), to_k.to(k.dtype), None, None


def _mix_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    matrices, v = ctx.saved_tensors
    wide = gradient.to(matrices.dtype), v.to(matrices.dtype)
    to_matrices, _, _ = _window_products(*wide, *ctx.rest)
    return to_matrices, _window_mix(matrices.mT, gradient, *ctx.rest), None, None


channel_attention.register_autograd(_attention_backward, setup_context=_save_attention)
_window_products.register_autograd(_products_backward, setup_context=save(0, 1))
_window_mix.register_autograd(_mix_backward, setup_context=save(0, 1))
