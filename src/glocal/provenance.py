"""Where numbers come from: which weights, which images, which machine."""

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from glocal.pairing import Pair

__all__ = ["data_label", "data_sha256", "machine_name", "versions", "weights_sha256"]


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers with their names, wherever they lie.

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


def data_sha256(pairs: Sequence[Pair]) -> str:
    """SHA-256 of what tells one data set from another without reading it: names and file sizes."""
    digest = hashlib.sha256()
    for pair in pairs:
        files = [path for path in (pair.degraded, pair.second, pair.target) if path is not None]
        sizes = [path.stat().st_size if path.exists() else -1 for path in files]
        digest.update(f"{pair.name!r} {sizes} {pair.noise_sigma} {pair.centre_crop}\n".encode())
    return digest.hexdigest()


def data_label(pairs: Sequence[Pair], root: str | Path | None = None) -> str:
    """What to call a data set: the last two folders of its path, as "GoPro/test"."""
    files = [path for pair in pairs for path in (pair.degraded, pair.target) if path is not None]
    common = root or os.path.commonpath([path.parent.resolve() for path in files])
    label = "/".join(Path(common).resolve().parts[-2:])
    sigmas = {pair.noise_sigma for pair in pairs if pair.noise_sigma is not None}
    return label + "".join(f" with noise of σ {sigma:g}" for sigma in sorted(sigmas))


def machine_name(device: torch.device) -> str:
    """The model of the graphics processor, or of the processor where it is told."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {
        "glocal": version("glocal"),
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }
