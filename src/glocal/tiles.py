"""Where tiles lie and how they are blended; sizes only, no images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from glocal.errors import ArgumentError

__all__ = ["Axis", "grid", "tile_starts"]


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

    def weights(self, scale: int) -> list[Tensor]:
        """Triangles over the tiles, divided by their sum: neighbours fade linearly."""
        length = self.tile * scale
        ramp = torch.arange(1, length + 1, dtype=torch.float64)
        triangle = torch.minimum(ramp, ramp.flip(0))
        total = torch.zeros(self.size * scale, dtype=torch.float64)
        for start in self.starts:
            total[start * scale :][:length] += triangle
        return [triangle / total[start * scale :][:length] for start in self.starts]


def grid(size: tuple[int, int], tile: tuple[int, int], overlap: int | None) -> tuple[Axis, Axis]:
    """The tiles of both axes; an overlap of None is an eighth of the tile."""
    rows, columns = (
        Axis(s, min(s, t), tile_starts(s, t, max(t, 1) // 8 if overlap is None else overlap))
        for s, t in zip(size, tile, strict=True)
    )
    return rows, columns
