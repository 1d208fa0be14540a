"""Estimate the time and memory of a restoration from a small part of a photograph."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from glocal.inference.any_image import restore
from glocal.inference.measure import BYTES_PER_PIXEL
from glocal.inference.memory import MemoryNeed, memory_budget, peak_memory
from glocal.inference.runner import device_of
from glocal.inference.steps import Steps
from glocal.ops.windows import Size
from glocal.runs.streaming import STREAMED_PIXELS

__all__ = ["Estimate", "estimate"]

SIDE = 384
"""Side of the part that is timed; a quarter of its pixels gives a second point. On smaller ones,
starting operations takes a share of the time that large images do not see."""

_COPIES = 3
"""Photographs in memory beside the network: decoded, restored, and encoded."""


@dataclass(frozen=True)
class Estimate:
    """What photographs will take, about.

    Attributes:
        per_pixel_s: seconds for each pixel.
        need: memory of the network.
        budget: bytes that it may use, None if unknown; tiles are chosen to fit.
        steps: how a call of the network passes through its modules.
        is_tiled: True if tiles bound the pixels at once.
    """

    per_pixel_s: float
    need: MemoryNeed
    budget: float | None
    steps: Steps
    is_tiled: bool

    def seconds(self, sizes: Iterable[Size]) -> float:
        """The time for photographs of these sizes (height, width)."""
        return self.per_pixel_s * sum(map(math.prod, sizes))

    def nbytes(self, sizes: Iterable[Size]) -> float:
        """The largest memory for one of these photographs."""
        pixels = max(map(math.prod, sizes))
        at_once = min(pixels, STREAMED_PIXELS) if self.is_tiled else pixels
        need = self.need.fixed + self.need.per_pixel * at_once
        return min(need, self.budget or math.inf) + _COPIES * 3 * pixels


def estimate(model: nn.Module, pixels: np.ndarray, *, is_tiled: bool, **options: Any) -> Estimate:
    """Measure a network on the centre of an image.

    Args:
        model: the network, converted or not.
        pixels: (h, w, c) of a photograph.
        is_tiled: large photographs run in tiles.
        options: those of `glocal.restore`; tiles and inputs are left out.

    Raises:
        GlocalError: the network does not run.
    """
    left_out = ("tiles", "inputs", "progress", "report", "memory")
    given = {name: value for name, value in options.items() if name not in left_out}
    steps, points, seconds = Steps(model), list[tuple[int, float]](), 0.0
    device = device_of(model, options.get("device"))
    for side in (SIDE // 2, SIDE):
        part = _centre(pixels, side)
        if not points:
            restore(model, part, tiles=None, **given)  # the first run takes longer
        with peak_memory(device) as peak, steps.learning():
            started = time.perf_counter()
            restore(model, part, tiles=None, **given)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
        points.append((math.prod(part.shape[:2]), (peak.mib or 0.0) * 2**20))
    need = MemoryNeed(0, BYTES_PER_PIXEL)  # where it cannot be measured
    if points[-1][1]:
        need = MemoryNeed.through(*dict(points).items())  # a small image has one size
    budget = memory_budget(device, options.get("memory"), 0)
    return Estimate(seconds / points[-1][0], need, budget, steps, is_tiled)


def _centre(pixels: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (
        slice((n - min(n, side)) // 2, (n + min(n, side)) // 2) for n in pixels.shape[:2]
    )
    return np.ascontiguousarray(pixels[rows, columns])
