"""Operators of window statistics and instance norm; see `glocal.ops.operators`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glocal.ops.kernels import native
from glocal.ops.moments import (
    group_channels,
    merge_moments,
    moments_by_means,
    scale_and_shift,
)
from glocal.ops.numerics import by_slices, sum_dtype, widest_dtype
from glocal.ops.operators.parts import clipped, like_first, like_second, save
from glocal.ops.sliding import (
    over_windows,
    replicate_borders,
    replicate_borders_adjoint,
    sum_windows,
    sum_windows_adjoint,
)
from glocal.ops.windows import Size

__all__ = ["instance_norm", "window_maxima", "window_moments", "window_sums"]


# ---- sums


@torch.library.custom_op(
    "glocal::window_sums",
    mutates_args=(),
    schema="(Tensor x, int[] window) -> Tensor",
)
def window_sums(x: Tensor, window: Sequence[int]) -> Tensor:
    """Sum over the window of each pixel, (b, c, h, w) to (b, c, h, w).

    Args:
        x: the map, in a dtype to accumulate in.
        window: (height, width) in pixels of the map; may be larger than it.
    """
    size, inside = clipped(x, window)
    return _full_map(sum_windows(x, inside), size)


@torch.library.custom_op(
    "glocal::window_sums_adjoint",
    mutates_args=(),
    schema="(Tensor x, int[] window) -> Tensor",
)
def _window_sums_adjoint(x: Tensor, window: Sequence[int]) -> Tensor:
    """The adjoint of `window_sums`: each pixel sums the windows that contain it."""
    _, inside = clipped(x, window)
    return sum_windows_adjoint(replicate_borders_adjoint(x, inside), inside).contiguous()


# ---- maxima


@torch.library.custom_op(
    "glocal::window_maxima",
    mutates_args=(),
    schema="(Tensor x, int[] window) -> Tensor",
)
def window_maxima(x: Tensor, window: Sequence[int]) -> Tensor:
    """Maximum over the window of each pixel of (b, c, h, w), in any dtype.

    Where pixels tie for the maximum, the first of them has the whole derivative.
    """
    size, inside = clipped(x, window)
    if inside == (1, 1):
        return x.clone(memory_format=torch.contiguous_format)  # no result shares memory with x
    values = by_slices(lambda part: over_windows(part, inside, torch.maximum), x)
    return _full_map(values, size)


@torch.library.custom_op(
    "glocal::window_maxima_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, int[] window) -> Tensor",
)
def _window_maxima_backward(gradient: Tensor, x: Tensor, window: Sequence[int]) -> Tensor:
    _, (kh, kw) = clipped(x, window)
    pool, backward = (
        torch.ops.aten.max_pool2d_with_indices,
        torch.ops.aten.max_pool2d_with_indices_backward,
    )
    rest = ([1, 1], [0, 0], [1, 1], False)
    wide = x.to(sum_dtype(x))
    rows, at_rows = pool(wide, [kh, 1], *rest)
    _, at = pool(rows, [1, kw], *rest)
    grad = replicate_borders_adjoint(gradient.to(wide.dtype), (kh, kw))
    grad = backward(grad, rows, [1, kw], *rest, at)
    grad = backward(grad, wide, [kh, 1], *rest, at_rows)
    return torch.empty_like(x, memory_format=torch.contiguous_format).copy_(grad)


# ---- moments


@torch.library.custom_op(
    "glocal::window_moments",
    mutates_args=(),
    schema="(Tensor x, int[] window, int groups) -> (Tensor, Tensor)",
)
def window_moments(x: Tensor, window: Sequence[int], groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over each pixel's window and each group of channels.

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of the map; may be larger than it.
        groups: number of groups of channels.

    Returns:
        2 × (b, groups, h, w) in `numerics.widest_dtype`; no variance is negative.
    """
    size, inside = clipped(x, window)
    if native.available(x, inside):
        mean, variance = merge_moments(*native.moments(x, inside), groups)
    else:

        def means(x: Tensor, channels: int) -> Tensor:
            return sum_windows(x, inside, scale=1 / (inside[0] * inside[1] * channels))

        mean, variance = moments_by_means(x, groups, means)
    return _full_map(mean, size), _full_map(variance, size)


# ---- instance norm


