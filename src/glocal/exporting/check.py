"""Compare an exported program with the network at sizes where it could differ."""

import math

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from glocal.errors import GlocalError
from glocal.exporting.capture import CapturedProgram
from glocal.exporting.files import Run
from glocal.ops.windows import Size

__all__ = ["difference", "sizes_around_crop", "sizes_around_window"]


def sizes_around_window(window: Size, captured: CapturedProgram) -> tuple[Size, ...]:
    """Return sizes below the window, above it along one axis, and along both.

    They are odd if the program accepts odd sizes, and small: a network takes its time.
    """
    height, width = window
    below = (
        _accepted(height // 5, captured, odd=True),
        _accepted(max(width // 4, captured.smallest + 2), captured, odd=True),
    )
    above = (
        _accepted(height + max(height // 20, 6), captured, odd=True),
        _accepted(width + max(width // 10, 10), captured, odd=True),
    )
    return below, (below[0], above[1]), above


def sizes_around_crop(crop: Size, captured: CapturedProgram) -> tuple[Size, ...]:
    """Return sizes with one crop if possible, with several along one axis, and along both."""
    one = [_accepted(n, captured) for n in crop]
    several = [
        _accepted(int(n * share), captured, odd=True)
        for n, share in zip(crop, (2.3, 1.6), strict=True)
    ]
    return (one[0], one[1]), (one[0], several[1]), (several[0], several[1])


def _accepted(pixels: int, captured: CapturedProgram, *, odd: bool = False) -> int:
    """Return a length that the program accepts, at least the given one."""
    pixels = max(pixels | 1 if odd and captured.multiple == 1 else pixels, captured.smallest)
    return pixels + -pixels % captured.multiple


def difference(model: nn.Module, run: Run, image: Tensor) -> float:
    """Return the largest difference ÷ the largest value; infinite if shapes differ.

    Args:
        model: the network.
        run: the program.
        image: (b, c, h, w).

    Raises:
        GlocalError: the program fails.
    """
    # torch is twice as fast with channels last, on a CPU.
    theirs = image.clone(memory_format=torch.channels_last)
    wanted = [t for t in tree_leaves(model(theirs)) if isinstance(t, Tensor)]
    try:
        got = run(image)
    except Exception as error:  # a runtime may raise any exception
        reason = " ".join(str(error).split())[:200]
        height, width = image.shape[-2:]
        raise GlocalError(f"the exported program fails at {height}x{width}: {reason}") from None
    if [t.shape for t in got] != [t.shape for t in wanted]:
        return math.inf
    worst = 0.0
    for ours, other in zip(wanted, got, strict=True):
        scale = ours.abs().max().clamp_min(torch.finfo(ours.dtype).tiny)
        apart = float((other.to(ours) - ours).abs().max() / scale)
        worst = math.inf if math.isnan(apart) else max(worst, apart)
    return worst
