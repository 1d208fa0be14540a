"""Dtypes that sums accumulate in, and slices that fit the processor's cache."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from glocal.devices import has_float64
from glocal.ops.kernels.plain import is_plain, is_transformed
from glocal.ops.programs import is_recording

__all__ = [
    "by_slices",
    "needs_no_care",
    "no_autocast",
    "sum_dtype",
    "weighted_sum",
    "widest_dtype",
]

SLICE_PIXELS = 1 << 20
"""Pixels of a slice: a few temporaries of that size fit the cache of a processor core."""


def sum_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which sums over `x` accumulate: float32 at least."""
    # torch 2.6 exports `torch.promote_types` as an operation, which it cannot load again.
    return x.dtype if x.dtype == torch.float64 else torch.float32


def widest_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which second moments accumulate: float64 where the device has it."""
    return torch.float64 if has_float64(device) else torch.float32


def contracted(weights: Tensor, values: Tensor) -> Tensor:
    """The sum over the last dim of weights and the first of values."""
    product: Tensor = torch.tensordot(weights, values, 1)
    return product


def needs_no_care(values: Tensor) -> bool:
    """True if `weighted_sum` need not look for values that are not finite, as there are none.

    True as well where torch has to see every operation: a program has no branch on values.
    """
    return is_recording() or is_transformed(values) or bool(values.isfinite().all())


def weighted_sum(
    weights: Tensor,
    values: Tensor,
    product: Callable[[Tensor, Tensor], Tensor] = contracted,
    is_finite: bool | None = None,
) -> Tensor:
    """product(weights, values), in which 0 times a value that is not finite is 0.

    Args:
        weights: not negative.
        values: few, as they are looked at first.
        product: a sum of products of weights and values.
        is_finite: what `needs_no_care` says of the values, where that is known.
    """
    if needs_no_care(values) if is_finite is None else is_finite:
        return product(weights, values)
    wrong = ~values.isfinite()
    spoiled = product((weights != 0).to(values.dtype), wrong.to(values.dtype)) > 0
    return product(weights, values.masked_fill(wrong, 0)).masked_fill(spoiled, torch.nan)


def no_autocast(device: str) -> AbstractContextManager[Any]:
    """Turn autocast off, which would narrow the dtype of products."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def by_slices(f: Callable[[Tensor], Tensor], x: Tensor, channels: int = 1) -> Tensor:
    """f(x), computed on a few images and channels at a time where that saves memory.

    A slice whose temporaries fit the processor's cache is several times faster on a CPU than the
    whole tensor. Where torch has to see every operation, f gets the whole tensor.

    Args:
        f: (b, c, h, w) to (b, c, ...), each group of channels for itself.
        x: (b, c, h, w).
        channels: in a group.
    """
    if is_recording() or not is_plain(x):
        return f(x)
    b, c, h, w = x.shape
    step = channels * max(1, SLICE_PIXELS // (channels * h * w))
    if b == 1 and step >= c:
        return f(x)
    out = None
    for i in range(b):
        for first in range(0, c, step):
            part = f(x[i : i + 1, first : first + step])
            if out is None:
                out = part.new_empty((b, c, *part.shape[2:]))
            out[i, first : first + step] = part[0]
    assert out is not None
    return out
