"""Padding to the multiple that a network's downsampling needs."""

from torch import Tensor
from torch.nn import functional as F

__all__ = ["pad_to_multiple"]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (b, c, h, w) below and right until h and w are multiples of `multiple`.

    The border is reflected, or replicated where the image is too small to be reflected.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.rand(1, 3, 13, 16), 8).shape
        torch.Size([1, 3, 16, 16])
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)
