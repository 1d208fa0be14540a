"""Instance, group and layer norm by the statistics of the window of every pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.ops.kernels import native
from glocal.ops.kernels.plain import is_plain
from glocal.ops.statistics import grouped, moments
from glocal.ops.windowed import (
    accumulating_dtype,
    by_slices,
    clip,
    covers_map,
    is_followed,
    to_map,
)
from glocal.ops.windows import Precision, Size

__all__ = ["local_group_norm", "local_instance_norm", "local_layer_norm"]


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
    if covers_map(window, x):
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
    if covers_map(window, x):
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
    window = clip(x, window)
    alone = per_group == 1 and (weight is None) == (bias is None)
    if (
        alone
        and not is_followed()
        and native.available(x, window)
        and all(t is None or is_plain(t) for t in (weight, bias))
    ):
        return native.instance_norm(x, window, weight, bias, eps)

    def normalise(part: Tensor) -> Tensor:
        here = part.shape[1] // per_group
        wide = grouped(part.to(accumulating_dtype(part)), here)
        # Without it, rounding the means would cost what a large mean has more digits than a
        # small deviation.
        wide = wide - wide.mean((2, 3, 4), keepdim=True)
        wide = wide.squeeze(2) if per_group == 1 else wide.flatten(1, 2)
        mean, variance, axes = moments(wide, window, here, 0, precision)
        mean, scale = (t.to(wide.dtype) for t in (mean, (variance + eps).rsqrt()))
        if here > 1 and per_group > 1:
            mean, scale = (
                t.unsqueeze(2).expand(-1, -1, per_group, -1, -1).flatten(1, 2)
                for t in (mean, scale)
            )
        return ((wide - to_map(mean, axes)) * to_map(scale, axes)).to(part.dtype)

    out = by_slices(normalise, x, per_group)
    if weight is not None:
        out = out * weight.view(-1, 1, 1)
    if bias is not None:
        out = out + bias.view(-1, 1, 1)
    return out
