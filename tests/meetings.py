"""Blocks in which a statistic meets the map, and their local form against the definition."""

import functools

import oracles
import torch
from captured import SIZES
from torch import nn

from glocal.conversion.rewrite import Rewritten, capture, rewrite
from glocal.scanning.trace import Spec

WINDOW = (5, 6)
MAP = (8, 9)


class Meeting(nn.Module):
    """A block: `statistic` computes values of the map, and `meet` uses them at its pixels."""

    def __init__(self, statistic, meet, layers, channels):
        super().__init__()
        self.statistic = functools.partial(statistic, self)
        self.meet = functools.partial(meet, self)
        self.channels = channels
        for name, layer in layers().items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.meet(x, self.statistic(x))


def meeting(statistic, meet, layers=dict, channels=4):
    """Return a block in float64 with random parameters.

    Args:
        statistic: a function of the block and a map.
        meet: a function of the block, the map and the statistic.
        layers: makes the layers and parameters by name.
        channels: of the map.
    """
    block = Meeting(statistic, meet, layers, channels)
    return oracles.randomise(block, 1).double().eval()


def rewritten(block, window=WINDOW):
    """Return the local form of a block."""
    runs = [((Spec((1, block.channels, *size), torch.float64),), {}) for size in SIZES]
    program = rewrite(capture(block, runs), lambda _: window, lambda _: window)
    return Rewritten.of(block, window, program=program)


def assert_local_at_pixels(block):
    """Check both laws: equality in a window, and the statistic of each pixel's window."""
    local = rewritten(block)
    x = oracles.ramp_noise(2, block.channels, *MAP)
    small = x[..., : WINDOW[0], : WINDOW[1]].contiguous()
    with torch.no_grad():
        wanted = oracles.at_pixels(x, WINDOW, block.statistic, block.meet)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(local(small), block(small), rtol=1e-9, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)
    with torch.enable_grad():
        torch.testing.assert_close(local(x).detach(), wanted, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(wanted, block(x), rtol=1e-4)
    return local
