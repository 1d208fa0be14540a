"""Detect the network of a state dict, build it, and load the tensors.

Keys and shapes determine the architecture, unless the user or the header of a safetensors file
names it, and the constructor arguments. Tensors are loaded strictly.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from glocal.errors import CheckpointError
from glocal.json_files import JsonError, converted, parsed
from glocal.networks.checkpoints.building import TooLargeError, bounded_by
from glocal.networks.checkpoints.candidates import Candidate
from glocal.networks.checkpoints.misfits import Misfit, differences
from glocal.networks.checkpoints.optional import brief
from glocal.networks.ffanet import FFANet, ffanet_hyperparameters
from glocal.networks.hinet import HINet, hinet_hyperparameters
from glocal.networks.maxim import MAXIM, maxim_hyperparameters
from glocal.networks.mprnet import MPRNet, mprnet_hyperparameters
from glocal.networks.nafnet import (
    Baseline,
    NAFNet,
    baseline_hyperparameters,
    nafnet_hyperparameters,
)
from glocal.networks.restormer import Restormer, restormer_hyperparameters
from glocal.texts import short_name

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Known",
    "architecture_named",
    "known_network",
    "misfits",
]


@dataclass(frozen=True)
class Architecture:
    """A known architecture.

    Attributes:
        name: the authors' name.
        cls: class of the network.
        recognises: True for a state dict of this architecture, of which only the keys count.
        hyperparameters: infers the constructor arguments from a state dict.
        train_size: (height, width) of the training crops of all checkpoints of the release, or
            None if they differ. A checkpoint's own metadata takes precedence.
    """

    name: str
    cls: Callable[..., nn.Module]
    recognises: Callable[[Mapping[str, object]], bool]
    hyperparameters: Callable[[Mapping[str, Tensor]], dict[str, object]]
    train_size: tuple[int, int] | None = None


def _has(*keys: str, block: str = "") -> Callable[[Mapping[str, object]], bool]:
    """Predicate: all `keys` are in a state dict, and some key contains `block`."""

    def recognises(state_dict: Mapping[str, object]) -> bool:
        return all(key in state_dict for key in keys) and any(block in key for key in state_dict)

    return recognises


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "Baseline",
        Baseline,
        _has("intro.weight", "ending.weight", block=".se.3.weight"),
        baseline_hyperparameters,
    ),
    Architecture(
        "FFANet",
        FFANet,
        _has("pre.0.weight", "post.1.weight", "ca.1.weight", block=".calayer.ca.0.weight"),
        ffanet_hyperparameters,
        train_size=(240, 240),
    ),
    Architecture(
        "HINet",
        HINet,
        _has("conv_01.weight", "sam12.conv1.weight", "down_path_1.0.conv_1.weight"),
        hinet_hyperparameters,
    ),
    Architecture(
        "MAXIM",
        MAXIM,
        _has("stage_0_input_conv_0.weight", block=".GridGatingUnit.Dense_0.weight"),
        maxim_hyperparameters,
    ),
    Architecture(
        "MPRNet",
        MPRNet,
        _has("shallow_feat1.0.weight", "sam23.conv1.weight", block="stage3_orsnet.orb1."),
        mprnet_hyperparameters,
    ),
    Architecture(
        "NAFNet",
        NAFNet,
        _has("intro.weight", "ending.weight", block=".sca.1.weight"),
        nafnet_hyperparameters,
    ),
    Architecture(
        "Restormer",
        Restormer,
        _has("patch_embed.proj.weight", "output.weight", block=".attn.temperature"),
        restormer_hyperparameters,
    ),
)
"""The architectures that can be detected, by name. No two accept the same keys."""


def architecture_named(name: str) -> Architecture | None:
    """Return the known architecture of a name, in any case; None if there is none.

    >>> architecture_named("nafnet").name
    'NAFNet'
    """
    return next((each for each in ARCHITECTURES if each.name.lower() == name.lower()), None)


@dataclass(frozen=True)
class Known:
    """A known network with its weights, in eval mode on the CPU."""

    network: nn.Module
    architecture: Architecture
    hyperparameters: dict[str, object]


def known_network(
    path: Path,
    candidate: Candidate,
    metadata: Mapping[str, str],
    named: Architecture | None = None,
) -> Known | None:
    """Build the network of a state dict and load its tensors; None if no network fits them.

    Args:
        path: of the file, for errors.
        candidate: the state dict.
        metadata: of the file; it may state architecture and hyperparameters.
        named: the architecture that the user names, which need not be recognised.

    Raises:
        CheckpointError: the metadata are wrong in themselves, or the tensors have factors for
            blocks, see `full_precision`.
    """
    state_dict = candidate.weights
    architecture = named or _stated(metadata)
    if architecture is None:
        architecture = next((each for each in ARCHITECTURES if each.recognises(state_dict)), None)
    if architecture is None:
        return None
    stated = _stated_hyperparameters(path, metadata, architecture)
    try:
        arguments = architecture.hyperparameters(state_dict) if stated is None else stated
        network = _bounded_skeleton(architecture, arguments, state_dict)
    except _UNFIT as error:
        if stated is None:
            return None
        raise CheckpointError(
            f"{path}: {architecture.name} cannot be built with the hyperparameters in the "
            f"metadata, {short_name(str(stated))} ({brief(error)})"
        ) from None
    if differences(network, state_dict):
        return None
    network.to_empty(device="cpu")
    network.load_state_dict(state_dict, strict=False)
    return Known(network.eval(), architecture, arguments)


def misfits(
    path: Path,
    candidate: Candidate,
    metadata: Mapping[str, str],
    named: Architecture | None = None,
) -> list[Misfit]:
    """Return how a state dict differs from each known network, or from the named one.

    The arguments are those of `known_network`.
    """
    state_dict = candidate.weights
    only = named or _stated(metadata)
    return [
        Misfit.of(
            candidate.entry,
            each.name,
            _best_guess(each, state_dict, _stated_hyperparameters(path, metadata, only)),
            state_dict,
        )
        for each in ([only] if only else ARCHITECTURES)
    ]


_MOST_STATED = 1024  # any network may state a number up to it

# Raised on tensors of another network, when arguments are inferred and the network is built.
_UNFIT = (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError)


def _stated(metadata: Mapping[str, str]) -> Architecture | None:
    return architecture_named(metadata.get("architecture", ""))


def _stated_hyperparameters(
    path: Path, metadata: Mapping[str, str], architecture: Architecture | None
) -> dict[str, object] | None:
    """Return the constructor arguments in the metadata; of one that is not known, unchecked."""
    text = metadata.get("hyperparameters")
    if text is None:
        return None
    try:
        arguments = parsed(text, dict[str, object])
        forms = {} if architecture is None else _forms(architecture)
        for name in arguments:
            if architecture is not None and name not in forms:
                raise JsonError(f"{architecture.name} has no {short_name(name)}")
        return {
            name: converted(value, forms.get(name, object), name)
            for name, value in arguments.items()
        }
    except JsonError as error:
        raise CheckpointError(f"{path}: the hyperparameters in the metadata: {error}") from None


@cache
def _forms(architecture: Architecture) -> dict[str, Any]:
    """The types of the constructor arguments, as forms of JSON."""
    hints = get_type_hints(architecture.cls.__init__)
    names = inspect.signature(architecture.cls).parameters
    return {name: list[int] if "Sequence" in str(hints[name]) else hints[name] for name in names}


def _skeleton(architecture: Architecture, hyperparameters: Mapping[str, object]) -> nn.Module:
    """Build the network on the meta device, without storage or random numbers."""
    with torch.device("meta"):
        return architecture.cls(**hyperparameters)


def _bounded_skeleton(
    architecture: Architecture,
    hyperparameters: Mapping[str, object],
    state_dict: Mapping[str, Tensor],
) -> nn.Module:
    most = max(_MOST_STATED, len(state_dict), *(n for t in state_dict.values() for n in t.shape))
    for name, value in hyperparameters.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and abs(number) > most:
                raise TooLargeError(f"{name} is {number}, which the tensors do not explain")
    with bounded_by(state_dict.values()):
        return _skeleton(architecture, hyperparameters)


@cache  # slow to build, and without storage
def _default(architecture: Architecture) -> nn.Module:
    return _skeleton(architecture, {})


def _best_guess(
    architecture: Architecture, state_dict: Mapping[str, Tensor], stated: dict[str, object] | None
) -> nn.Module:
    try:
        arguments = stated or architecture.hyperparameters(state_dict)
        return _bounded_skeleton(architecture, arguments, state_dict)
    except _UNFIT:
        return _default(architecture)
