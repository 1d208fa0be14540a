"""Published networks with random weights for which no gate is closed."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from glocal.networks import HINet, MPRNet, NAFNet, Restormer

_DEBLURRING = {"enc_blk_nums": [1, 1, 1, 28], "middle_blk_num": 1, "dec_blk_nums": [1, 1, 1, 1]}
_TINY = {"enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "NAFNet-w32": partial(NAFNet, width=32, **_DEBLURRING),
    "NAFNet-w64": partial(NAFNet, width=64, **_DEBLURRING),
    "HINet": HINet,
    "MPRNet": MPRNet,
    "Restormer": Restormer,
    "NAFNet-w4": partial(NAFNet, width=4, **_TINY),
}
NAFNETS = {"NAFNet-w32": {"width": 32, **_DEBLURRING}, "NAFNet-w4": {"width": 4, **_TINY}}
"""Constructor arguments of the networks that the official source also builds."""


def network(name: str) -> nn.Module:
    """A network in eval mode, with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return awake(NETWORKS[name]().eval())


def awake(module: nn.Module) -> nn.Module:
    """Add noise to parameters that start at zero or one, so that no gate is closed."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() == 1 or parameter.std() == 0:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module
