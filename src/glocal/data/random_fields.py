"""Smooth random fields over an image, and averages at spatially varying offsets."""

import math
from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Offsets", "SmoothFields", "average_at_offsets", "row_bands", "to_uniform"]

KNOTS_PX = 150
"""Distance of the spline knots in pixels: half of the scale on which a field varies."""
BAND_ROWS = 128
"""Rows that are processed at once, to bound memory."""

Floats: TypeAlias = NDArray[np.float32]


class SmoothFields:
    """Smooth Gaussian random fields of mean 0 and variance 1.

    They are cubic B-splines of random knots.

    Attributes:
        rng: the generator that drew the knots, for further random numbers.
    """

    def __init__(self, count: int, image: Floats, seed: int) -> None:
        """Draw `count` fields of the size of an image."""
        self.rng = np.random.default_rng(seed)
        self._width = image.shape[1]
        shape = (count, *(size // KNOTS_PX + 5 for size in image.shape[:2]))
        self._knots = self.rng.standard_normal(shape, np.float32)

    def rows(self, rows: range) -> Tensor:
        """The given rows of the fields, (count, rows, width)."""
        at, weights = _spline(np.arange(rows.start, rows.stop))
        tall = sum(self._knots[:, at + k] * weights[k][:, None] for k in range(4))
        at, weights = _spline(np.arange(self._width))
        maps: Floats = sum(tall[:, :, at + k] * weights[k] for k in range(4))
        return torch.from_numpy(maps)


def _spline(pixels: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
    """Return the first of the four knots around each pixel, and their weights."""
    at, t = np.divmod((pixels + 0.5) / KNOTS_PX, 1)
    s = 1 - t
    weights = np.stack([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3])
    # normalised so that the variance is 1 between the knots as well
    weights /= np.sqrt(np.square(weights).sum(0))
    return at.astype(np.intp), weights.astype(np.float32)


def to_uniform(gaussian: Tensor) -> Tensor:
    """Map standard normal values to uniform ones on [0, 1]."""
    return 0.5 * (1 + torch.erf(gaussian / math.sqrt(2)))


class Offsets(Protocol):
    """Function from rows of an image to the displacements of its pixels, tap by tap."""

    def __call__(self, rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield y and x displacements for each tap, both (rows, width), in pixels."""


def average_at_offsets(image: Floats, offsets: Offsets) -> Floats:
    """Average the image at each pixel's offsets; borders are reflected.

    Args:
        image: (h, w, c).
        offsets: displacements of each pixel, in pixels.

    Returns:
        (h, w, c), the mean over the taps.
    """
    height, width, channels = image.shape
    source = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    result = np.empty_like(image)
    x = torch.arange(width, dtype=torch.float32) + 0.5
    for rows in row_bands(height):
        y = (torch.arange(rows.start, rows.stop, dtype=torch.float32) + 0.5)[:, None]
        total, taps = source.new_zeros(channels, len(rows), width), 0
        for dy, dx in offsets(rows):
            grid = torch.stack([2 * (x + dx) / width - 1, 2 * (y + dy) / height - 1], -1)[None]
            total += F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)[0]
            taps += 1
        result[rows.start : rows.stop] = (total / taps).permute(1, 2, 0).numpy()
    return result


def row_bands(height: int) -> Iterator[range]:
    """Ranges of at most `BAND_ROWS` rows that cover an image."""
    for top in range(0, height, BAND_ROWS):
        yield range(top, min(height, top + BAND_ROWS))
