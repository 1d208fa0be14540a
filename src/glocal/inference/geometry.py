"""Positions of tiles and the weights that blend them: sizes only, no images.

A few lines above 300: small functions of whole numbers that use each other.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.ops.placement import ALIGN
from glocal.ops.windows import Size

__all__ = [
    "ALIGN",
    "BLENDS",
    "AxisTiles",
    "Blend",
    "Span",
    "Tile",
    "alignment",
    "best_tile_size",
    "halo_span",
    "halo_spans",
    "halo_tiles",
    "least_tile",
    "overlap_pixels",
    "overlapping_tiles",
    "round_up",
    "split_tile",
    "tile_starts",
]

LEAST_ALIGN = 16
"""Tiles begin at multiples of at least this many pixels, so that there are few sizes to compare."""

_MOST_HEIGHTS = 256

Blend: TypeAlias = Literal["linear", "mean", "cut"]
BLENDS: tuple[Blend, ...] = get_args(Blend)
"""How overlapping tiles are combined, see `AxisTiles.weights`."""


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Return the first pixels of the fewest tiles that cover an axis and overlap.

    The tiles are evenly spaced from border to border; an axis no longer than a tile has one.

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
    """Overlapping tiles along one axis.

    Attributes:
        size: pixels of the axis.
        length: pixels of each tile.
        starts: first pixel of each tile.
    """

    size: int
    length: int
    starts: list[int]

    def weights(self, scale: int, blend: Blend = "linear") -> list[Tensor]:
        """Return the weight of each pixel of each tile, float64; they sum to 1 per pixel.

        "linear" uses triangles, so that neighbours fade into each other; "mean" uses equal weights;
        "cut" takes a pixel from the tile in which it is farthest from the border.

        Args:
            scale: of the network: pixels of the result for each pixel of the image.
            blend: how tiles are combined.
        """
        length = self.length * scale
        ramp = torch.arange(1, length + 1, dtype=torch.float64)
        triangle = torch.minimum(ramp, ramp.flip(0))
        places = [slice(start * scale, start * scale + length) for start in self.starts]
        weights = [torch.ones_like(triangle) if blend == "mean" else triangle] * len(places)
        if blend == "cut":
            deepest = torch.zeros(self.size * scale, dtype=torch.float64)
            owner = torch.zeros(self.size * scale, dtype=torch.long)
            for index, place in enumerate(places):
                owner[place][triangle > deepest[place]] = index
                deepest[place] = deepest[place].maximum(triangle)
            weights = [(owner[place] == i).double() for i, place in enumerate(places)]
        total = torch.zeros(self.size * scale, dtype=torch.float64)
        for place, weight in zip(places, weights, strict=True):
            total[place] += weight
        return [weight / total[place] for place, weight in zip(places, weights, strict=True)]


def overlap_pixels(overlap: int | float | None, tile: int) -> int:
    """Return an overlap in pixels, from a fraction of the tile or None (an eighth).

    >>> overlap_pixels(32, 256), overlap_pixels(0.5, 256), overlap_pixels(None, 256)
    (32, 128, 32)
    """
    if isinstance(overlap, int):
        return overlap
    return int(tile * (1 / 8 if overlap is None else overlap))


def overlapping_tiles(
    size: Size, tile_size: Size, overlap: int | float | None, align: int = 1
) -> tuple[AxisTiles, AxisTiles]:
    """Overlapping tiles along both axes, which begin at multiples of an alignment.

    Tiles are up to ``align - 1`` pixels shorter than ``tile_size``, and overlap by as much less.
    Tiles of fewer than three alignments begin anywhere.

    >>> rows, _ = overlapping_tiles((203, 341), (192, 256), 64, align=16)
    >>> rows
    AxisTiles(size=203, length=187, starts=[0, 16])

    Args:
        size: (height, width) of the image.
        tile_size: (height, width) of a tile.
        overlap: as in `overlap_pixels`.
        align: in pixels.
    """
    rows, columns = (
        AxisTiles(s, s, [0]) if s <= t else _aligned(s, t, overlap, align)
        for s, t in zip(size, tile_size, strict=True)
    )
    return rows, columns


def _aligned(size: int, tile: int, overlap: int | float | None, align: int) -> AxisTiles:
    align = align if tile >= 3 * align else 1
    tile -= (tile - size) % align
    starts = tile_starts(size, tile, overlap_pixels(overlap, tile))
    return AxisTiles(size, tile, list(dict.fromkeys(n // align * align for n in starts)))


@dataclass(frozen=True)
class Span:
    """One axis of a tile with a halo, in pixels of the image.

    Attributes:
        core_start, core_stop: the core, whose result is used.
        start, stop: the core and its halo, which the network reads.
    """

    core_start: int
    core_stop: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Pixels that the network reads."""
        return self.stop - self.start


