"""Images of Pillow: in as arrays, and back in their mode. Only this module knows Pillow.

Pillow is not a dependency: whoever has an image of it has imported it.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from glocal.errors import ArgumentError
from glocal.images.image_files import enlarge

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["is_pillow", "restored_pillow"]

_MODES = {1: "L", 3: "RGB"}


def is_pillow(image: object) -> TypeGuard["Image"]:
    """True for an image of Pillow."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def restored_pillow(image: "Image", restore: Callable[[np.ndarray], np.ndarray]) -> "Image":
    """Return the restored image, in its mode and with its info (colour profile, EXIF).

    Args:
        image: of mode L, RGB or RGBA. Alpha is kept, and enlarged with the image.
        restore: takes and returns (h, w) or (h, w, 3), uint8.

    Raises:
        ArgumentError: the image has another mode, or the result is neither grey nor RGB.
    """
    from PIL.Image import fromarray

    if image.mode not in ("L", "RGB", "RGBA") or "transparency" in image.info:
        keyed = " with a transparent colour" if "transparency" in image.info else ""
        other = "RGBA" if keyed else "RGB"
        raise ArgumentError(
            f"the image is a Pillow image of mode {image.mode}{keyed}; expected L, RGB or RGBA: "
            f"pass image.convert({other!r})"
        )
    pixels = np.asarray(image)
    colour = pixels[..., :3] if image.mode == "RGBA" else pixels
    restored = restore(colour)
    channels = 1 if restored.ndim == 2 else restored.shape[2]
    if channels not in _MODES:
        raise ArgumentError(
            f"the network returned {channels} channels, which no mode of Pillow holds; pass the "
            "image as an array"
        )
    if channels == 1:
        restored = restored.reshape(restored.shape[:2])
    if image.mode == "RGBA":
        alpha = enlarge(pixels[..., 3], (restored.shape[0], restored.shape[1]))
        restored = np.dstack([restored if channels == 3 else np.dstack([restored] * 3), alpha])
    made = fromarray(restored)
    made.info = dict(image.info)
    return made
