"""Combine the pixels of every window, by runs of doubling length; and the adjoint of that.

Nothing is subtracted and no window's result holds a term from outside it, so that the rounding
error grows with log(window) and not with the image.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from glocal.windows import Size

__all__ = ["fold", "over_windows", "slide", "spread", "to_map"]

Combine = Callable[[Tensor, Tensor], Tensor]


def slide(x: Tensor, length: int, dim: int, combine: Combine) -> Tensor:
    """Combine every `length` neighbours along `dim`: n becomes n - length + 1.

    `combine` is associative. Runs of 1, 2, 4, ... neighbours are made by combining two of
    half the length, and those that the binary digits of `length` name are laid end to end.
    """
    valid = x.shape[dim] - length + 1
    result, run, offset = None, 1, 0
    while True:
        if length & run:
            piece = x.narrow(dim, offset, valid)
            result = piece if result is None else combine(result, piece)
            offset += run
        if 2 * run > length:
            assert result is not None
            return result
        n = x.shape[dim] - run
        x = combine(x.narrow(dim, 0, n), x.narrow(dim, run, n))
        run *= 2


def over_windows(x: Tensor, window: Size, combine: Combine) -> Tensor:
    """Combine every window wholly inside: (..., h - kh + 1, w - kw + 1)."""
    return slide(slide(x, window[0], -2, combine), window[1], -1, combine)


def to_map(valid: Tensor, size: Size) -> Tensor:
    """Give every pixel of a map the nearest valid result; covered axes stay 1."""
    padding = [0, 0, 0, 0]
    for axis, at in ((-1, 0), (-2, 2)):
        missing = size[axis] - valid.shape[axis]
        if valid.shape[axis] > 1:
            padding[at : at + 2] = missing // 2, missing - missing // 2
    return F.pad(valid, padding, mode="replicate") if any(padding) else valid


def fold(x: Tensor, window: Size) -> Tensor:
    """The adjoint of `to_map`, expanded to the whole map: (..., h, w) to the valid results'."""
    for dim, length in ((-2, window[0]), (-1, window[1])):
        missing = length - 1
        before, valid = missing // 2, x.shape[dim] - missing
        inner = x.narrow(dim, before, valid).clone()
        inner.narrow(dim, 0, 1).add_(x.narrow(dim, 0, before).sum(dim, keepdim=True))
        after = x.narrow(dim, before + valid, missing - before)
        inner.narrow(dim, valid - 1, 1).add_(after.sum(dim, keepdim=True))
        x = inner
    return x


def spread(valid: Tensor, window: Size) -> Tensor:
    """The adjoint of the sum of every window wholly inside: each pixel sums its windows."""
    down, across = window[0] - 1, window[1] - 1
    padded = F.pad(valid, (across, across, down, down))
    return over_windows(padded, window, lambda a, b: a + b)
