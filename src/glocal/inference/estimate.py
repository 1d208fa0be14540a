"""Estimate time and memory of a network on images before it runs, from runs on small parts."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from glocal.errors import GlocalError
from glocal.inference.any_image import restore
from glocal.inference.measure import BYTES_PER_PIXEL
from glocal.inference.memory import MemoryNeed, memory_budget, peak_memory, process_size
from glocal.inference.placing import device_of
from glocal.inference.steps import Steps
from glocal.ops.windows import Size
from glocal.scanning.sandbox import keep_random_state
from glocal.shortages import is_out_of_memory

__all__ = ["Estimate", "estimate"]

SIDE = 384
"""Side of the part that is timed; a quarter of its pixels gives a second point. On smaller ones,
starting operations takes a share of the time that large images do not see."""

_COPIES = 3
"""Images in memory beside the network: decoded, restored, and encoded."""


@dataclass(frozen=True)
class Estimate:
    """What images will take, about, if other work on the machine stays as it is.

    Attributes:
        per_pixel_s: seconds for each pixel.
        need: memory of the network; None if it cannot be measured.
        budget: bytes that it may use, None if unknown; tiles are chosen to fit.
        process: bytes that the process has already, on a CPU.
        steps: how a call of the network passes through its modules.
        most_pixels: that the network reads at once; None if that has no bound.
    """

    per_pixel_s: float
    need: MemoryNeed | None
    budget: float | None
    process: int
    steps: Steps
    most_pixels: int | None = None

    def seconds(self, sizes: Iterable[Size]) -> float:
        """The time for images of these sizes (height, width)."""
        return self.per_pixel_s * sum(map(math.prod, sizes))

    def nbytes(self, sizes: Iterable[Size]) -> float:
        """The largest memory for one of these images."""
        pixels = max(map(math.prod, sizes))
        need = self.need or MemoryNeed(0, BYTES_PER_PIXEL)
        network = need.fixed + need.per_pixel * min(pixels, self.most_pixels or pixels)
        copies = _COPIES * 3 * pixels
        return self.process + min(network, self.budget or math.inf) + copies


def estimate(
    model: nn.Module,
    image: np.ndarray,
    *,
    side: int = SIDE,
    is_quick: Callable[[float], bool] = lambda per_pixel_s: False,
    most_pixels: int | None = None,
    **options: Any,
) -> Estimate | None:
    """Measure a network on the centre of an image, twice; None if it does not run there.

    A network that does not run fails in the run itself too, which says why.

    Args:
        model: the network, converted or not. It stays as it is, and so does the random state.
        image: (h, w, c) pixels.
        side: of the larger part that runs, in pixels; the smaller one has a quarter of its pixels.
        is_quick: called with the seconds for each pixel in the first run, which also pays for what
            is done once; if it returns True, the rest is not measured and None is returned.
        most_pixels: as for `Estimate`.
        options: those of `glocal.restore`; tiles, inputs and reports are left out.
    """
    left_out = ("tiles", "inputs", "progress", "report", "memory")
    given = {name: value for name, value in options.items() if name not in left_out}
    device = device_of(model, options.get("device"))
    steps, points = Steps(model), dict[int, float]()
    per_pixel_s = 0.0
    try:
        process = _process_bytes(device)
        budget = memory_budget(device, options.get("memory"), 0)
        with keep_random_state():
            parts = [_centre(image, side // 2), _centre(image, side)]
            for part in (parts[0], *parts):
                pixels = math.prod(part.shape[:2])
                with peak_memory(device) as peak, steps.learning():
                    started = time.perf_counter()
                    restore(model, part, tiles=None, **given)
                    elapsed_s = time.perf_counter() - started
                is_first, per_pixel_s = not per_pixel_s, elapsed_s / pixels
                if is_first and is_quick(per_pixel_s):
                    return None
                points[pixels] = (peak.mib or 0.0) * 2**20
    except (GlocalError, MemoryError, RuntimeError) as error:
        if not isinstance(error, GlocalError) and not is_out_of_memory(error):
            raise
        return None
    # a small image has one size, and nothing is measured outside Linux
    need = MemoryNeed.through(*points.items()) if max(points.values()) else None
    return Estimate(per_pixel_s, need, budget, process, steps, most_pixels)


def _process_bytes(device: torch.device) -> int:
    try:
        return process_size() if device.type == "cpu" else 0
    except OSError:  # not Linux, where the peak is not measured either
        return 0


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (
        slice((n - min(n, side)) // 2, (n + min(n, side)) // 2) for n in image.shape[:2]
    )
    return np.ascontiguousarray(image[rows, columns])
