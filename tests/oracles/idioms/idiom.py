"""The type of an idiom, and the two laws that define what its local form computes.

Both laws run the block itself on crops, so they apply to any block. If something besides the
global operation mixes pixels (convolutions, a second global operation), neither law holds for the
whole block, and the idiom has a separate reference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from oracles.ops import attention_starts, window_start

Law = Literal["windows", "tiles", "grid"]
Size = tuple[int, int]
Reference = Callable[[nn.Module, Tensor, Size], Tensor]


@dataclass(frozen=True)
class Idiom:
    """A block that uses a global operation, and what its local form must compute.

    Attributes:
        name: of the test.
        make: makes a new block, which takes a (b, 8, h, w) tensor and returns a map.
        law: "windows" for statistics; "tiles" for operations that mix pixels; "grid" for tiles of
            the training size. For an idiom with a reference: the law that holds if all taps of
            the convolutions except the centre are zero, or None.
        reference: slow local form, from (block, x, window in pixels of x) to the map.
        reason: why the block has to stay global; None if it has to be converted.
        may_refuse: True if the block may also stay global.
        train: height and width of the training crops.
        multiple: height and width of x have to be multiples of it.
        needs: optional package that the block imports.
    """

    name: str
    make: Callable[[], nn.Module]
    law: Law | None
    reference: Reference | None = None
    reason: str | None = None
    may_refuse: bool = False
    train: int = 12
    multiple: int = 1
    needs: str | None = None

    def expected(self, block: nn.Module, x: Tensor, window: Size) -> Tensor:
        """Return what the local form of the block has to return for x."""
        if self.reference is not None:
            return self.reference(block, x.clone(), window)
        return self.by_law(block, x, window)

    def by_law(self, block: nn.Module, x: Tensor, window: Size) -> Tensor:
        if self.law == "windows":
            return by_windows(block, x, window)
        if self.law == "grid":
            window = (self.train, self.train)
        return by_tiles(block, x, window=window)


def by_windows(whole: Callable[[Tensor], Tensor], x: Tensor, window: Size) -> Tensor:
    """Return the map with whole(x[window of p])[p] at pixel p; `whole` keeps the map's size."""
    patches, rows, columns = _patches(x, window)
    out = whole(patches)
    b, (h, w) = x.shape[0], x.shape[2:]
    out = out.reshape(b, h, w, *out.shape[1:])
    i, j = torch.arange(h)[:, None], torch.arange(w)[None, :]
    return out[:, i, j, :, i - rows[:, None], j - columns[None, :]].permute(2, 3, 0, 1)


def statistic(f: Callable[[Tensor], Tensor], x: Tensor, window: Size) -> Tensor:
    """Return the map with f(x[window of p]) at pixel p; f maps (n, c, kh, kw) to (n, c')."""
    patches, _, _ = _patches(x, window)
    out = f(patches).reshape(x.shape[0], *x.shape[2:], -1)
    return out.permute(0, 3, 1, 2)


def by_tiles(whole: Callable[..., Tensor], *maps: Tensor, window: Size) -> Tensor:
    """Return the average of whole(*crops) over overlapping windows; `whole` returns a map."""
    h, w = maps[0].shape[-2:]
    kh, kw = min(window[0], h), min(window[1], w)
    total, count = None, torch.zeros(h, w, dtype=maps[0].dtype)
    for top in attention_starts(h, kh):
        for left in attention_starts(w, kw):
            here = (..., slice(top, top + kh), slice(left, left + kw))
            part = whole(*(m[here].clone() for m in maps))
            if total is None:
                total = part.new_zeros(*part.shape[:-2], h, w)
            total[here] += part
            count[here] += 1
    return total / count


def halved(window: Size) -> Size:
    """Return the window on a map of half the size."""
    return (window[0] // 2, window[1] // 2)


def _patches(x: Tensor, window: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return the window of each pixel, (b · h · w, c, kh, kw), and their first rows and columns."""
    h, w = x.shape[2:]
    kh, kw = min(window[0], h), min(window[1], w)
    rows = torch.tensor([window_start(i, kh, h) for i in range(h)])
    columns = torch.tensor([window_start(j, kw, w) for j in range(w)])
    y = (rows[:, None] + torch.arange(kh))[:, None, :, None]
    z = (columns[:, None] + torch.arange(kw))[None, :, None, :]
    patches = x[:, :, y, z].permute(0, 2, 3, 1, 4, 5)
    return patches.reshape(-1, x.shape[1], kh, kw), rows, columns
