"""Layer normalisation over the channels of each pixel, for several networks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from glocal.ops.numerics import sum_dtype
from glocal.ops.programs import program_form

__all__ = ["channel_norm"]


def _channel_norm_of_any_format(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`channel_norm` without a branch on the memory format, for recorded programs."""
    wide = x.to(sum_dtype(x))
    centred = wide - wide.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    scale, shift = (t.to(wide.dtype).view(1, -1, 1, 1) for t in (weight, bias))
    return (centred * torch.rsqrt(variance + eps) * scale + shift).to(x.dtype)


@program_form(_channel_norm_of_any_format)
def channel_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise the channels of each pixel.

    Statistics are computed in float32 at least, so that half precision neither overflows nor loses
    the variance. A channels-last map goes through one kernel, several times faster on a CPU.

    >>> x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    >>> channel_norm(x, torch.ones(2), torch.zeros(2), eps=0.0).flatten().tolist()
    [-1.0, 1.0]

    Args:
        x: (b, c, h, w), floating point.
        weight, bias: (c,).
        eps: added to the variance.

    Returns:
        (b, c, h, w) in the dtype of `x`.
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        normal = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps)
        return normal.permute(0, 3, 1, 2).to(x.dtype)
    return _channel_norm_of_any_format(x, weight, bias, eps)
