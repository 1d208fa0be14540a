"""How close two images are."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ArgumentError

__all__ = ["psnr"]


def psnr(image: NDArray[Any], target: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels.

    >>> psnr(np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 12, np.uint8))
    42.11...

    Args:
        image, target: arrays of one shape and type: uint8 or uint16 of full range, or floats in
            [0, 1].

    Returns:
        10 · log10(peak² ÷ mean squared error); infinity for equal images.

    Raises:
        ArgumentError: the shapes or types differ.
    """
    if image.shape != target.shape or image.dtype != target.dtype:
        raise ArgumentError(
            f"psnr compares images of one shape and type, got {image.shape} {image.dtype} "
            f"and {target.shape} {target.dtype}"
        )
    peak = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0
    error = float(np.mean(np.square(image.astype(np.float64) - target.astype(np.float64))))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
