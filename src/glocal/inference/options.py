"""`Tiles`: how `restore` divides an image."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from glocal.errors import ArgumentError
from glocal.inference.geometry import BLENDS, Blend
from glocal.ops.windows import Size, as_size

__all__ = ["Tiles", "TilesLike", "as_tiles"]


@dataclass(frozen=True)
class Tiles:
    """How an image is divided into tiles, see `glocal.restore`.

    A fully converted network runs on tiles with a *halo*, which is discarded: the result is that of
    the whole image. Any other network, and a converted one if `overlap` or `blend` is given, runs
    on overlapping tiles that are *blended*.

    >>> Tiles(512, halo=64)
    Tiles(size=512, halo=64, overlap=None, blend=None)

    Attributes:
        size: of a tile in pixels, halo included: a side or (height, width). "auto" is the whole
            image if memory suffices, else the largest tile that fits. None tries the whole image
            first.
        halo: least pixels to discard at each border of a tile. The halo is measured on the image,
            so that every pixel equals that of the whole image to within 1/255; it is never
            narrower than that. Tiles that are too small for it are blended, with a warning. A
            given halo says that a network is local, converted or not.
        overlap: least overlap of blended tiles, in pixels or, as a float below 1, as a fraction of
            the tile; an eighth of the tile by default.
        blend: "linear" (the default) fades neighbouring tiles into each other, "mean" averages
            them, "cut" takes each pixel from the tile in which it is farthest from the border.

    Raises:
        ArgumentError: a value is out of range, or `halo` is combined with `overlap` or `blend`.
    """

    size: int | Size | Literal["auto"] | None = "auto"
    halo: int | None = None
    overlap: int | float | None = None
    blend: Blend | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        if isinstance(self.size, str) and self.size != "auto":
            raise ArgumentError(f"size={self.size!r}; give pixels, 'auto' or None")
        if self.size is not None and not isinstance(self.size, str):
            as_size(self.size, "size of tiles")
        if self.halo is not None and self.halo < 0:
            raise ArgumentError(f"halo={self.halo}; give pixels, 0 or more")
        if self.overlap is not None and not _is_overlap(self.overlap):
            raise ArgumentError(
                f"overlap={self.overlap!r}; give pixels, 0 or more, or a fraction of the tile, "
                "from 0.0 to below 1.0"
            )
        if self.blend is not None and self.blend not in BLENDS:
            raise ArgumentError(f"blend is one of {', '.join(BLENDS)}, got {self.blend!r}")
        if self.halo is not None and self.blended:
            raise ArgumentError(
                "tiles have a halo or are blended: leave out halo, or overlap and blend"
            )

    @property
    def blended(self) -> bool:
        """True if overlap or blend is given, which asks for blended tiles."""
        return self.overlap is not None or self.blend is not None

    @property
    def given_size(self) -> Size | None:
        """(height, width) in pixels; None for "auto" and None."""
        if self.size is None or isinstance(self.size, str):
            return None
        return as_size(self.size, "size of tiles")


def _is_overlap(overlap: object) -> bool:
    if isinstance(overlap, float):
        return 0 <= overlap < 1
    return isinstance(overlap, int) and not isinstance(overlap, bool) and overlap >= 0


TilesLike: TypeAlias = Tiles | int | Size | Literal["auto"] | None
"""`Tiles`, or its `size` alone."""


def as_tiles(tiles: TilesLike) -> Tiles:
    """`Tiles` from a size, or the `Tiles` itself.

    >>> as_tiles(256) == Tiles(256), as_tiles("auto") == Tiles()
    (True, True)
    """
    return tiles if isinstance(tiles, Tiles) else Tiles(tiles)
