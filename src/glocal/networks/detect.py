"""Detect the network of a state dict, build it, and load the tensors.

Keys and shapes determine the architecture, unless the header of a safetensors file names it, and
the constructor arguments. Tensors are loaded strictly.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from glocal.errors import CheckpointError
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
from glocal.texts import few_names

__all__ = ["ARCHITECTURES", "Architecture", "NearMissError", "known_network"]


@dataclass(frozen=True)
class Architecture:
    """A known architecture.

    Attributes:
        name: the authors' name.
        cls: class of the network.
        recognises: True for a state dict of this architecture.
        hyperparameters: infers the constructor arguments from a state dict.
        train_size: (height, width) of the training crops of all checkpoints of the release, or
            None if they differ. A checkpoint's own metadata takes precedence.
    """

    name: str
    cls: Callable[..., nn.Module]
    recognises: Callable[[Mapping[str, Tensor]], bool]
    hyperparameters: Callable[[Mapping[str, Tensor]], dict[str, object]]
    train_size: tuple[int, int] | None = None


def _has(*keys: str, block: str = "") -> Callable[[Mapping[str, Tensor]], bool]:
    """Predicate: all `keys` are in a state dict, and some key contains `block`."""

    def recognises(state_dict: Mapping[str, Tensor]) -> bool:
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


def known_network(
    path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Build the network of a state dict and load its tensors.

    The network is in eval mode, on the CPU.

    Returns:
        The network, its architecture, and its constructor arguments.

    Raises:
        NearMissError: most tensors match a known network.
        CheckpointError: the tensors or the metadata match no known network.
    """
    architecture = _architecture(path, state_dict, metadata)
    hyperparameters = _hyperparameters(path, architecture, state_dict, metadata)
    try:
        network = _skeleton(architecture, hyperparameters)
    except _UNFIT as error:
        raise CheckpointError(
            f"{path}: {architecture.name} cannot be built with {hyperparameters} ({error})"
        ) from None
    if any(_differences(network, state_dict)):
        raise _misfit(path, architecture.name, network, state_dict)
    network.to_empty(device="cpu")
    network.load_state_dict(state_dict, strict=False)
    return network.eval(), architecture, hyperparameters


# Raised on tensors of another network, when arguments are inferred and the network is built.
_UNFIT = (KeyError, IndexError, ValueError, TypeError, RuntimeError, ZeroDivisionError)


def _architecture(
    path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Architecture:
    named = metadata.get("architecture")
    for architecture in ARCHITECTURES:
        if named == architecture.name or (named is None and architecture.recognises(state_dict)):
            return architecture
    if named is not None:
        known = ", ".join(architecture.name for architecture in ARCHITECTURES)
        raise CheckpointError(
            f"{path}: unknown architecture {named!r} in the metadata; known are {known}"
        )
    raise _unknown(path, state_dict)


def _hyperparameters(
    path: Path,
    architecture: Architecture,
    state_dict: Mapping[str, Tensor],
    metadata: Mapping[str, str],
) -> dict[str, object]:
    text = metadata.get("hyperparameters")
    if text is None:
        try:
            return architecture.hyperparameters(state_dict)
        except _UNFIT:
            if "architecture" not in metadata:
                raise _unknown(path, state_dict) from None
            raise CheckpointError(
                f"{path}: the metadata names {architecture.name}, but the tensors belong to "
                f"another network; their keys are {few_names(state_dict)}"
            ) from None
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"{path}: the hyperparameters in the metadata are not a JSON object: {text[:80]!r}"
        )
    return arguments


def _skeleton(architecture: Architecture, hyperparameters: Mapping[str, object]) -> nn.Module:
    """Build the network on the meta device, without storage or random numbers."""
    with torch.device("meta"):
        return architecture.cls(**hyperparameters)


def _differences(
    network: nn.Module, state_dict: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that are missing, that are unexpected, and whose shapes differ.

    A key may be missing if its tensor is shared with a present one: safetensors files store only
    one name of a shared tensor.
    """
    own = network.state_dict(keep_vars=True)
    present = {id(tensor) for key, tensor in own.items() if key in state_dict}
    missing = [k for k, tensor in own.items() if k not in state_dict and id(tensor) not in present]
    unexpected = [key for key in state_dict if key not in own]
    reshaped = [key for key in own if key in state_dict and own[key].shape != state_dict[key].shape]
    return missing, unexpected, reshaped


def _share(network: nn.Module, state_dict: Mapping[str, Tensor]) -> float:
    """Share of common keys among all keys of both sides."""
    own = network.state_dict().keys()
    return len(own & state_dict.keys()) / len(own | state_dict.keys())


def _unknown(path: Path, state_dict: Mapping[str, Tensor]) -> CheckpointError:
    """The error for an unknown network; names the closest known one."""
    candidates = {each.name: _best_guess(each, state_dict) for each in ARCHITECTURES}
    closest = max(candidates, key=lambda name: _share(candidates[name], state_dict))
    if _share(candidates[closest], state_dict) > 0:
        return _misfit(path, closest, candidates[closest], state_dict)
    return CheckpointError(
        f"{path}: matches no known network ({', '.join(candidates)});\n"
        f"its keys are {few_names(state_dict)}"
    )


class NearMissError(CheckpointError):
    """Most tensors match a known network, so other libraries need not be tried."""


def _misfit(
    path: Path, name: str, network: nn.Module, state_dict: Mapping[str, Tensor]
) -> CheckpointError:
    """The error for tensors that do not match a network; lists the differences."""
    missing, unexpected, reshaped = _differences(network, state_dict)
    if missing or unexpected:
        reshaped = []  # one wrong key can falsify the inferred sizes: report keys only
    differences = {"missing": missing, "unexpected": unexpected, "different shape": reshaped}
    listed = "; ".join(
        f"{label}: {few_names(keys, 2)}" for label, keys in differences.items() if keys
    )
    share = _share(network, state_dict)
    percent = math.floor(100 * share)
    kind = NearMissError if share >= 0.5 else CheckpointError
    return kind(
        f"{path}: matches no known network; the closest is {name}, with {percent}% of the keys in "
        f"common;\n{listed}"
    )


def _best_guess(architecture: Architecture, state_dict: Mapping[str, Tensor]) -> nn.Module:
    try:
        return _skeleton(architecture, architecture.hyperparameters(state_dict))
    except _UNFIT:
        return _skeleton(architecture, {})
