"""Padding to the multiple that a network's downsampling needs.

A branch on the size would be frozen, refused or compiled for each size anew while a program is
recorded, so `pad_to_multiple` and `crop` have forms without one.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from glocal.ops.programs import program_form

__all__ = ["crop", "missing", "pad_to_multiple"]


def missing(size: int, multiple: int) -> int:
    """Number of pixels from a size to the next multiple.

    In this form compilers see that the size and this number add up to a multiple.

    >>> missing(13, 8), missing(16, 8)
    (3, 0)
    """
    return (size + multiple - 1) // multiple * multiple - size


def _pad_at_any_size(x: Tensor, height: int, width: int) -> Tensor:
    """Pad (b, c, h, w) to height and width by the index of each row and column in x."""
    places = [torch.arange(size, device=x.device) for size in (height, width)]
    lasts = [x.shape[-2] - 1, x.shape[-1] - 1]
    mirrored = [last - (last - place).abs() for place, last in zip(places, lasts, strict=True)]
    repeated = [
        place - (place - last).clamp_min(0) for place, last in zip(places, lasts, strict=True)
    ]
    reflect = (mirrored[0][-1] >= 0) & (mirrored[1][-1] >= 0)
    for dim, near, far in zip((-2, -1), mirrored, repeated, strict=True):
        x = x.index_select(dim, torch.where(reflect, near, far))
    return x


def _pad_to_multiple_at_any_size(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    bottom, right = missing(height, multiple), missing(width, multiple)
    return _pad_at_any_size(x, height + bottom, width + right)


def _crop_at_any_size(x: Tensor, height: int, width: int) -> Tensor:
    """`crop` by index: a slice branches on whether the map is larger."""
    for dim, size in ((-2, height), (-1, width)):
        x = x.index_select(dim, torch.arange(size, device=x.device))
    return x


@program_form(_pad_to_multiple_at_any_size)
def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad a map below and on the right until its height and width are multiples.

    The border is reflected, or replicated where the map is too small to be reflected.

    >>> pad_to_multiple(torch.rand(1, 3, 13, 16), 8).shape
    torch.Size([1, 3, 16, 16])

    Args:
        x: (b, c, h, w).
        multiple: in pixels.
    """
    height, width = x.shape[-2:]
    bottom, right = missing(height, multiple), missing(width, multiple)
    if bottom == 0 and right == 0:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


@program_form(_crop_at_any_size)
def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left part (b, c, height, width) of a map, which undoes the padding.

    >>> crop(torch.rand(1, 3, 16, 16), 13, 16).shape
    torch.Size([1, 3, 13, 16])
    """
    return x[..., :height, :width]
