"""Tensors that may be computed with behind torch's back."""

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

__all__ = ["is_plain"]


def is_plain(x: Tensor) -> bool:
    """Whether a tensor has memory on the CPU, and all that is wanted of it are its values.

    Not where a gradient or a tangent is to come of it, nor inside of a transform of `torch.func`:
    those have to see every operation.
    """
    return (
        x.device.type == "cpu"
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and unpack_dual(x).tangent is None
    )
