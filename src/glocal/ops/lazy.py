"""The statistics of `glocal.ops` as lazy maps, for converted modules.

Each function takes the arguments of its namesake in `glocal.ops` and returns the same values.
Without gradients the result is a `WindowMap`, which stores one value per window and looks like the
full map to torch. What is made of it alone is computed once per window, and no full map is written
where it meets pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops.crops import recorded
from glocal.ops.forms import moment_windows_of, windows_of
from glocal.ops.moments import global_moments
from glocal.ops.numerics import by_slices, sum_dtype
from glocal.ops.windows import Crops, Precision, Size, Window

__all__ = ["local_max", "local_mean", "local_moments", "local_norm", "local_sum"]


def local_mean(x: Tensor, window: Window, precision: Precision = "exact") -> Tensor:
    """`ops.local_mean` as a lazy map."""
    if isinstance(window, Crops):
        return _of_crops(x, lambda: x.mean((-2, -1), keepdim=True))
    windows = windows_of(x, window, precision)
    if windows.cover_map:
        return x.mean((-2, -1), keepdim=True)
    return windows.as_map(windows.means(x.to(sum_dtype(x))).to(x.dtype))


def local_sum(x: Tensor, window: Window, precision: Precision = "exact") -> Tensor:
    """`ops.local_sum` as a lazy map."""
    if isinstance(window, Crops):
        return _of_crops(x, lambda: x.sum((-2, -1), keepdim=True))
    windows = windows_of(x, window, precision)
    if windows.cover_map:
        return x.sum((-2, -1), keepdim=True)
    return windows.as_map(windows.sums(x.to(sum_dtype(x))).to(x.dtype))


def local_max(x: Tensor, window: Window) -> Tensor:
    """`ops.local_max` as a lazy map."""
    if isinstance(window, Crops):
        return _of_crops(x, lambda: x.amax((-2, -1), keepdim=True))
    # In eager mode tied maxima share the gradient, as in torch; the operator gives it to the first.
    windows = windows_of(x, window, operators_train=False)
    if windows.cover_map:
        return x.amax((-2, -1), keepdim=True)
    return windows.as_map(by_slices(windows.maxima, x))


def local_norm(x: Tensor, window: Window, precision: Precision = "exact") -> Tensor:
    """`ops.local_norm` as a lazy map."""
    if isinstance(window, Crops):
        return _of_crops(x, lambda: torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True))
    windows = windows_of(x, window, precision)
    if windows.cover_map:
        whole: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
        return whole
    total = windows.sums(x.to(sum_dtype(x)).square())
    # The derivative of the root is infinite at 0; that of a norm is 0 there, by convention.
    root = total.clamp_min(torch.finfo(total.dtype).tiny).sqrt() * (total > 0)
    return windows.as_map(root.to(x.dtype))


def local_moments(
    x: Tensor,
    window: Window,
    *,
    groups: int | None = None,
    correction: int = 0,
    precision: Precision = "exact",
) -> tuple[Tensor, Tensor]:
    """`ops.local_moments` as lazy maps."""
    groups = x.shape[1] if groups is None else groups
    if x.shape[1] % groups:
        raise ArgumentError(
            f"groups must divide the channels: got {groups} groups of {x.shape[1]} channels"
        )
    if isinstance(window, Crops):
        mean, variance = recorded(_size(x), lambda: global_moments(x, groups, correction))
        return mean, variance
    windows = moment_windows_of(x, window, precision)
    mean, variance = windows.moments(x, groups)
    if correction:
        number = windows.pixels * (x.shape[1] // groups)
        spare = number - correction
        # A number stays one: a compiler would make a constant of a tensor.
        spare = spare.clamp_min(0) if isinstance(spare, Tensor) else max(spare, 0)
        variance = variance * number / spare
    return windows.as_map(mean), windows.as_map(variance)


def _of_crops(x: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """A statistic of a map from crops; `compute` makes it from the whole map."""
    return recorded(_size(x), lambda: (compute(),))[0]


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]
