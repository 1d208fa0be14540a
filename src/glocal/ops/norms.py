"""Instance, group and layer norm by the statistics of the window of every pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops.crops import recorded
from glocal.ops.forms import moment_windows_of, windows_of
from glocal.ops.kernels import native
from glocal.ops.kernels.plain import is_plain
from glocal.ops.moments import finite_centre, global_moments, group_channels, scale_and_shift
from glocal.ops.numerics import by_slices, sum_dtype
from glocal.ops.window_map import WindowMap
from glocal.ops.windows import Crops, Precision, Size, Window

__all__ = ["local_group_norm", "local_instance_norm", "local_layer_norm"]


def local_instance_norm(
    x: Tensor,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Instance norm by the mean and variance of each pixel's window.

    Source: TLC (arXiv 2112.04491), section 4.

    >>> local_instance_norm(torch.tensor([[[[0.0, 2.0, 6.0]]]]), (1, 2), eps=0.0).tolist()
    [[[[-1.0, -1.0, 1.0]]]]

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        weight, bias: (c,) or None.
        eps: added to the variance.
        precision: of the statistics, "exact" or "fast".

    Returns:
        (b, c, h, w) in the dtype of `x`.
    """
    if isinstance(window, Crops):
        return _from_crops(x, x.shape[1], weight, bias, eps)
    if windows_of(x, window).cover_map:
        # The kernel of F.instance_norm, which refuses a map of one pixel itself.
        cudnn = torch.backends.cudnn.enabled
        return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, cudnn)
    return _normalise(x, window, x.shape[1], weight, bias, eps, precision)


def local_group_norm(
    x: Tensor,
    groups: int,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Group norm by mean and variance of each pixel's window and channel group.

    >>> local_group_norm(torch.rand(1, 4, 8, 9), 2, (4, 4)).shape
    torch.Size([1, 4, 8, 9])

    Args:
        x: (b, c, h, w), floating point.
        groups: number of groups of channels.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        weight, bias: (c,) or None.
        eps: added to the variance.
        precision: of the statistics, "exact" or "fast".

    Returns:
        (b, c, h, w) in the dtype of `x`.

    Raises:
        ArgumentError: the groups do not divide the channels.
    """
    if x.shape[1] % groups:
        raise ArgumentError(
            f"groups must divide the channels: got {groups} groups of {x.shape[1]} channels"
        )
    if isinstance(window, Crops):
        return _from_crops(x, groups, weight, bias, eps)
    if windows_of(x, window).cover_map:
        return F.group_norm(x, groups, weight, bias, eps)
    return _normalise(x, window, groups, weight, bias, eps, precision)


def local_layer_norm(
    x: Tensor,
    window: Window,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    precision: Precision = "exact",
) -> Tensor:
    """Layer norm over the channels and the window of each pixel, affine by channel.

    This is `local_group_norm` with one group.

    >>> local_layer_norm(torch.rand(1, 4, 8, 9), (4, 4)).shape
    torch.Size([1, 4, 8, 9])

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        weight, bias: (c,) or None.
        eps: added to the variance.
        precision: of the statistics, "exact" or "fast".

    Returns:
        (b, c, h, w) in the dtype of `x`.
    """
    return local_group_norm(x, 1, window, weight, bias, eps, precision)


def _from_crops(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Group norm by the mean and 1 / deviation of crops."""

    def compute() -> tuple[Tensor, Tensor]:
        mean, variance = global_moments(x, groups)
        each = (mean, (variance + eps).rsqrt())
        mean, scale = (t.to(sum_dtype(x)).repeat_interleave(x.shape[1] // groups, 1) for t in each)
        return mean, scale

    mean, scale = recorded((x.shape[-2], x.shape[-1]), compute)
    if (
        type(mean) is WindowMap
        and type(scale) is WindowMap
        and native.takes(x)
        and all(t is None or is_plain(t) for t in (weight, bias))
    ):
        return native.normalise(x, mean.values, scale.values, mean.axes, weight, bias)
    wide = x.to(sum_dtype(x))
    return scale_and_shift(((wide - mean) * scale).to(x.dtype), weight, bias)


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
    if per_group == 1 and (weight is None) == (bias is None):
        whole = windows_of(x, window).instance_norm(x, weight, bias, eps)
        if whole is not None:
            return whole

    def normalise(part: Tensor) -> Tensor:
        here = part.shape[1] // per_group
        wide = group_channels(part.to(sum_dtype(part)), here)
        # A large mean has fewer digits for a small deviation, which rounding would take.
        wide = wide - finite_centre(wide)
        wide = wide.squeeze(2) if per_group == 1 else wide.flatten(1, 2)
        windows = moment_windows_of(wide, window, precision)
        mean, variance = windows.moments(wide, here)
        mean, scale = (t.to(wide.dtype) for t in (mean, (variance + eps).rsqrt()))
        if here > 1 and per_group > 1:
            mean, scale = (
                t.unsqueeze(2).expand(-1, -1, per_group, -1, -1).flatten(1, 2)
                for t in (mean, scale)
            )
        return ((wide - windows.as_map(mean)) * windows.as_map(scale)).to(part.dtype)

    return scale_and_shift(by_slices(normalise, x, per_group), weight, bias)
