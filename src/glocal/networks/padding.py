"""Padding to the multiple that a network's downsampling needs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from glocal.ops import traced

__all__ = ["crop", "missing", "pad_to_multiple"]


def missing(size: int, multiple: int) -> int:
    """What a size lacks to the next multiple.

    In this form compilers see that size and lack add up to a multiple.

    >>> missing(13, 8), missing(16, 8)
    (3, 0)
    """
    return (size + multiple - 1) // multiple * multiple - size


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (b, c, h, w) below and right until h and w are multiples of `multiple`.

    The border is reflected, or replicated where the image is too small to be reflected.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.rand(1, 3, 13, 16), 8).shape
        torch.Size([1, 3, 16, 16])
    """
    height, width = x.shape[-2:]
    bottom, right = missing(height, multiple), missing(width, multiple)
    if _at_any_size():
        return _pad_at_any_size(x, height + bottom, width + right)
    if bottom == 0 and right == 0:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left part of (b, c, h, w), which undoes the padding."""
    if not _at_any_size():
        return x[..., :height, :width]
    # A slice asks whether the map is large enough, and whether anything is cut off.
    for dim, size in ((-2, height), (-1, width)):
        x = x.index_select(dim, torch.arange(size, device=x.device))
    return x


def _at_any_size() -> bool:
    """Whether a branch on sizes would be frozen, refused or compiled for each anew."""
    return traced.is_tracing() or traced.is_compiling()


def _pad_at_any_size(x: Tensor, height: int, width: int) -> Tensor:
    """The same without a branch on sizes, by the source of each row and column."""
    places = [torch.arange(size, device=x.device) for size in (height, width)]
    lasts = [x.shape[-2] - 1, x.shape[-1] - 1]
    mirrored = [last - (last - place).abs() for place, last in zip(places, lasts, strict=True)]
    repeated = [place - (place - last).relu() for place, last in zip(places, lasts, strict=True)]
    reflect = (mirrored[0][-1] >= 0) & (mirrored[1][-1] >= 0)
    for dim, near, far in zip((-2, -1), mirrored, repeated, strict=True):
        x = x.index_select(dim, torch.where(reflect, near, far))
    return x
