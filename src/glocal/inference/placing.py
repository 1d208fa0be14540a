"""Where a network runs, and in which dtype."""

import torch
from torch import nn

from glocal.devices import usable_device
from glocal.errors import ArgumentError

__all__ = ["device_of", "dtype_of", "resolve_dtype"]


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of a network's parameters; float32 if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def resolve_dtype(model: nn.Module, dtype: torch.dtype | str | None) -> torch.dtype:
    """The dtype that the network computes in, by default its own.

    Raises:
        ArgumentError: the dtype is unknown, or neither the network's own nor one of autocast's.
    """
    own = dtype_of(model)
    if dtype is None:
        return own
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    narrow = (torch.bfloat16, torch.float16)
    if chosen != own and not (own == torch.float32 and chosen in narrow):
        raise ArgumentError(
            f"dtype={dtype} for a network of {own}; give {own}"
            + (", bfloat16 or float16" if own == torch.float32 else " or convert the network first")
        )
    return chosen


def device_of(model: nn.Module, device: torch.device | str | None) -> torch.device:
    """The given device, or by default the one that the network is on.

    Raises:
        ArgumentError: torch cannot use the given device.
    """
    if device is None:
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    return usable_device(device)
