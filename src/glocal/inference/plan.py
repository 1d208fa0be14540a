"""Plan the tiles of an image: a pure function of sizes, measurements and options."""

from dataclasses import dataclass, field

from glocal.errors import GlocalError
from glocal.inference.geometry import (
    ALIGN,
    Tile,
    best_tile_size,
    halo_tiles,
    round_up,
    split_tile,
)
from glocal.inference.memory import MemoryNeed
from glocal.ops.placement import Extent, Placement, Resolution
from glocal.ops.windows import Size
from glocal.texts import size_text

__all__ = ["BOUND", "MAX_HALO_WINDOWS", "Reach", "TilePlan", "plan"]

BOUND = 1 / 255
"""Maximum difference between a pixel of a tiled result and of the untiled one."""

MAX_HALO_WINDOWS = 3
"""Widest halo to consider, in windows of the network."""


@dataclass(frozen=True)
class Reach:
    """Measurements of a network on an image, see `glocal.inference.measure`.

    Attributes:
        halo: pixels from the border of a tile beyond which the border has no effect; None if
            image or memory are too small to measure it.
        error: the effect that remains there, as a difference of pixel values in [0, 1].
        need: memory of the network, None if that cannot be measured.
        resolutions: at which the network has grids of windows.
    """

    halo: int | None = None
    error: float = 0.0
    need: MemoryNeed | None = None
    resolutions: tuple[Resolution, ...] = ()


@dataclass(frozen=True)
class TilePlan:
    """The tiles of an image.

    Attributes:
        size: (height, width) of the image.
        tile_size: (height, width) that the network reads at most.
        halo: of each tile, in pixels.
        doubt: why the result may differ from that of the whole image by more than `BOUND`; empty if
            the measurement shows no such difference.
        resolutions: at which the network has grids of windows.
        tiles: the tiles, row by row; each pixel of the image is in one core.

    Raises:
        ArgumentError: the tile is too small for the halo.
    """

    size: Size
    tile_size: Size
    halo: int
    doubt: str = ""
    resolutions: tuple[Resolution, ...] = ()
    tiles: tuple[Tile, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Cut the image into tiles."""
        object.__setattr__(self, "tiles", halo_tiles(self.size, self.tile_size, self.halo))

    def split(self, tile: Tile) -> tuple[Tile, Tile] | None:
        """Two tiles for one that does not fit into memory; None if it is the smallest."""
        return split_tile(tile, self.size, self.halo)

    def placement(self, tile: Tile) -> Placement:
        """The position of a tile in the image."""
        return Placement(
            Extent(tile.rows.start, tile.rows.stop, self.size[0]),
            Extent(tile.columns.start, tile.columns.stop, self.size[1]),
            self.resolutions,
        )

    def __str__(self) -> str:
        if len(self.tiles) == 1:
            return "the whole image at once"
        return f"{len(self.tiles)} of up to {size_text(self.tile_size)} with a halo of {self.halo}"


def plan(
    size: Size,
    window: Size,
    reach: Reach,
    *,
    tile_size: Size | None = None,
    halo: int | None = None,
    memory: float | None = None,
    max_pixels: float = float("inf"),
) -> TilePlan:
    """The tiles of an image.

    >>> reach = Reach(halo=64, need=MemoryNeed(fixed=0, per_pixel=1000))
    >>> print(plan((700, 900), (64, 64), reach, memory=300e6))
    4 of up to 512x576 with a halo of 64

    Args:
        size: (height, width) of the image.
        window: of the network's local operations, in pixels of the image.
        reach: measurements of the network on the image.
        tile_size: (height, width) that the network reads at most; by default what fits into memory.
        halo: in pixels, by default the measured one.
        memory: bytes that the network may use, None if unknown.
        max_pixels: that the network may read at once, even if more fit into memory.

    Raises:
        GlocalError: not even the smallest tile fits into memory.
        ArgumentError: the given tile is too small for the given halo.
    """
    measured = round_up(MAX_HALO_WINDOWS * max(window)) if reach.halo is None else reach.halo
    wanted = measured if halo is None else halo
    if tile_size is None:
        limit = _limit(reach.need, memory, max_pixels)
        tile_size, used = _best_size(size, wanted, limit)
        smallest = tile_size[0] * tile_size[1]
        if smallest > limit and limit < max_pixels:
            raise GlocalError(
                f"not enough memory: it suffices for {int(limit)} pixels at once, and the smallest "
                f"tile has {smallest}; free or allow more memory, or use a narrower dtype"
            )
    else:
        used = wanted
        tiled = [t for t, s in zip(tile_size, size, strict=True) if t < s]
        if halo is None and tiled:
            used = min(wanted, max(0, (min(tiled) // ALIGN - 1) // 2 * ALIGN))
    doubt = ""
    if used < wanted:
        doubt = (
            f"tiles of {size_text(tile_size)} are too small for a halo of {wanted} pixels and have "
            f"one of {used}"
        )
    elif reach.halo is None and halo is None:
        doubt = (
            "the image or the memory is too small to measure how wide a halo must be; it is "
            f"{wanted} pixels"
        )
    elif reach.error > BOUND:
        doubt = (
            f"{measured} pixels from the border of a tile, values still differ by "
            f"{reach.error / BOUND:.1f}/255"
        )
    elif reach.halo is not None and round_up(used) < reach.halo:
        doubt = f"a halo of {used} pixels is narrower than the measured one of {reach.halo}"
    elif len({(each.axis, each.ratio) for each in reach.resolutions}) < len(reach.resolutions):
        doubt = "the network pads feature maps of one resolution in two ways"
    return TilePlan(size, tile_size, used, doubt, reach.resolutions)


def _limit(need: MemoryNeed | None, memory: float | None, max_pixels: float) -> float:
    """Pixels that the network may read at once."""
    if memory is None:
        return max_pixels
    if memory <= 0:
        return 0.0
    # with an unknown need the run finds out, by running out of memory
    return max_pixels if need is None else min(max_pixels, need.max_pixels(memory))


def _best_size(size: Size, halo: int, max_pixels: float) -> tuple[Size, int]:
    """The best size of tiles and their halo, which is narrower if nothing else fits."""
    if size[0] * size[1] <= max_pixels:
        return size, halo
    for narrower in range(round_up(halo), -1, -ALIGN):
        tile_size = best_tile_size(size, narrower, max_pixels)
        if tile_size is not None:
            return tile_size, min(halo, narrower)
    return (ALIGN, ALIGN), 0
