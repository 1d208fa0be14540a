"""Where tiles lie and how they are blended; sizes only, no images."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from glocal.errors import ArgumentError

__all__ = ["BLENDS", "Axis", "Blend", "grid", "tile_starts"]

Blend: TypeAlias = Literal["linear", "mean", "cut"]
BLENDS: tuple[Blend, ...] = get_args(Blend)
"""How overlapping tiles become one image, see `Axis.weights`."""


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the fewest tiles that cover an axis and overlap by ``overlap`` or more.

    The tiles are spread evenly, from border to border; an axis no longer than a tile has one.

    >>> tile_starts(1280, 256, 32)
    [0, 205, 410, 614, 819, 1024]
    >>> tile_starts(200, 256, 32)
    [0]

    Raises:
        ArgumentError: the tile is not larger than the overlap, or a value is negative.
    """
    if size < 1 or not 0 <= overlap < tile:
        raise ArgumentError(
            f"tiles of {tile} pixels with an overlap of {overlap} cannot cover {size} pixels; "
            "the overlap must be at least 0 and smaller than the tile"
        )
    if size <= tile:
        return [0]
    last = math.ceil((size - tile) / (tile - overlap))
    return [round(step * (size - tile) / last) for step in range(last + 1)]


@dataclass(frozen=True)
class Axis:
    """The tiles of one axis and the weight of each of their pixels, for a given scale."""

    size: int
    tile: int
    starts: list[int]

    def weights(self, scale: int, blend: Blend = "linear") -> list[Tensor]:
        """The share of each tile in each of its pixels, which add up to 1; float64.

        "linear": triangles, so that neighbours fade into each other; "mean": all alike;
        "cut": a pixel is taken from the tile in which it lies farthest from the border.
        """
        length = self.tile * scale
        ramp = torch.arange(1, length + 1, dtype=torch.float64)
        share = torch.minimum(ramp, ramp.flip(0))
        places = [slice(start * scale, start * scale + length) for start in self.starts]
        shares = [torch.ones_like(share) if blend == "mean" else share] * len(places)
        if blend == "cut":
            deepest = torch.zeros(self.size * scale, dtype=torch.float64)
            owner = torch.zeros(self.size * scale, dtype=torch.long)
            for index, place in enumerate(places):
                owner[place][share > deepest[place]] = index
                deepest[place] = deepest[place].maximum(share)
            shares = [(owner[place] == i).double() for i, place in enumerate(places)]
        total = torch.zeros(self.size * scale, dtype=torch.float64)
        for place, each in zip(places, shares, strict=True):
            total[place] += each
        return [each / total[place] for place, each in zip(places, shares, strict=True)]


def grid(size: tuple[int, int], tile: tuple[int, int], overlap: int | None) -> tuple[Axis, Axis]:
    """The tiles of both axes; an overlap of None is an eighth of the tile."""
    rows, columns = (
        Axis(s, min(s, t), tile_starts(s, t, max(t, 1) // 8 if overlap is None else overlap))
        for s, t in zip(size, tile, strict=True)
    )
    return rows, columns
