"""Which tensors C++ may read, without torch seeing it."""

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

__all__ = ["is_plain", "is_transformed", "wants_gradient"]


def is_plain(x: Tensor) -> bool:
    """True for a tensor in CPU memory of which only the values are wanted.

    False where a gradient or tangent is wanted, and inside a transform of `torch.func`: there
    torch has to see every operation. False for subclasses: a fake tensor has no memory.
    """
    if type(x) is not Tensor and type(x) is not nn.Parameter:
        return False
    return x.device.type == "cpu" and not wants_gradient(x) and not is_transformed(x)


def wants_gradient(x: Tensor) -> bool:
    """True if operations on `x` are recorded for `backward`."""
    return torch.is_grad_enabled() and x.requires_grad


def is_transformed(x: Tensor) -> bool:
    """True inside a `torch.func` transform, and for a tensor with a tangent."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(x)
    return wrapped or unpack_dual(x).tangent is not None
