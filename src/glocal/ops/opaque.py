"""Window operations that a compiler takes as they are: operators of their own for `torch.compile`.

Inductor fuses sums of doubling length into one loop that reads every pixel many times over and
takes a minute a layer to compile; and a branch on whether a window covers the map would compile
the network anew for each set of axes that the windows cover. Here sizes are only passed on, and
results are maps of full size. The derivative of each operator is made of these operators again.

Exported programs hold none of them: see `traced`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from glocal.ops.sliding import fold, over_windows, spread, to_map
from glocal.ops.windows import Size, areas, membership

__all__ = ["surely_covers", "window_attention", "window_maxima", "window_sums"]

SLICE_PIXELS = 1 << 20  # pixels of the planes that are worked on at a time, as in `ops`


def surely_covers(window: Size, x: Tensor) -> bool:
    """Whether the window covers the map at every size that the compiled program will serve."""
    down: bool = statically_known_true(x.shape[-2] <= window[0])
    across: bool = statically_known_true(x.shape[-1] <= window[1])
    return down and across


@torch.library.custom_op("glocal::window_sums", mutates_args=())
def window_sums(x: Tensor, window: Sequence[int]) -> Tensor:
    """Sum over the window of each pixel, (b, c, h, w) to (b, c, h, w).

    Args:
        x: the map, of a type to accumulate in.
        window: (height, width) in pixels of the map; may be larger than it.
    """
    size, inside = _sizes(x, window)
    return _by_planes(lambda t: to_map(over_windows(t, inside, torch.add), size), x)


@torch.library.custom_op("glocal::window_sums_adjoint", mutates_args=())
def _window_sums_adjoint(x: Tensor, window: Sequence[int]) -> Tensor:
    _, inside = _sizes(x, window)
    return _by_planes(lambda t: spread(fold(t, inside), inside), x)


@torch.library.custom_op("glocal::window_maxima", mutates_args=())
def window_maxima(x: Tensor, window: Sequence[int]) -> Tensor:
    """Maximum over the window of each pixel; as `window_sums`, in any type.

    Where pixels tie for the maximum, the first of them has the whole derivative.
    """
    size, inside = _sizes(x, window)
    return _by_planes(lambda t: to_map(over_windows(t, inside, torch.maximum), size), x)


@torch.library.custom_op("glocal::window_maxima_backward", mutates_args=())
def _window_maxima_backward(gradient: Tensor, x: Tensor, window: Sequence[int]) -> Tensor:
    _, (kh, kw) = _sizes(x, window)
    pool, backward = (
        torch.ops.aten.max_pool2d_with_indices,
        torch.ops.aten.max_pool2d_with_indices_backward,
    )
    rest = ([1, 1], [0, 0], [1, 1], False)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rows, at_rows = pool(wide, [kh, 1], *rest)
    _, at = pool(rows, [1, kw], *rest)
    grad = fold(gradient.to(wide.dtype), (kh, kw))
    grad = backward(grad, rows, [1, kw], *rest, at)
    grad = backward(grad, wide, [kh, 1], *rest, at_rows)
    return torch.empty_like(x, memory_format=torch.contiguous_format).copy_(grad)


@torch.library.custom_op("glocal::window_products", mutates_args=())
def _window_products(a: Tensor, b: Tensor, window: Sequence[int], share: bool) -> Tensor:
    """a bᵀ over the pixels of each window: 2 × (b, heads, c, h, w) to (windows, b, heads, c, c).

    The windows are those of `windows.starts` and an empty one, so that their number is never the
    1 that compilers treat apart. With `share`, pixels in n windows count 1 / n.
    """
    size, inside = _sizes(a, window)
    grams = [a[..., y, x].flatten(-2) @ b[..., y, x].flatten(-2).mT for y, x in areas(size, inside)]
    products: Tensor = torch.tensordot(_weights(a, size, inside, share), torch.stack(grams), 1)
    return products


@torch.library.custom_op("glocal::window_apply", mutates_args=())
def _window_apply(matrices: Tensor, v: Tensor, window: Sequence[int], share: bool) -> Tensor:
    """Each window's matrix times its pixels, summed over the windows of a pixel, or averaged."""
    size, inside = _sizes(v, window)
    weights = _weights(matrices, size, inside, share)
    per_cell = torch.tensordot(weights.t(), matrices, 1).to(v.dtype)
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    for matrix, (y, x) in zip(per_cell, areas(size, inside), strict=True):
        piece = v[..., y, x]
        out[..., y, x] = (matrix @ piece.flatten(-2)).unflatten(-1, piece.shape[-2:])
    return out


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, window: Size, eps: float
) -> Tensor:
    """Transposed attention on overlapping windows, overlaps averaged; see `ops`."""
    accumulator = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(accumulator), k.to(accumulator)

    def lengths(t: Tensor) -> Tensor:
        """(windows, b, heads, c): a channel's square is its product with itself alone."""
        alone = t.flatten(1, 2).unsqueeze(2)
        squares: Tensor = _window_products(alone, alone, window, False)
        split: Tensor = squares[..., 0, 0].unflatten(2, t.shape[1:3])
        return split.clamp_min(eps**2).sqrt()

    products = _window_products(q, k, window, False)
    logits = products / lengths(q).unsqueeze(-1) / lengths(k).unsqueeze(-2) * temperature
    mixed: Tensor = _window_apply(logits.softmax(-1), v, window, True)
    return mixed


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _like_second(_: Tensor, x: Tensor, *__: Any) -> Tensor:
    return _like(x)


