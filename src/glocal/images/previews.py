"""Previews: images as a screen shows them, cut into tiles at every scale.

A preview is a pyramid in a TIFF file: 8-bit sRGB, the whole image and halves of it down to one
tile. Any tile of it is read without the rest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.embedded import has_field
from glocal.images.files import temporary_beside
from glocal.images.formats import error_text
from glocal.images.image_files import Image

__all__ = ["TILE", "Preview", "screen_pixels", "write_preview"]

TILE = 512
"""Pixels a side of a tile."""

_WHITE = 255


def screen_pixels(image: Image) -> NDArray[np.uint8]:
    """Return an image as (h, w, 3) sRGB of 8 bits, on white where it is transparent.

    >>> screen_pixels(Image(np.full((1, 1, 1), 65535, np.uint16)))
    array([[[255, 255, 255]]], dtype=uint8)
    """
    seen = image.colours.seen(image.pixels)
    if seen.dtype != np.uint8:
        peak = 65535 if seen.dtype == np.uint16 else 1
        seen = np.rint(seen.astype(np.float32) * np.float32(255 / peak)).astype(np.uint8)
    if image.alpha is not None:
        alpha = image.alpha
        full = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
        opacity = (alpha.astype(np.float32) / full)[..., None]
        seen = np.rint(seen * opacity + _WHITE * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(seen, (*seen.shape[:2], 3)))


def write_preview(path: Path, image: Image) -> None:
    """Write the preview of an image, atomically.

    Raises:
        ImageError: the file cannot be written.
    """
    vips = pyvips.Image.new_from_array(screen_pixels(image)).copy(interpretation="srgb")
    # libvips writes tiles larger than the image, but does not read them
    levels: dict[str, Any] = (
        {"tile": True, "tile_width": TILE, "tile_height": TILE, "pyramid": True}
        if max(vips.height, vips.width) > TILE
        else {}
    )
    with temporary_beside(path, ImageError) as partial:
        try:
            vips.tiffsave(str(partial), compression="lzw", predictor="horizontal", **levels)
        except pyvips.Error as error:
            raise ImageError(f"{path}: cannot be written ({error_text(error)})") from None


@dataclass(frozen=True)
class Preview:
    """A file of `write_preview`.

    Attributes:
        path: of the file.
    """

    path: Path

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image.

        Raises:
            ImageError: the file cannot be read.
        """
        vips = self._whole()
        return vips.height, vips.width

    def tile(self, level: int, row: int, column: int) -> bytes | None:
        """Return a tile as PNG, without loss; None if the image has no such tile.

        Args:
            level: how often the image is halved; 0 is the image itself.
            row, column: of the tile, in tiles.

        Raises:
            ImageError: the file cannot be read.
        """
        vips = self._level(level)
        if vips is None or not (0 <= row * TILE < vips.height and 0 <= column * TILE < vips.width):
            return None
        left, top = column * TILE, row * TILE
        part = vips.crop(left, top, min(TILE, vips.width - left), min(TILE, vips.height - top))
        return bytes(part.pngsave_buffer(compression=1, keep="none"))

    def whole(self, longest: int) -> bytes:
        """Return the image as WebP, with no side longer than `longest`.

        Raises:
            ImageError: the file cannot be read.
        """
        vips = self._whole()
        if max(vips.height, vips.width) > longest:
            vips = vips.thumbnail_image(longest, height=longest, size="down")
        return bytes(vips.webpsave_buffer(Q=90, keep="none"))

    def pixels(self, most: int) -> NDArray[np.uint8]:
        """Return the (h, w, 3) pixels of the largest level that has no more than `most` of them.

        Raises:
            ImageError: the file cannot be read.
        """
        for level in range(32):
            vips = self._level(level)
            if vips is None:
                break
            if vips.height * vips.width <= most:
                return np.asarray(vips.numpy())
        raise ImageError(f"{self.path}: has no level of at most {most} pixels")

    def _whole(self) -> Any:
        return self._level(0)

    def _level(self, level: int) -> Any:
        try:
            first = pyvips.Image.tiffload(str(self.path), revalidate=True)
            pages = first.get("n-pages") if has_field(first, "n-pages") else 1
            if level >= pages:
                return None
            return pyvips.Image.tiffload(str(self.path), page=level) if level else first
        except pyvips.Error as error:
            raise ImageError(f"{self.path}: cannot be read ({error_text(error)})") from None
