"""Blocks written as functions, captured as `localize` captures them."""

import functools

import torch
from torch import nn

from glocal.conversion.rewrite import capture
from glocal.conversion.rewrite.nodes import operation
from glocal.scanning.trace import Spec

CHANNELS = 4
SIZES = ((12, 16), (76, 16), (12, 80))  # the training size, higher and wider


class Block(nn.Module):
    """A block whose forward is a function of itself and a map."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.wide = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.fc = nn.Linear(CHANNELS, CHANNELS)
        self.score = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, x):
        return self.function(self, x)


@functools.cache
def capture_function(function):
    """Capture a function of (block, x), where x is a (n, 4, h, w) map."""
    runs = [((Spec((1, CHANNELS, *size), torch.float32),), {}) for size in SIZES]
    return capture(Block(function), runs)


def nodes_of(block, name):
    """Return the nodes of a captured block with an operation such as "mean", in order."""
    return [n for n in block.graph.nodes if n.op == "call_function" and operation(n) == name]
