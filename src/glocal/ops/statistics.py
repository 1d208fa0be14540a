"""Statistics over the window of every pixel."""

import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops.kernels import native
from glocal.ops.windowed import (
    accumulating_dtype,
    axes_of,
    by_slices,
    clip,
    covers_map,
    is_followed,
    pixels_of_window,
    to_map,
    window_maxima,
    window_means,
    window_sums,
)
from glocal.ops.windows import AxisWindows, Precision, Size

__all__ = [
    "grouped",
    "local_max",
    "local_mean",
    "local_moments",
    "local_norm",
    "local_sum",
    "moments",
]


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
    window = clip(x, window)
    if covers_map(window, x):
        return x.mean((-2, -1), keepdim=True)
    axes = axes_of(x, window, precision)
    return to_map(window_means(x.to(accumulating_dtype(x)), window, axes).to(x.dtype), axes)


def local_sum(x: Tensor, window: Size, precision: Precision = "exact") -> Tensor:
    """Sum over the window of each pixel; as `local_mean`."""
    window = clip(x, window)
    if covers_map(window, x):
        return x.sum((-2, -1), keepdim=True)
    axes = axes_of(x, window, precision)
    total = window_sums(x.to(accumulating_dtype(x)), window, axes)
    return to_map(total.to(x.dtype), axes)


def local_max(x: Tensor, window: Size) -> Tensor:
    """Maximum over the window of each pixel; shapes as in `local_mean`."""
    window = clip(x, window)
    if covers_map(window, x):
        return x.amax((-2, -1), keepdim=True)
    axes = axes_of(x, window, "exact")
    return to_map(by_slices(lambda part: window_maxima(part, window), x), axes)


def local_norm(x: Tensor, window: Size, precision: Precision = "exact") -> Tensor:
    """L2 norm (root of the sum of squares) over the window of each pixel.

    As `local_mean`. Source: GRN, ConvNeXt V2 (arXiv 2301.00808), equation 1.
    """
    window = clip(x, window)
    if covers_map(window, x):
        whole: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
        return whole
    axes = axes_of(x, window, precision)
    total = window_sums(x.to(accumulating_dtype(x)).square(), window, axes)
    # The derivative of the root is infinite at 0; that of a norm is 0 there, by convention.
    root = total.clamp_min(torch.finfo(total.dtype).tiny).sqrt() * (total > 0)
    return to_map(root.to(x.dtype), axes)


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
    window = clip(x, window)
    mean, variance, axes = moments(x, window, groups, correction, precision)
    return to_map(mean, axes), to_map(variance, axes)


def moments(
    x: Tensor, window: Size, groups: int, correction: int, precision: Precision
) -> tuple[Tensor, Tensor, tuple[AxisWindows, AxisWindows]]:
    """`local_moments`, one value a window, and where the windows lie."""
    if not is_followed() and native.available(x, window):  # quicker than fast with torch
        axes = axes_of(x, window, "exact")
        mean, variance = _of_groups(*native.moments(x, window), groups)
    else:
        axes = axes_of(x, window, precision)
        mean, variance = _from_sums(x, window, groups, axes)
    if correction:
        pixels = pixels_of_window(x, window) * (x.shape[1] // groups)
        spare = pixels - correction
        # A tensor where a tracer looks. A number stays one: compilers would freeze its tensor.
        spare = spare.clamp_min(0) if isinstance(spare, Tensor) else max(spare, 0)
        variance = variance * pixels / spare
    return mean, variance, axes


def _from_sums(
    x: Tensor, window: Size, groups: int, axes: tuple[AxisWindows, AxisWindows]
) -> tuple[Tensor, Tensor]:
    wide = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    wide = grouped(wide, groups)
    # Any constant may be taken off before squaring; the mean of the whole map leaves least to
    # cancel, which is what keeps the variance exact for a large mean and a small spread.
    centre = wide.mean((2, 3, 4), keepdim=True)
    offset = wide - centre
    channels = x.shape[1] // groups
    first = window_means(offset.sum(2), window, axes, channels)
    second = window_means(offset.square().sum(2), window, axes, channels)
    return first + centre[:, :, 0], (second - first.square()).clamp_min(0)


def _of_groups(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Moments of groups of channels from those of each channel: none is ever negative."""
    if groups == mean.shape[1]:
        return mean, variance
    between, centre = torch.var_mean(grouped(mean, groups), 2, correction=0)
    return centre, grouped(variance, groups).mean(2) + between


def grouped(x: Tensor, groups: int) -> Tensor:
    """(b, groups, channels of a group, h, w)."""
    if groups == x.shape[1]:
        return x.unsqueeze(2)  # tracers would not see that the map is not split
    split: Tensor = x.unflatten(1, (groups, -1))
    return split
