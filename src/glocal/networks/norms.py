"""Layer normalisation over the channels of each pixel, which several networks share."""

import torch
from torch import Tensor
from torch.nn import functional as F

from glocal.ops import traced

__all__ = ["channel_norm"]


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise the channels of each pixel of (b, c, h, w); weight and bias (c,).

    Statistics are taken in float32 at least, so that half precision neither overflows nor loses
    the variance; the result has the dtype of x. A channels-last map goes through one kernel,
    several times faster on a CPU.
    """
    # A program would be bound to the memory format that it was made with, and to its sizes.
    followed = traced.is_tracing() or traced.is_compiling()
    if not followed and x.is_contiguous(memory_format=torch.channels_last):
        normal = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps)
        return normal.permute(0, 3, 1, 2).to(x.dtype)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    scale, shift = (t.to(wide.dtype).view(1, -1, 1, 1) for t in (weight, bias))
    return (centred * torch.rsqrt(variance + eps) * scale + shift).to(x.dtype)
