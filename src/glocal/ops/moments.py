"""Mean and variance over windows from window means, and of groups of channels."""

from collections.abc import Callable

import torch
from torch import Tensor

from glocal.ops.numerics import widest_dtype

__all__ = [
    "finite_centre",
    "global_moments",
    "group_channels",
    "merge_moments",
    "moments_by_means",
    "scale_and_shift",
]


def moments_by_means(
    x: Tensor,
    groups: int,
    means: Callable[[Tensor, int], Tensor],
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance over windows and groups of channels.

    Args:
        x: (b, c, h, w).
        groups: number of groups of channels.
        means: of a map (b, groups, h, w) that is the sum of a number of channels, to window sums
            ÷ (pixels of a window · channels).
        dtype: of the sums; `widest_dtype` by default.

    Returns:
        2 × (b, groups, ...) as `means` has them, in that dtype; no variance is negative.
    """
    wide = group_channels(x.to(dtype or widest_dtype(x.device)), groups)
    # The variance does not change if a constant is subtracted. The mean of the whole map leaves
    # the smallest squares, so that a small deviation beside a large mean keeps its digits.
    centre = finite_centre(wide)
    offset = wide - centre
    channels = x.shape[1] // groups
    first = means(offset.sum(2), channels)
    second = means(offset.square().sum(2), channels)
    return first + centre[:, :, 0], (second - first.square()).clamp_min(0)


def finite_centre(x: Tensor) -> Tensor:
    """Mean of each group (b, groups, channels, h, w) as (b, groups, 1, 1, 1); 0 if not finite.

    It is subtracted from all pixels: one that is not finite would spoil those of all windows.
    """
    return x.mean((2, 3, 4), keepdim=True).nan_to_num(0, 0, 0)


def global_moments(x: Tensor, groups: int, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the whole map and groups, 2 × (b, groups, 1, 1)."""
    wide = group_channels(x.to(widest_dtype(x.device)), groups)
    variance, mean = torch.var_mean(wide, (2, 3, 4), correction=correction)
    return mean[..., None, None], variance[..., None, None]


def merge_moments(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Merge moments of channels into those of groups; no variance is negative.

    Args:
        mean, variance: (b, c, h, w).
        groups: number of groups of channels.

    Returns:
        2 × (b, groups, h, w).
    """
    if groups == mean.shape[1]:
        return mean, variance
    between, centre = torch.var_mean(group_channels(mean, groups), 2, correction=0)
    return centre, group_channels(variance, groups).mean(2) + between


def group_channels(x: Tensor, groups: int) -> Tensor:
    """(b, c, h, w) to (b, groups, c / groups, h, w)."""
    if groups == x.shape[1]:
        return x.unsqueeze(2)  # tracers would not see that the map is not split
    split: Tensor = x.unflatten(1, (groups, -1))
    return split


def scale_and_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x · weight + bias by channel: (b, c, h, w), weight and bias (c,) or None."""
    x = x if weight is None else x * weight.view(-1, 1, 1)
    return x if bias is None else x + bias.view(-1, 1, 1)
