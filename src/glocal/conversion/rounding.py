"""Whether two tensors differ by more than float rounding."""

import torch
from torch import Tensor

__all__ = ["agree", "differs", "same_values", "scale_of"]


def scale_of(t: Tensor) -> float:
    """The largest finite magnitude in a tensor; 1 for booleans."""
    if t.numel() == 0:
        return 0.0
    if not (t.is_floating_point() or t.is_complex()):
        return float(t.abs().max()) if t.dtype != torch.bool else 1.0
    finite = torch.nan_to_num(t.detach().abs().float(), 0.0, 0.0, 0.0)
    return float(finite.max())


def differs(a: Tensor, b: Tensor, scale: float, *, loose: bool) -> Tensor:
    """Where two tensors differ beyond float rounding."""
    if not (a.is_floating_point() or a.is_complex()):
        return a != b
    eps = torch.finfo(a.dtype).eps
    limit = eps * (2000 if loose else 200) * scale
    nan = a.isnan() & b.isnan()
    return ~(((a - b).abs() <= limit) | nan | (a == b))


def same_values(a: Tensor, b: Tensor) -> bool:
    """True for the same values: a norm makes a small difference a large one."""
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def agree(a: Tensor, b: Tensor) -> bool:
    """True if two tensors have one shape and are equal up to float rounding."""
    if a.shape != b.shape:
        return False
    return a.numel() == 0 or not bool(differs(a, b, scale_of(a), loose=True).any())
