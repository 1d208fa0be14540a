"""Interpolate window values to pixels, as products with a matrix of weights."""

import torch
from torch import Tensor

from glocal.ops.numerics import weighted_sum, widest_dtype
from glocal.ops.windows import AxisWindows

__all__ = [
    "along_rows",
    "channels_last",
    "down_columns",
    "interpolation_weights",
    "window_of_pixel",
]


def window_of_pixel(axis: AxisWindows, device: torch.device) -> Tensor:
    """Return the window index of each pixel, (size,); fractional between two windows."""
    if axis.centres:
        centres = torch.tensor(axis.centres, dtype=torch.float64)
        pixels = torch.arange(axis.size, dtype=torch.float64)
        left = torch.searchsorted(centres, pixels, right=True).sub(1).clamp(0, axis.count - 2)
        share = (pixels - centres[left]) / (centres[left + 1] - centres[left])
        return (left + share.clamp(0, 1)).to(device, widest_dtype(device))
    place = (torch.arange(axis.size, device=device) - axis.before).clamp_min(0)
    if axis.step > 1:
        place = place / axis.step
    return place.clamp_max(axis.count - 1)


def interpolation_weights(axis: AxisWindows, like: Tensor) -> Tensor:
    """Return the weights (size, count) of window values at pixels; rows sum to 1."""
    number = torch.arange(axis.count, device=like.device)
    distance = (window_of_pixel(axis, like.device)[:, None] - number).abs()
    return (1 - distance).clamp_min(0).to(like.dtype)


def along_rows(values: Tensor, weights: Tensor) -> Tensor:
    """Interpolate (..., rows, windows) to (..., rows, w) by weights (w, windows).

    The memory format stays the same.
    """
    if channels_last(values):
        rows = values.permute(0, 2, 3, 1)
        return weighted_sum(weights, rows, torch.matmul).permute(0, 3, 1, 2)
    return weighted_sum(weights, values, lambda w, v: v @ w.mT)


def down_columns(weights: Tensor, x: Tensor, is_finite: bool | None = None) -> Tensor:
    """Interpolate (..., windows, w) to (..., rows, w) by weights (rows, windows).

    The memory format stays the same. `is_finite` is as for `weighted_sum`.
    """
    if not channels_last(x):
        return weighted_sum(weights, x, torch.matmul, is_finite)
    rows = x.permute(0, 2, 3, 1)
    summed = weighted_sum(weights, rows.flatten(2), torch.matmul, is_finite)
    made: Tensor = summed.unflatten(2, rows.shape[2:])
    return made.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> bool:
    """True for (b, c, h, w) in the channels-last memory format."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
