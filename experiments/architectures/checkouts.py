"""Import a network's source from a checkout of its authors' repository.

`load` changes sys.path, the import system and the current folder: use it in a process of its own,
for one checkout.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

REPLACED = frozenset(
    "basicsr cv2 fairscale fvcore huggingface_hub imp lmdb lpips natsort omegaconf ptflops "
    "pytorch_wavelets skimage thop timm torchstat tqdm yaml".split()
)
"""Packages that projects import and a network in eval mode hardly needs."""


def folder_of(checkouts: Path, repository: str) -> Path | None:
    """Folder of "owner/name" below `checkouts`: owner/name or owner+name; None if absent."""
    folders = (checkouts / repository, checkouts / repository.replace("/", "+"))
    return next((folder for folder in folders if folder.is_dir()), None)


def commit_of(folder: Path) -> str:
    """Commit of the checkout, 12 digits; empty if git does not know."""
    if not (folder / ".git").exists():  # git would answer for a repository around it
        return ""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip()[:12] if done.returncode == 0 else ""


def load(root: Path, file: str) -> ModuleType:
    """Import a file with the folder `root` on sys.path, and as the current folder.

    Packages around the file are not run: their `__init__` often imports the whole project. Where
    there is no GPU, `.cuda()` does nothing. The names of the packages `REPLACED` that are not
    installed are the stand-ins of this module, or classes that raise ImportError once used.

    Args:
        root: the folder from which the authors' scripts are run.
        file: path below root.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
        sys.meta_path.append(StandIns())
        os.chdir(root)
        if not torch.cuda.is_available():
            nn.Module.cuda = Tensor.cuda = lambda self, *_, **__: self
    name = file.removesuffix(".py").replace("/", ".")
    parts = name.split(".")
    for depth in range(1, len(parts)):
        package = ModuleType(".".join(parts[:depth]))
        package.__path__ = [str(root.joinpath(*parts[:depth]))]
        sys.modules.setdefault(package.__name__, package)
    return importlib.import_module(name)


class DropPath(nn.Module):
    """Stochastic depth, as it is in eval mode: the identity."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class Registry:
    """Registry of classes that keeps none."""

    def register(self, *_: Any, **__: Any) -> Any:
        return lambda known: known


def to_2tuple(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, list | tuple) else (value, value)


class DWTForward(nn.Module):
    """One level of the Haar wavelet transform of pytorch_wavelets."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The low band (b, c, h/2, w/2) and a list of the three high ones (b, c, 3, h/2, w/2)."""
        a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
        high = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], 2)
        return (a + b + c + d) / 2, [high / 2]


class DWTInverse(nn.Module):
    """The inverse of `DWTForward`."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def forward(self, bands: tuple[Tensor, list[Tensor]]) -> Tensor:
        low, (high,) = bands
        v, h, d = high.unbind(2)
        signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
        pixels = torch.stack([(low + i * v + j * h + k * d) / 2 for i, j, k in signs], 2)
        return nn.functional.pixel_shuffle(pixels.flatten(1, 2), 2)


STAND_INS: dict[str, Any] = {
    "ARCH_REGISTRY": Registry(),
    "DWTForward": DWTForward,
    "DWTInverse": DWTInverse,
    "DropPath": DropPath,
    "OmegaConf": SimpleNamespace(create=lambda options: SimpleNamespace(**options)),
    "checkpoint_wrapper": lambda module, **_: module,
    "register_model": lambda known: known,
    "to_2tuple": to_2tuple,
    "trunc_normal_": nn.init.trunc_normal_,
}
"""Names that networks use of packages that may be absent, whichever package they come from."""


class StandIns:
    """Finder of modules that are not installed; the last on sys.meta_path."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in REPLACED:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class StandIn(ModuleType):
    """Module of `STAND_INS`; any other name is a class that raises ImportError once used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"

        def refuse(*_: Any, **__: Any) -> None:
            raise ImportError(f"{full} is not installed")

        return STAND_INS.get(name) or type(name, (), {"__init__": refuse})