def _products_like(a: Tensor, b: Tensor, window: Sequence[int], share: bool) -> Tensor:
    number = -(-a.shape[-2] // window[0]) * -(-a.shape[-1] // window[1])
    return a.new_empty((number + 1, *a.shape[:3], b.shape[2]))


window_sums.register_fake(_like)
_window_sums_adjoint.register_fake(_like)
window_maxima.register_fake(_like)
_window_maxima_backward.register_fake(_like_second)
_window_products.register_fake(_products_like)
_window_apply.register_fake(_like_second)


def _keep(*positions: int) -> Callable[..., None]:
    """Save the tensors at these positions for the derivative, and the other arguments."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(inputs[i] for i in positions))
        ctx.rest = [value for value in inputs if not isinstance(value, Tensor)]

    return setup_context


def _sums_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _window_sums_adjoint(gradient, *ctx.rest), None


def _adjoint_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return window_sums(gradient, *ctx.rest), None


def _maxima_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _window_maxima_backward(gradient, *ctx.saved_tensors, *ctx.rest), None


def _products_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    a, b = ctx.saved_tensors
    to_a = _window_apply(gradient, b, *ctx.rest)
    return to_a, _window_apply(gradient.mT, a, *ctx.rest), None, None


def _apply_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    matrices, v = ctx.saved_tensors
    wide = gradient.to(matrices.dtype), v.to(matrices.dtype)
    to_matrices = _window_products(*wide, *ctx.rest)
    return to_matrices, _window_apply(matrices.mT, gradient, *ctx.rest), None, None


window_sums.register_autograd(_sums_backward, setup_context=_keep())
_window_sums_adjoint.register_autograd(_adjoint_backward, setup_context=_keep())
window_maxima.register_autograd(_maxima_backward, setup_context=_keep(0))
_window_products.register_autograd(_products_backward, setup_context=_keep(0, 1))
_window_apply.register_autograd(_apply_backward, setup_context=_keep(0, 1))


def _sizes(x: Tensor, window: Sequence[int]) -> tuple[Size, Size]:
    """Of the map, and of a window inside it."""
    h, w = x.shape[-2:]
    return (h, w), (min(window[0], h), min(window[1], w))


def _by_planes(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f of a map's planes, expanded to the map, a few planes at a time where that saves memory."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    step = max(1, SLICE_PIXELS // (x.shape[-2] * x.shape[-1]))
    planes = x.flatten(0, 1).unsqueeze(0)
    for some, into in zip(
        planes.split(step, 1), out.flatten(0, 1)[None].split(step, 1), strict=True
    ):
        into.copy_(f(some))
    return out


def _weights(x: Tensor, size: Size, window: Size, share: bool) -> Tensor:
    """(windows, cells): how much of a cell a window gets."""
    down, across = (x.new_tensor(membership(size[i], window[i], axis=i)) for i in (0, 1))
    member = F.pad(torch.kron(down, across), (0, 0, 0, 1))
    return member / member.sum(0) if share else member
