"""Inputs: white noise, and maps with a large mean, which cause cancellation."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

LARGE_MEAN, SMALL_SPREAD = 30.0, 0.1


def noise(shape: tuple[int, ...], device: str, dtype: str) -> Tensor:
    """White noise in [0, 1]."""
    made = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return made.to(device, getattr(torch, dtype))


def offset(shape: tuple[int, ...], device: str, dtype: str) -> Tensor:
    """A large mean with a small spread."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (LARGE_MEAN + SMALL_SPREAD * made).to(device, getattr(torch, dtype))


INPUTS = {"noise": noise, "mean 30": offset}


def largest_errors(
    variants: Mapping[str, Callable[..., Tensor]],
    truth: Callable[..., Tensor],
    inputs: Mapping[str, tuple[Tensor, ...]],
) -> dict[str, dict[str, float | None]]:
    """Largest absolute error by input and variant; None if not finite."""
    found: dict[str, dict[str, float | None]] = {}
    for name, given in inputs.items():
        right = truth(*given)
        found[name] = {}
        for variant, call in variants.items():
            error = (call(*given).double() - right).abs().max().item()
            found[name][variant] = float(f"{error:.3g}") if math.isfinite(error) else None
    return found
