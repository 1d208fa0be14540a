"""Provenance of results: hash of the weights, machine, versions."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from glocal.devices import device_name

__all__ = ["machine_name", "versions", "weights_sha256"]


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers and their names, on any device.

    >>> weights_sha256(nn.Identity())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def machine_name(device: torch.device) -> str:
    """The name of the GPU or, for the CPU device, of the processor."""
    if device.type != "cpu":
        return device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of glocal, Python and torch."""
    return {
        "glocal": version("glocal"),
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }
