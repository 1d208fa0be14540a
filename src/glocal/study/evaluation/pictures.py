"""Restored images that are kept for looking at: which ones, and where they lie."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.files import make_folder
from glocal.images.images import Image, write

__all__ = ["TARGET", "Pictures", "picture", "slug", "to_pixels", "write_picture"]

TARGET = "target"
"""Name of the picture of the clean image."""


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures, one folder in it for each image.

    Attributes:
        folder: made where it is missing.
        count: how many images are kept, spread evenly over the data set: neighbours are often
            frames of one scene.
    """

    folder: Path
    count: int = 8

    def folders(self, images: Sequence[str]) -> dict[str, Path]:
        """The folders of the images that are kept, by name.

        >>> pictures = Pictures(Path("out"), 2)
        >>> [path.as_posix() for path in pictures.folders(["a/1", "a/2", "b/<1>"]).values()]
        ['out/1-a-1', 'out/3-b-1']
        """
        count = min(self.count, len(images))
        last = len(images) - 1
        chosen = [round(step * last / max(count - 1, 1)) for step in range(count)]
        width = len(str(len(images)))
        return {
            images[index]: self.folder / f"{index + 1:0{width}d}-{slug(images[index])}"
            for index in chosen
        }


def picture(folder: Path, name: str) -> Path:
    """Where the picture of a way, of the degraded image or of the target lies.

    >>> picture(Path("1-a"), "crop-and-stitch 64/8 linear").as_posix()
    '1-a/crop-and-stitch-64-8-linear.png'
    """
    return folder / f"{slug(name)}.png"


def slug(name: str) -> str:
    """A name that every file system and address takes.

    >>> slug("GOPR0384/<1>.x"), slug("..")
    ('gopr0384-1-.x', 'image')
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:80].lower() or "image"


def to_pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An (h, w, c) image in [0, 1] as 8-bit pixels, the first view of a dual-pixel pair."""
    colours = image if image.shape[2] in (1, 3) else image[..., :3]
    levels: NDArray[np.uint8] = np.rint(np.nan_to_num(colours).clip(0, 1) * 255).astype(np.uint8)
    return levels


def write_picture(path: Path, image: NDArray[Any]) -> None:
    """Write an (h, w, c) image in [0, 1] as 8-bit PNG.

    Raises:
        ImageError: the disk refuses it.
    """
    make_folder(path.parent, ImageError)
    write(path, Image(to_pixels(image)))
