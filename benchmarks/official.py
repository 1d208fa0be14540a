"""The official NAFNet source, as distributed in the optional package spandrel."""

import sys
import warnings

import torch
from case import NotMeasuredError
from models import NAFNETS, network
from torch import nn


def official(name: str) -> nn.Module:
    """The official network with the weights of ours.

    Raises:
        NotMeasuredError: spandrel is not installed.
    """
    _let_torchvision_import()
    try:
        from spandrel.architectures.NAFNet import NAFNet
    except ImportError as problem:
        raise NotMeasuredError(
            f"the official source comes from spandrel, which fails to import: {problem}"
        ) from None
    made = NAFNet(**NAFNETS[name]).eval()
    made.load_state_dict(network(name).state_dict())
    return made


def _let_torchvision_import() -> None:
    """Make torchvision importable beside any torch.

    spandrel imports torchvision but uses nothing of its compiled part, which fits one torch version
    only. Without it, torchvision's Python code fails because two operator schemas are missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except ImportError:
            return
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            _SCHEMAS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _SCHEMAS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_SCHEMAS = torch.library.Library("torchvision", "FRAGMENT")
"""Definitions last as long as this object."""
