"""From tensors to the network they belong to.

It is recognised by their keys and shapes (or named in the header of a safetensors file), built
with the constructor arguments that follow from them, and loaded strictly.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from glocal.errors import CheckpointError
from glocal.networks.checkpoint import few
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

__all__ = ["ARCHITECTURES", "Architecture", "NearMissError", "known_network"]


@dataclass(frozen=True)
class Architecture:
    """A kind of network, how to know its state dict, and how to size it.

    `train_size` is the (height, width) of the crops that all checkpoints of its release were
    trained on, None where they differ; it holds for files that do not say it themselves.
    """

    name: str
    cls: Callable[..., nn.Module]
    recognises: Callable[[Mapping[str, Tensor]], bool]
    hyperparameters: Callable[[Mapping[str, Tensor]], dict[str, object]]
    train_size: tuple[int, int] | None = None


def _has(*keys: str, block: str = "") -> Callable[[Mapping[str, Tensor]], bool]:
    """Every one of `keys` is there, and some key contains `block`."""

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
"""Every network that a checkpoint can be recognised as, by name; no two accept the same keys."""


def known_network(
    path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """The network that a file's tensors belong to, with them, in eval mode on the CPU.

    Returns:
        The network, its architecture, and the constructor arguments that follow from the tensors.

    Raises:
        NearMissError: the tensors are nearly those of a known network.
        CheckpointError: they fit none, or the metadata names none.
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


# What an inference of constructor arguments, or a constructor, raises on tensors of another kind.
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
            f"{path}: its metadata names the architecture {named!r}; known are {known}"
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
                f"{path}: its metadata names {architecture.name}, but its tensors are not of that "
                f"network; their keys are {few(state_dict)}"
            ) from None
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"{path}: the hyperparameters in its metadata are not a JSON object: {text[:80]!r}"
        )
    return arguments


def _skeleton(architecture: Architecture, hyperparameters: Mapping[str, object]) -> nn.Module:
    """The network without storage: nothing is initialised and no random number drawn."""
    with torch.device("meta"):
        return architecture.cls(**hyperparameters)


def _differences(
    network: nn.Module, state_dict: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that are missing, unexpected, and of another shape.

    A key may be missing where its tensor is shared with one that is there: safetensors files
    keep one of several names for the same tensor.
    """
    own = network.state_dict(keep_vars=True)
    present = {id(tensor) for key, tensor in own.items() if key in state_dict}
    missing = [k for k, tensor in own.items() if k not in state_dict and id(tensor) not in present]
    unexpected = [key for key in state_dict if key not in own]
    reshaped = [key for key in own if key in state_dict and own[key].shape != state_dict[key].shape]
    return missing, unexpected, reshaped


def _share(network: nn.Module, state_dict: Mapping[str, Tensor]) -> float:
    """Keys in common, as a share of all keys of either side."""
    own = network.state_dict().keys()
    return len(own & state_dict.keys()) / len(own | state_dict.keys())


def _unknown(path: Path, state_dict: Mapping[str, Tensor]) -> CheckpointError:
    """The error for tensors of no known network: names the closest one."""
    candidates = {each.name: _best_guess(each, state_dict) for each in ARCHITECTURES}
    closest = max(candidates, key=lambda name: _share(candidates[name], state_dict))
    if _share(candidates[closest], state_dict) > 0:
        return _misfit(path, closest, candidates[closest], state_dict)
    return CheckpointError(
        f"{path}: fits no known network ({', '.join(candidates)});\nits keys are {few(state_dict)}"
    )


class NearMissError(CheckpointError):
    """The tensors are nearly those of a known network, so that no other is worth mentioning."""


def _misfit(
    path: Path, name: str, network: nn.Module, state_dict: Mapping[str, Tensor]
) -> CheckpointError:
    """The error for tensors that nearly fit a network: says how they differ from its own."""
    missing, unexpected, reshaped = _differences(network, state_dict)
    if missing or unexpected:
        reshaped = []  # a key that is off can spoil the sizes read off the tensors: say it alone
    differences = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    listed = "; ".join(f"{label}: {few(keys, 2)}" for label, keys in differences.items() if keys)
    share = _share(network, state_dict)
    percent = math.floor(100 * share)
    kind = NearMissError if share >= 0.5 else CheckpointError
    return kind(
        f"{path}: fits no known network; closest is {name}, {percent}% of the "
        f"keys in common;\n{listed}"
    )


def _best_guess(architecture: Architecture, state_dict: Mapping[str, Tensor]) -> nn.Module:
    try:
        return _skeleton(architecture, architecture.hyperparameters(state_dict))
    except _UNFIT:
        return _skeleton(architecture, {})


# --- embedded models -------------------------------------------------------------------------
