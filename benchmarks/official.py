"""The official source of NAFNet, as the optional package spandrel carries it."""

import sys
import warnings

import torch
from case import NotMeasuredError
from models import NAFNETS, network
from torch import nn


def official(name: str) -> nn.Module:
    """With the weights of our network of that name.

    Raises:
        NotMeasuredError: spandrel is not installed.
    """
    _let_torchvision_import()
    try:
        from spandrel.architectures.NAFNet import NAFNet
    except ImportError as problem:
        raise NotMeasuredError(f"the official source is taken from spandrel: {problem}") from None
    made = NAFNet(**NAFNETS[name]).eval()
    made.load_state_dict(network(name).state_dict())
    return made


def _let_torchvision_import() -> None:
    """Spandrel imports it and uses nothing of its compiled part, which fits one torch alone.

    Where that part does not load, torchvision's Python code fails for want of two schemas.
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
"""What is defined in it lasts as long as this object."""
