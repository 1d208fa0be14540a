"""A stand-in for pyiqa with its interface: `list_models`, `create_metric`, and their metrics."""

from types import ModuleType
from typing import Any

import torch

__all__ = ["pyiqa_stub"]


class Score(torch.nn.Module):
    """A metric as pyiqa makes them; without reference if the mode is NR."""

    def __init__(self, name: str, device: Any) -> None:
        super().__init__()
        self.name, self.device = name, device
        self.lower_better = name in ("lpips", "niqe")
        self.metric_mode = "FR" if name in ("lpips", "ssim") else "NR"

    def forward(self, target: torch.Tensor, ref: torch.Tensor | None = None) -> torch.Tensor:
        assert target.shape[:2] == (1, 3)
        assert (0 <= target.min() <= target.max() <= 1).all()
        assert (ref is not None) == (self.metric_mode == "FR")
        if min(target.shape[-2:]) < 8:
            raise AssertionError("images\nare too small")
        return (target.mean() if ref is None else (target - ref).abs().mean()).reshape(1, 1)


def pyiqa_stub() -> ModuleType:
    """Return a module to put into `sys.modules["pyiqa"]`."""
    stub: Any = ModuleType("pyiqa")
    stub.__version__ = "1.2"
    stub.list_models = lambda: ["fid", "lpips", "musiq", "niqe", "ssim"]

    def create_metric(name: str, as_loss: bool = False, device: Any = None) -> Score:
        torch.backends.cudnn.deterministic = True  # as pyiqa does
        if name == "musiq":
            raise OSError("no weights\nof musiq")
        return Score(name, device)

    stub.create_metric = create_metric
    return stub
