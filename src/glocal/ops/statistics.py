"""Statistics over the window of every pixel, as plain tensors."""

from torch import Tensor

from glocal.ops import lazy
from glocal.ops.window_map import full_map
from glocal.ops.windows import Precision, Window

__all__ = ["local_max", "local_mean", "local_moments", "local_norm", "local_sum"]


def local_mean(x: Tensor, window: Window, precision: Precision = "exact") -> Tensor:
    """Mean over the window of each pixel.

    Source: TLC (arXiv 2112.04491), section 3.

    >>> import torch
    >>> local_mean(torch.arange(5.0).view(1, 1, 1, 5), (1, 3)).flatten().tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        precision: "exact", or "fast" within the bound stated in `glocal.ops`.

    Returns:
        (b, c, h or 1, w or 1) in the dtype of `x`: 1 where the window covers the axis.
    """
    return full_map(lazy.local_mean(x, window, precision))


def local_sum(x: Tensor, window: Window, precision: Precision = "exact") -> Tensor:
    """Sum over the window of each pixel.

    >>> import torch
    >>> local_sum(torch.ones(1, 1, 4, 5), (2, 9)).flatten().tolist()
    [10.0, 10.0, 10.0, 10.0]

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        precision: "exact", or "fast" within the bound stated in `glocal.ops`.

    Returns:
        (b, c, h or 1, w or 1) in the dtype of `x`: 1 where the window covers the axis.
    """
    return full_map(lazy.local_sum(x, window, precision))


def local_max(x: Tensor, window: Window) -> Tensor:
    """Maximum over the window of each pixel.

    >>> import torch
    >>> local_max(torch.tensor([[[[5.0, 1.0, 2.0, 0.0]]]]), (1, 2)).flatten().tolist()
    [5.0, 2.0, 2.0, 2.0]

    Args:
        x: (b, c, h, w).
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.

    Returns:
        (b, c, h or 1, w or 1) in the dtype of `x`: 1 where the window covers the axis.
    """
    return full_map(lazy.local_max(x, window))


def local_norm(x: Tensor, window: Window, precision: Precision = "exact") -> Tensor:
    """L2 norm (root of the sum of squares) over the window of each pixel.

    Source: GRN, ConvNeXt V2 (arXiv 2301.00808), equation 1.

    >>> import torch
    >>> local_norm(torch.tensor([[[[3.0, 4.0, 0.0]]]]), (1, 2)).flatten().tolist()
    [5.0, 4.0, 4.0]

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        precision: "exact" or "fast".

    Returns:
        (b, c, h or 1, w or 1) in the dtype of `x`: 1 where the window covers the axis.
    """
    return full_map(lazy.local_norm(x, window, precision))


def local_moments(
    x: Tensor,
    window: Window,
    *,
    groups: int | None = None,
    correction: int = 0,
    precision: Precision = "exact",
) -> tuple[Tensor, Tensor]:
    """Mean and variance over each pixel's window and each group of channels.

    >>> import torch
    >>> mean, variance = local_moments(torch.tensor([[[[1.0, 3.0, 3.0, 5.0]]]]), (1, 2))
    >>> mean.flatten().tolist(), variance.flatten().tolist()
    ([2.0, 3.0, 4.0, 4.0], [1.0, 0.0, 1.0, 1.0])

    Args:
        x: (b, c, h, w), floating point.
        window: (height, width) in pixels of `x`, which may be larger than the map; or `CROPS`.
        groups: number of groups of channels; each channel alone when None.
        correction: subtracted from the number of values in the variance's divisor (1: unbiased).
        precision: "exact", or "fast": each moment within the bound in `glocal.ops`, of its range.

    Returns:
        mean and variance, (b, groups, h or 1, w or 1), in float64 where the device has it, else
        float32; the variance is never negative.

    Raises:
        ArgumentError: the groups do not divide the channels.
    """
    mean, variance = lazy.local_moments(
        x, window, groups=groups, correction=correction, precision=precision
    )
    return full_map(mean), full_map(variance)