@torch.library.custom_op(
    "glocal::instance_norm",
    mutates_args=(),
    schema="(Tensor x, int[] window, Tensor? weight, Tensor? bias, float eps) -> Tensor",
)
def instance_norm(
    x: Tensor, window: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Instance norm by the mean and variance of each pixel's window.

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of the map; may be larger than it.
        weight, bias: (c,); both or neither.
        eps: added to the variance.

    Returns:
        (b, c, h, w) in the dtype of `x`, contiguous.
    """
    _, inside = clipped(x, window)
    if native.available(x, inside):
        return native.instance_norm(x, inside, weight, bias, eps).contiguous()
    mean, variance = window_moments(x, window, x.shape[1])
    out = (x - mean) * (variance + eps).rsqrt()
    return scale_and_shift(out, weight, bias).to(x.dtype).contiguous()


# ---- shapes of results


def _moments_like(x: Tensor, window: Sequence[int], groups: int) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], groups, *x.shape[2:])
    return tuple(x.new_empty(shape, dtype=widest_dtype(x.device)) for _ in range(2))  # type: ignore


window_sums.register_fake(like_first)
_window_sums_adjoint.register_fake(like_first)
window_maxima.register_fake(like_first)
_window_maxima_backward.register_fake(like_second)
window_moments.register_fake(_moments_like)
instance_norm.register_fake(like_first)


# ---- derivatives


def _sums_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _window_sums_adjoint(gradient, *ctx.rest), None


def _adjoint_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return window_sums(gradient, *ctx.rest), None


def _maxima_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _window_maxima_backward(gradient, *ctx.saved_tensors, *ctx.rest), None


def _save_moments(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.window, _ = inputs
    ctx.save_for_backward(x, output[0])


def _moments_backward(ctx: Any, to_mean: Tensor, to_variance: Tensor) -> tuple[Tensor, None, None]:
    x, mean = ctx.saved_tensors
    return _moments_adjoint(x, mean, ctx.window, to_mean, to_variance), None, None


def _moments_adjoint(
    x: Tensor, mean: Tensor, window: Sequence[int], to_mean: Tensor, to_variance: Tensor
) -> Tensor:
    """The gradient of x from the gradients of its window means and variances.

    With n values in a window, a variance is Σ(x - m)² / n and its derivative 2 (x - m) / n. A
    pixel sums it over the windows that hold it, of which each has its own m; x and m are centred
    on the mean of the map, as otherwise their products would cancel.
    """
    groups = mean.shape[1]
    wide = group_channels(x.to(mean.dtype), groups)
    centre = wide.mean((2, 3, 4), keepdim=True)
    height, width = (torch.sym_min(k, n) for k, n in zip(window, x.shape[-2:], strict=True))
    number = height * width * (x.shape[1] // groups)
    slope = to_variance * (2 / number)
    constant = to_mean / number - slope * (mean - centre[:, :, 0])
    slope, constant = (
        _window_sums_adjoint(t.contiguous(), window).unsqueeze(2) for t in (slope, constant)
    )
    to_x: Tensor = (slope * (wide - centre) + constant).flatten(1, 2)
    return to_x.to(x.dtype)


def _save_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.window, weight, _, ctx.eps = inputs
    ctx.is_affine = weight is not None
    ctx.save_for_backward(x, *([weight] if ctx.is_affine else []))


def _norm_backward(
    ctx: Any, gradient: Tensor
) -> tuple[Tensor, None, Tensor | None, Tensor | None, None]:
    x, *affine = ctx.saved_tensors
    mean, variance = window_moments(x, ctx.window, x.shape[1])
    scale = (variance + ctx.eps).rsqrt()
    deviation = x - mean
    given = gradient.to(scale.dtype)
    to_weight = to_bias = None
    if ctx.is_affine:
        (weight,) = affine
        to_weight = (given * deviation * scale).sum((0, 2, 3)).to(weight.dtype)
        to_bias = given.sum((0, 2, 3)).to(weight.dtype)
        given = given * weight.view(-1, 1, 1)
    direct = given * scale
    to_variance = given * deviation * scale**3 / -2
    to_x = _moments_adjoint(x, mean, ctx.window, -direct, to_variance)
    return (direct + to_x).to(x.dtype), None, to_weight, to_bias, None


window_sums.register_autograd(_sums_backward, setup_context=save())
_window_sums_adjoint.register_autograd(_adjoint_backward, setup_context=save())
window_maxima.register_autograd(_maxima_backward, setup_context=save(0))
window_moments.register_autograd(_moments_backward, setup_context=_save_moments)
instance_norm.register_autograd(_norm_backward, setup_context=_save_norm)


# ---- parts


def _full_map(values: Tensor, size: Size) -> Tensor:
    """Values of the windows inside the map as a contiguous map of its size."""
    return replicate_borders(values, size).expand(*values.shape[:2], *size).contiguous()
