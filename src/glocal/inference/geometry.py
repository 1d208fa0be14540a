"""Where tiles lie and how they are blended; sizes only, no images."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from glocal.errors import ArgumentError

__all__ = [
    "ALIGN",
    "BLENDS",
    "AxisTiles",
    "Blend",
    "Part",
    "Piece",
    "aligned",
    "grid",
    "halved",
    "largest_tile",
    "part",
    "parts",
    "pieces",
    "tile_starts",
]

Blend: TypeAlias = Literal["linear", "mean", "cut"]
BLENDS: tuple[Blend, ...] = get_args(Blend)
"""How overlapping tiles become one image, see `AxisTiles.weights`."""

ALIGN = 64
"""Pixels of whose multiples tiles with a halo begin: as often as networks halve an image."""


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
class AxisTiles:
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


def grid(
    size: tuple[int, int], tile: tuple[int, int], overlap: int | None
) -> tuple[AxisTiles, AxisTiles]:
    """The tiles of both axes; an overlap of None is an eighth of the tile."""
    rows, columns = (
        AxisTiles(s, min(s, t), tile_starts(s, t, max(t, 1) // 8 if overlap is None else overlap))
        for s, t in zip(size, tile, strict=True)
    )
    return rows, columns


@dataclass(frozen=True)
class Part:
    """Of one axis: the pixels that are kept of a tile, and those the network sees for them.

    Attributes:
        start, stop: the core, kept.
        first, end: what is seen: the core and a halo, which is thrown away.
    """

    start: int
    stop: int
    first: int
    end: int

    @property
    def seen(self) -> int:
        """How many pixels the network sees."""
        return self.end - self.first


@dataclass(frozen=True)
class Piece:
    """A tile whose core becomes a part of the result; every pixel comes from one core."""

    rows: Part
    columns: Part

    @property
    def seen(self) -> tuple[int, int]:
        """(height, width) of what the network sees."""
        return self.rows.seen, self.columns.seen


def part(start: int, stop: int, size: int, halo: int) -> Part:
    """A core with a halo, which begins and ends at multiples of `ALIGN` or at the border.

    >>> part(64, 128, size=300, halo=32)
    Part(start=64, stop=128, first=0, end=192)
    """
    return Part(start, stop, max(0, _down(start - halo)), min(size, aligned(stop + halo)))


def parts(size: int, tile: int, halo: int) -> list[Part]:
    """The fewest tiles of an axis that see at most ``tile`` pixels, cores evenly long.

    Cores meet at multiples of `ALIGN`, so that what a network halves and halves again lies
    alike in the tile and in the image.

    >>> [(each.start, each.stop, each.seen) for each in parts(1000, tile=512, halo=64)]
    [(0, 384, 448), (384, 704, 448), (704, 1000, 360)]

    Raises:
        ArgumentError: a tile has no room for a core.
    """
    if size <= tile:
        return [Part(0, size, 0, size)]
    edge = aligned(halo)
    core = _down(tile) - 2 * edge
    if core < ALIGN:
        raise ArgumentError(
            f"tiles of {tile} pixels have no room for a halo of {halo} on both sides; "
            f"they need {2 * edge + ALIGN} or more"
        )
    count = max(2, math.ceil((size - 2 * edge) / core))
    step = (size - 2 * edge) / count
    inner = (aligned(math.ceil(edge + step * index)) for index in range(1, count))
    edges = [0, *inner, size]
    return [part(a, b, size, halo) for a, b in itertools.pairwise(edges)]


def pieces(size: tuple[int, int], tile: tuple[int, int], halo: int) -> list[Piece]:
    """The tiles of an image, row by row; see `parts`."""
    rows, columns = (parts(s, t, halo) for s, t in zip(size, tile, strict=True))
    return [Piece(row, column) for row in rows for column in columns]


def largest_tile(size: tuple[int, int], halo: int, pixels: float) -> tuple[int, int] | None:
    """The tile of no more than these pixels with which the network sees the fewest in all.

    >>> largest_tile((1000, 4000), halo=64, pixels=1_000_000)
    (1000, 960)

    Returns:
        (height, width), or None where not even the smallest core and its halo fit.
    """
    least = 2 * aligned(halo) + ALIGN
    heights = {size[0], *range(least, size[0], ALIGN)}
    best: tuple[tuple[int, int], tuple[int, int]] | None = None
    for height in heights:
        width = size[1] if height * size[1] <= pixels else _down(int(pixels / height))
        if width < min(least, size[1]):
            continue
        seen = (
            sum(p.seen for p in parts(s, t, halo))
            for s, t in zip(size, (height, width), strict=True)
        )
        rank = math.prod(seen), -height * width
        if best is None or (rank, (height, width)) < best:
            best = rank, (height, width)
    return None if best is None else best[1]


def halved(piece: Piece, size: tuple[int, int], halo: int) -> tuple[Piece, Piece] | None:
    """A piece as two, cut across the longer side of its core; None where it is too small."""
    rows, columns = piece.rows, piece.columns
    across = rows.stop - rows.start < columns.stop - columns.start
    whole, length = (columns, size[1]) if across else (rows, size[0])
    middle = aligned((whole.start + whole.stop) // 2)
    if not whole.start < middle < whole.stop:
        return None
    first = part(whole.start, middle, length, halo)
    second = part(middle, whole.stop, length, halo)
    if across:
        return Piece(rows, first), Piece(rows, second)
    return Piece(first, columns), Piece(second, columns)


def _down(pixels: int) -> int:
    return pixels // ALIGN * ALIGN


def aligned(pixels: int) -> int:
    """The next multiple of `ALIGN`."""
    return -(-pixels // ALIGN) * ALIGN
