"""Plan the tiles of an image: a pure function of sizes, measurements and options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glocal.errors import GlocalError
from glocal.inference.geometry import (
    ALIGN,
    Tile,
    best_tile_size,
    halo_tiles,
    least_tile,
    round_up,
    split_tile,
)
from glocal.inference.memory import MemoryNeed
from glocal.ops.placement import Extent, Placement, Resolution
from glocal.ops.windows import Size
from glocal.texts import size_text

__all__ = ["BOUND", "MAX_HALO_WINDOWS", "BlendedTiles", "Reach", "TilePlan", "plan"]

BOUND = 1 / 255
"""Maximum difference between a pixel of a tiled result and of the untiled one."""

MAX_HALO_WINDOWS = 3
"""Widest halo to consider, in windows of the network."""

LEAST_BLENDED = 32
"""Side of the smallest blended tile."""


@dataclass(frozen=True)
class Reach:
    """Measurements of a network on an image, see `glocal.inference.measure`.

    Attributes:
        halo: pixels from the border of a tile beyond which the border has no effect; None if
            image or memory are too small to measure it.
        error: the effect that remains there, as a difference of pixel values in [0, 1].
        need: memory of the network, None if that cannot be measured.
        resolutions: at which the network has grids of windows.
        align: pixels at whose multiples the tiles of the measurement began.
    """

    halo: int | None = None
    error: float = 0.0
    need: MemoryNeed | None = None
    resolutions: tuple[Resolution, ...] = ()
    align: int = ALIGN


@dataclass(frozen=True)
class TilePlan:
    """The tiles of an image, each with a halo.

    Attributes:
        size: (height, width) of the image.
        tile_size: (height, width) that the network reads at most.
        halo: of each tile, in pixels.
        doubt: why the halo may be too narrow, should an image of one tile be split; empty if it was
            measured.
        resolutions: at which the network has grids of windows.
        align: pixels at whose multiples tiles begin.
        error: largest difference to the result of the whole image that was measured.
        tiles: the tiles, row by row; each pixel of the image is in one core.

    Raises:
        ArgumentError: the tile is too small for the halo.
    """

    size: Size
    tile_size: Size
    halo: int
    doubt: str = ""
    resolutions: tuple[Resolution, ...] = ()
    align: int = ALIGN
    error: float = 0.0
    tiles: tuple[Tile, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Cut the image into tiles."""
        tiles = halo_tiles(self.size, self.tile_size, self.halo, self.align)
        object.__setattr__(self, "tiles", tiles)

    def split(self, tile: Tile) -> tuple[Tile, Tile] | None:
        """Two tiles for one that does not fit into memory; None if it is the smallest."""
        return split_tile(tile, self.size, self.halo, self.align)

    def placement(self, tile: Tile) -> Placement:
        """The position of a tile in the image."""
        return Placement(
            Extent(tile.rows.start, tile.rows.stop, self.size[0]),
            Extent(tile.columns.start, tile.columns.stop, self.size[1]),
            self.resolutions,
        )

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, without the size of the image."""
        return {
            "tile": self.tile_size,
            "halo": self.halo,
            "doubt": self.doubt,
            "align": self.align,
            "error": self.error,
            "resolutions": [vars(each) for each in self.resolutions],
        }

    @classmethod
    def from_dict(cls, size: Size, data: Mapping[str, Any]) -> "TilePlan":
        """The plan that `to_dict` described, of an image of this (height, width)."""
        tile = (int(data["tile"][0]), int(data["tile"][1]))
        resolutions = tuple(Resolution(**each) for each in data["resolutions"])
        others = (data[name] for name in ("align", "error"))
        return cls(size, tile, data["halo"], data["doubt"], resolutions, *others)

    def __str__(self) -> str:
        if len(self.tiles) == 1:
            return "the whole image at once"
        read = sum(tile.pixels for tile in self.tiles) / math.prod(self.size)
        measured = "" if self.doubt else f", off by {255 * self.error:.2f}/255 as measured"
        return (
            f"{len(self.tiles)} of up to {size_text(self.tile_size)} with a halo of {self.halo}, "
            f"{read:.1f} × the pixels of the image{measured}"
        )


@dataclass(frozen=True)
class BlendedTiles:
    """Tiles of an image that overlap by half, where tiles with a halo are not possible.

    Attributes:
        tile_size: (height, width) of a tile.
        why: there are no tiles with a halo.
        align: pixels at whose multiples tiles begin.
    """

    tile_size: Size
    why: str
    align: int = ALIGN


def plan(
    size: Size,
    window: Size,
    reach: Reach,
    *,
    tile_size: Size | None = None,
    halo: int | None = None,
    memory: float | None = None,
    max_pixels: float = float("inf"),
) -> TilePlan | BlendedTiles:
    """The tiles of an image.

    >>> reach = Reach(halo=64, need=MemoryNeed(fixed=0, per_pixel=1000))
    >>> print(plan((700, 900), (64, 64), reach, memory=300e6))
    4 of up to 512x576 with a halo of 64, 1.4 × the pixels of the image, off by 0.00/255 as measured

    Args:
        size: (height, width) of the image.
        window: of the network's local operations, in pixels of the image.
        reach: measurements of the network on the image.
        tile_size: (height, width) that the network reads at most; by default what fits into memory.
        halo: least halo in pixels. No halo is narrower than the measured one; where none could be
            measured, it is `MAX_HALO_WINDOWS`.
        memory: bytes that the network may use, None if unknown.
        max_pixels: that the network may read at once, even if more fit into memory.

    Returns:
        Tiles with a halo, whose result differs from that of the whole image by less than `BOUND`
        as far as the measurement shows; blended tiles if that is not possible.

    Raises:
        GlocalError: not even the smallest tile fits into memory.
    """
    widest = round_up(MAX_HALO_WINDOWS * max(window), reach.align)
    used = max(halo or 0, widest if reach.halo is None else reach.halo)
    limit = math.inf
    if tile_size is None:
        limit = _limit(reach.need, memory, max_pixels)
        if math.prod(size) <= limit:
            tile_size = size
        else:
            tile_size = best_tile_size(size, used, limit, reach.align)
    fitting = tile_size or _blended_size(size, limit, max_pixels)
    why = ""
    if tile_size is None:
        why = (
            f"memory suffices for {int(limit)} pixels at once, too few for a halo of {used} pixels"
        )
    elif any(
        t < min(s, least_tile(used, reach.align)) for t, s in zip(tile_size, size, strict=True)
    ):
        why = f"tiles of {size_text(tile_size)} have no core between halos of {used} pixels"
    elif reach.error > BOUND:
        why = (
            f"{used} pixels from the border of a tile, values still differ by "
            f"{reach.error / BOUND:.1f}/255"
        )
    elif len({(each.axis, each.ratio) for each in reach.resolutions}) < len(reach.resolutions):
        why = "the network pads feature maps of one resolution in two ways"
    if why and fitting != size:
        return BlendedTiles(fitting, why, reach.align)
    doubt = (
        ""
        if reach.halo is not None
        else (
            "the image or the memory is too small to measure how wide a halo must be; it is "
            f"{used} pixels"
        )
    )
    return TilePlan(size, fitting, used, doubt, reach.resolutions, reach.align, reach.error)


def _blended_size(size: Size, limit: float, max_pixels: float) -> Size:
    """The largest square tile that fits into memory.

    Raises:
        GlocalError: not even the smallest one does.
    """
    side = int(math.sqrt(limit)) // LEAST_BLENDED * LEAST_BLENDED
    if side < LEAST_BLENDED and limit < max_pixels:
        raise GlocalError(
            f"not enough memory: it suffices for {int(limit)} pixels at once, and the smallest "
            f"tile has {LEAST_BLENDED**2}; free or allow more memory, or use a narrower dtype"
        )
    side = max(side, LEAST_BLENDED)
    return min(side, size[0]), min(side, size[1])


def _limit(need: MemoryNeed | None, memory: float | None, max_pixels: float) -> float:
    """Pixels that the network may read at once."""
    if memory is None:
        return max_pixels
    if memory <= 0:
        return 0.0
    # with an unknown need the run finds out, by running out of memory
    return max_pixels if need is None else min(max_pixels, need.max_pixels(memory))
