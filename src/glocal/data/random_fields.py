"""Smooth random maps over an image, and averages of an image at offsets that vary with them."""

import math
from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Offsets", "SmoothMaps", "average_at", "bands", "evenly"]

KNOTS_PX = 150
"""Distance of the knots of a smooth map in pixels: half of its scale."""
BAND_ROWS = 128

Floats: TypeAlias = NDArray[np.float32]


class SmoothMaps:
    """Smooth Gaussian random maps of mean 0 and variance 1: cubic B-splines of random knots.

    `rng` goes on where the drawing of the knots left off.
    """

    def __init__(self, count: int, image: Floats, seed: int) -> None:
        """Draw `count` maps of the size of an image."""
        self.rng = np.random.default_rng(seed)
        self._width = image.shape[1]
        shape = (count, *(size // KNOTS_PX + 5 for size in image.shape[:2]))
        self._knots = self.rng.standard_normal(shape, np.float32)

    def rows(self, rows: range) -> Tensor:
        """(count, rows, width) of the maps."""
        at, weights = _spline(np.arange(rows.start, rows.stop))
        tall = sum(self._knots[:, at + k] * weights[k][:, None] for k in range(4))
        at, weights = _spline(np.arange(self._width))
        maps: Floats = sum(tall[:, :, at + k] * weights[k] for k in range(4))
        return torch.from_numpy(maps)


def _spline(pixels: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
    """The first of the four knots around each pixel, and their weights, of square sum 1."""
    at, t = np.divmod((pixels + 0.5) / KNOTS_PX, 1)
    s = 1 - t
    weights = np.stack([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3])
    # as far from the knots as on them, the variance is 1
    weights /= np.sqrt(np.square(weights).sum(0))
    return at.astype(np.intp), weights.astype(np.float32)


def evenly(gaussian: Tensor) -> Tensor:
    """Spread standard normal values evenly over [0, 1]."""
    return 0.5 * (1 + torch.erf(gaussian / math.sqrt(2)))


class Offsets(Protocol):
    """For some rows of an image: one (y, x) displacement of each pixel after the other."""

    def __call__(self, rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        """Two tensors of (rows, width), in pixels, for each tap."""


def average_at(image: Floats, offsets: Offsets) -> Floats:
    """Mean over the taps of the image at each pixel plus its (y, x) offset; borders reflected."""
    height, width, channels = image.shape
    source = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    result = np.empty_like(image)
    x = torch.arange(width, dtype=torch.float32) + 0.5
    for rows in bands(height):
        y = (torch.arange(rows.start, rows.stop, dtype=torch.float32) + 0.5)[:, None]
        total, taps = source.new_zeros(channels, len(rows), width), 0
        for dy, dx in offsets(rows):
            grid = torch.stack([2 * (x + dx) / width - 1, 2 * (y + dy) / height - 1], -1)[None]
            total += F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)[0]
            taps += 1
        result[rows.start : rows.stop] = (total / taps).permute(1, 2, 0).numpy()
    return result


def bands(height: int) -> Iterator[range]:
    """The rows of an image, some at a time, so that memory stays small."""
    for top in range(0, height, BAND_ROWS):
        yield range(top, min(height, top + BAND_ROWS))
