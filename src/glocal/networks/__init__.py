"""Published restoration networks under their authors' names, and checkpoints.

Every network maps (b, c, h, w) in [0, 1], at any h and w, to the restored image. In training mode
`HINet` and `MPRNet` return the results of all stages, as the authors' releases do.
"""

from glocal.networks.checkpoints.external import spandrel_network
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
    "spandrel_network",
]