@dataclass(frozen=True)
class Tile:
    """A part of an image: its core and a halo, whose result is discarded.

    Attributes:
        rows, columns: along both axes.
    """

    rows: Span
    columns: Span

    @property
    def size(self) -> Size:
        """(height, width) that the network reads."""
        return self.rows.length, self.columns.length

    @property
    def pixels(self) -> int:
        """Pixels that the network reads."""
        return self.rows.length * self.columns.length

    @property
    def extent(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the network reads."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    def core(self, scale: int) -> tuple[slice, slice]:
        """Rows and columns of the core in the result of the whole image."""
        rows, columns = (
            slice(span.core_start * scale, span.core_stop * scale)
            for span in (self.rows, self.columns)
        )
        return rows, columns

    def core_in_tile(self, scale: int) -> tuple[slice, slice]:
        """Rows and columns of the core in the result of the tile."""
        rows, columns = (
            slice((span.core_start - span.start) * scale, (span.core_stop - span.start) * scale)
            for span in (self.rows, self.columns)
        )
        return rows, columns


def halo_span(start: int, stop: int, size: int, halo: int, align: int = ALIGN) -> Span:
    """Return the core [start, stop) with its halo, aligned or at the border.

    >>> halo_span(64, 128, size=300, halo=32)
    Span(core_start=64, core_stop=128, start=0, stop=192)
    """
    first, last = _round_down(start - halo, align), round_up(stop + halo, align)
    return Span(start, stop, max(0, first), min(size, last))


def halo_spans(size: int, length: int, halo: int, align: int = ALIGN) -> list[Span]:
    """Return the fewest tiles of an axis, at most ``length`` long, with even cores.

    Cores meet at multiples of ``align``, so that a network that halves the image again and again
    halves the tile at the same pixels.

    >>> [(each.core_start, each.core_stop, each.length) for each in halo_spans(1000, 512, halo=64)]
    [(0, 384, 448), (384, 704, 448), (704, 1000, 360)]

    Raises:
        ArgumentError: the tile is too small for a core between two halos.
    """
    if size <= length:
        return [Span(0, size, 0, size)]
    edge = round_up(halo, align)
    core = _round_down(length, align) - 2 * edge
    if core < align:
        raise ArgumentError(
            f"tiles of {length} pixels are too small for a halo of {halo} on both sides; "
            f"they need {least_tile(halo, align)} or more"
        )
    count = max(2, math.ceil((size - 2 * edge) / core))
    step = (size - 2 * edge) / count
    inner = (round_up(math.ceil(edge + step * index), align) for index in range(1, count))
    edges = [0, *inner, size]
    return [halo_span(a, b, size, halo, align) for a, b in itertools.pairwise(edges)]


def least_tile(halo: int, align: int = ALIGN) -> int:
    """Pixels of the shortest tile with a core between two halos."""
    return 2 * round_up(halo, align) + align


def halo_tiles(size: Size, tile_size: Size, halo: int, align: int = ALIGN) -> tuple[Tile, ...]:
    """The tiles of an image, row by row; see `halo_spans`."""
    rows, columns = (halo_spans(s, t, halo, align) for s, t in zip(size, tile_size, strict=True))
    return tuple(Tile(row, column) for row in rows for column in columns)


def best_tile_size(size: Size, halo: int, max_pixels: float, align: int = ALIGN) -> Size | None:
    """Return the tile size with which the network reads the fewest pixels in total.

    >>> best_tile_size((1000, 4000), halo=64, max_pixels=1_000_000)
    (1000, 960)

    Returns:
        (height, width); None if not even the smallest core and its halo fit.
    """
    least = least_tile(halo, align)
    step = round_up(max(1, size[0] // _MOST_HEIGHTS), align)
    heights = {size[0], *range(least, size[0], step)}
    best: tuple[tuple[int, int], Size] | None = None
    for height in heights:
        fits = height * size[1] <= max_pixels
        width = size[1] if fits else _round_down(int(max_pixels / height), align)
        if width < min(least, size[1]):
            continue
        read = (
            sum(span.length for span in halo_spans(s, t, halo, align))
            for s, t in zip(size, (height, width), strict=True)
        )
        rank = math.prod(read), -height * width
        if best is None or (rank, (height, width)) < best:
            best = rank, (height, width)
    return None if best is None else best[1]


def split_tile(tile: Tile, size: Size, halo: int, align: int = ALIGN) -> tuple[Tile, Tile] | None:
    """Split a tile across the longer side of its core; None if too small."""
    rows, columns = tile.rows, tile.columns
    across = rows.core_stop - rows.core_start < columns.core_stop - columns.core_start
    span, length = (columns, size[1]) if across else (rows, size[0])
    middle = round_up((span.core_start + span.core_stop) // 2, align)
    if not span.core_start < middle < span.core_stop:
        return None
    first = halo_span(span.core_start, middle, length, halo, align)
    second = halo_span(middle, span.core_stop, length, halo, align)
    if across:
        return Tile(rows, first), Tile(rows, second)
    return Tile(first, columns), Tile(second, columns)


def round_up(pixels: int, align: int = ALIGN) -> int:
    """The next multiple of an alignment."""
    return -(-pixels // align) * align


def _round_down(pixels: int, align: int) -> int:
    return pixels // align * align


def alignment(period: int, multiple: Size) -> int:
    """Return the pixels at whose multiples tiles begin, at least `LEAST_ALIGN`.

    >>> alignment(8, (1, 1)), alignment(0, (8, 16)), alignment(0, (7, 7)), alignment(0, (160, 160))
    (16, 64, 70, 160)

    Args:
        period: of the network in pixels; 0 if unknown: then tiles suit the published networks,
            whose period divides `ALIGN`.
        multiple: that the height and width of images must be of.
    """
    taken = math.lcm(*multiple)
    if period:
        align = math.lcm(period, taken)
    else:
        align = ALIGN if ALIGN % taken == 0 else round_up(ALIGN, taken)
    return round_up(LEAST_ALIGN, align)
