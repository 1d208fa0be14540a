"""Write restored images for the report: of which images, and to which files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.files import make_folder
from glocal.images.image_files import Image, write

__all__ = ["TARGET", "Pictures", "picture", "slug", "to_pixels", "write_picture"]

TARGET = "target"
"""Name of the picture of the clean image."""


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures with one subfolder for each image.

    Attributes:
        folder: created if missing.
        count: number of images, evenly spaced over the data set: neighbours are often frames of
            one scene.
    """

    folder: str | Path
    count: int = 8

    def folders(self, images: Sequence[str]) -> dict[str, Path]:
        """Return the subfolders of the chosen images, by image name.

        >>> pictures = Pictures(Path("out"), 2)
        >>> [path.as_posix() for path in pictures.folders(["a/1", "a/2", "b/<1>"]).values()]
        ['out/1-a-1', 'out/3-b-1']
        """
        count = min(self.count, len(images))
        last = len(images) - 1
        chosen = [round(step * last / max(count - 1, 1)) for step in range(count)]
        width, folder = len(str(len(images))), Path(self.folder)
        return {
            images[index]: folder / f"{index + 1:0{width}d}-{slug(images[index])}"
            for index in chosen
        }


def picture(folder: Path, name: str) -> Path:
    """Return the file for a method, the degraded image or the target.

    >>> picture(Path("1-a"), "crop-and-stitch 64/8 linear").as_posix()
    '1-a/crop-and-stitch-64-8-linear.png'
    """
    return folder / f"{slug(name)}.png"


def slug(name: str) -> str:
    """Return a name that is valid in every file system and URL.

    >>> slug("GOPR0384/<1>.x"), slug("..")
    ('gopr0384-1-.x', 'image')
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:80].lower() or "image"


def to_pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 8-bit pixels of an (h, w, c) image in [0, 1].

    Of more than three channels (a dual-pixel pair) the first three are shown.
    """
    colours = image if image.shape[2] in (1, 3) else image[..., :3]
    levels: NDArray[np.uint8] = np.rint(np.nan_to_num(colours).clip(0, 1) * 255).astype(np.uint8)
    return levels


def write_picture(path: Path, image: NDArray[Any]) -> None:
    """Write an (h, w, c) image in [0, 1] as 8-bit PNG.

    Raises:
        ImageError: the file cannot be written.
    """
    make_folder(path.parent, ImageError)
    write(path, Image(to_pixels(image)))
