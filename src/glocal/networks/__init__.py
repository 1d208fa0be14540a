"""Restoration networks under their authors' names, and the reader of their checkpoints.

Every network maps (b, c, h, w) in [0, 1] to the restored image at any h and w. In training mode
`HINet` and `MPRNet` return their releases' lists of stage results instead.
"""

from glocal.networks.ffanet import FFANet
from glocal.networks.hinet import HINet
from glocal.networks.loading import (
    DEFAULT_MODEL,
    LoadedNetwork,
    embedded_models,
    load,
    load_checkpoint,
)
from glocal.networks.maxim import MAXIM
from glocal.networks.mprnet import MPRNet
from glocal.networks.nafnet import Baseline, NAFNet
from glocal.networks.restormer import Restormer

__all__ = [
    "DEFAULT_MODEL",
    "MAXIM",
    "Baseline",
    "FFANet",
    "HINet",
    "LoadedNetwork",
    "MPRNet",
    "NAFNet",
    "Restormer",
    "embedded_models",
    "load",
    "load_checkpoint",
]
