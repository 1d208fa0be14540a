"""Estimate time and memory of a network on an image before it runs, from runs on small parts."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glocal.errors import GlocalError
from glocal.inference.colours import Grey
from glocal.inference.memory import MemoryNeed, memory_budget, peak_memory, process_size
from glocal.inference.runner import ModelRunner, is_out_of_memory
from glocal.inference.runtime import model_runner
from glocal.ops.windows import Size
from glocal.scanning.modules import eval_mode
from glocal.scanning.sandbox import isolated_copy, keep_random_state
from glocal.texts import about_duration

__all__ = ["Estimate", "estimated"]

SIDES = (128, 256)
"""Sides of the parts. The first run also pays for what is done once, so that its time is too long:
it only shows which images are quick."""


@dataclass(frozen=True)
class Estimate:
    """What an image will take.

    Attributes:
        seconds: for one pass of the network over the image, if other work on the machine stays
            as it is.
        memory_bytes: of the process on a CPU, of tensors on another device; None if unknown.
    """

    seconds: float
    memory_bytes: float | None

    def __str__(self) -> str:
        """Time and memory in words.

        >>> str(Estimate(103, 5.63e9)), str(Estimate(12, None))
        ('about 100 s and 5.6 GB', 'about 12 s')
        """
        memory = "" if self.memory_bytes is None else f" and {self.memory_bytes / 1e9:.1f} GB"
        return f"about {about_duration(self.seconds)}{memory}"


def estimated(
    model: nn.Module,
    channels: int,
    size: Size,
    *,
    least_s: float,
    memory: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    output: int | str | None = None,
    grey: Grey = "channels",
) -> Estimate | None:
    """Return an estimate for an image, in proportion to its pixels; None if it is quick.

    The network runs on noise of `SIDES` pixels squared. A copy runs: `model` stays as it is.

    Args:
        model: the original network.
        channels: of the image.
        size: (height, width) of the image in pixels.
        least_s: images that take fewer seconds are quick, and so are those of 128×128 pixels.
        memory: limit as for `restore`.
        device, dtype, output, grey: as for `restore`.

    Returns:
        None as well if the network does not run on the parts; the run itself says why.
    """
    pixels = math.prod(size)
    if pixels <= SIDES[0] ** 2:
        return None
    found: Estimate | None = None
    try:
        runner = model_runner(
            isolated_copy(model), channels, size,
            dtype=dtype, device=device, output=output, grey=grey,
        )  # fmt: skip
        with keep_random_state(), eval_mode(runner.model, runner.device), torch.inference_mode():
            for side in SIDES:
                part = torch.rand(1, channels, side, side)
                found = _scaled(runner, part, pixels, memory)
                if found.seconds < least_s:
                    return None
    except (GlocalError, MemoryError, RuntimeError) as error:
        if not isinstance(error, GlocalError) and not is_out_of_memory(error):
            raise
        return None
    return found


def _scaled(runner: ModelRunner, part: Tensor, pixels: int, limit: int | None) -> Estimate:
    """Run the network on a part; return what so many pixels take."""
    used = _process_bytes(runner.device)
    budget = memory_budget(runner.device, limit, 0)  # larger images run in tiles
    with peak_memory(runner.device) as peak:
        started = time.perf_counter()
        runner.restore(part)[0].cpu()  # waits for a GPU
        elapsed_s = time.perf_counter() - started
    area = math.prod(part.shape[-2:])
    memory = None
    if peak.mib:
        need = MemoryNeed.through((area, peak.mib * 2**20))
        memory = used + min(need.per_pixel * pixels, math.inf if budget is None else budget)
    return Estimate(elapsed_s * pixels / area, memory)


def _process_bytes(device: torch.device) -> int:
    try:
        return process_size() if device.type == "cpu" else 0
    except OSError:  # not Linux, where the peak is not measured either
        return 0
