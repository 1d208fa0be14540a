"""Find the network that the weights in a file fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path

import torch
from torch import nn

from glocal.conversion.train_size import carried_train_size
from glocal.errors import ArgumentError, CheckpointError
from glocal.networks.checkpoints.candidates import Candidate, parts, without_counters
from glocal.networks.checkpoints.detect import (
    ARCHITECTURES,
    Architecture,
    architecture_named,
    known_network,
    misfits,
)
from glocal.networks.checkpoints.external import is_spandrel_id, recognised
from glocal.networks.checkpoints.misfits import Misfit, closest_text, differences
from glocal.networks.checkpoints.own import Factory, built_by, is_function
from glocal.networks.checkpoints.precision import full_precision
from glocal.texts import few_names, short_name

__all__ = ["Fit", "fit"]

_NEAR = 0.5  # share of common keys from which an error says nothing of other libraries
_COMPARED = 6  # state dicts of a file that an error compares with the known networks


@dataclass(frozen=True)
class Fit:
    """A network with the weights of a candidate, in eval mode on the CPU."""

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    train_size: tuple[int, int] | None
    task: str | None
    candidate: Candidate


def fit(
    path: Path,
    found: Sequence[Candidate],
    metadata: Mapping[str, str],
    arch: str | Factory | None = None,
) -> Fit:
    """Return the first candidate that a network fits exactly, with that network.

    Args:
        path: of the file, for errors.
        found: the state dicts in it, preferred ones first.
        metadata: of the file.
        arch: name of the architecture, of glocal or spandrel; a function that builds the network,
            or its name, "package.module:factory". By default every known network is tried.

    Raises:
        CheckpointError: no network fits, the error names the closest ones; or weights are not
            finite.
        ArgumentError: the architecture is unknown, or the function fails.
    """
    fitted = _fitted(path, found, metadata, arch)
    for name, parameter in fitted.network.named_parameters():
        finite = torch.isfinite(parameter)
        if not bool(finite.all()):
            raise CheckpointError(
                f"{path}: {name} has {int((~finite).sum())} of {finite.numel()} values that are "
                "not numbers (NaN or infinite); these weights restore nothing"
            )
    return fitted


def _fitted(
    path: Path,
    found: Sequence[Candidate],
    metadata: Mapping[str, str],
    arch: str | Factory | None,
) -> Fit:
    if arch is None:
        return _detected(path, found, metadata)
    if not isinstance(arch, str) or is_function(arch):
        return _own(path, found, arch)
    named = architecture_named(arch)
    if named is None:
        return _of_spandrel(path, found, arch)
    fitted = _first_known(path, found, metadata, named)
    if fitted is None:
        raise CheckpointError(f"{path}: {_misfit_text(path, found, metadata, named)[1]}")
    return fitted


def _detected(path: Path, found: Sequence[Candidate], metadata: Mapping[str, str]) -> Fit:
    stated = metadata.get("architecture")
    if stated is not None and architecture_named(stated) is None:
        return _stated_elsewhere(path, found, stated)
    fitted = _first_known(path, found, metadata)
    if fitted is not None:
        return fitted
    if metadata.keys() & {"architecture", "hyperparameters"}:  # the file says what it is
        raise CheckpointError(f"{path}: {_misfit_text(path, found, metadata)[1]}")
    why = "spandrel does not recognise it either"
    try:
        fitted = _first_external(found)
    except CheckpointError as error:
        why = str(error)
    if fitted is None:
        share, text = _misfit_text(path, found, metadata)
        raise CheckpointError(f"{path}: {text}" + (f"; {why}" if share < _NEAR else ""))
    return fitted


def _stated_elsewhere(path: Path, found: Sequence[Candidate], stated: str) -> Fit:
    """Fit an architecture that the file states and that glocal does not have.

    Raises:
        CheckpointError: spandrel does not have it either, or it does not fit.
    """
    known = ", ".join(architecture.name for architecture in ARCHITECTURES)
    unknown = (
        f"{path}: unknown architecture {short_name(stated)!r} in the metadata; known are {known}, "
        "and those of spandrel"
    )
    try:
        known_to_spandrel = is_spandrel_id(stated)
    except CheckpointError as error:  # spandrel is optional
        raise CheckpointError(f"{unknown} ({error})") from None
    if not known_to_spandrel:
        raise CheckpointError(f"{unknown}; for your own give --arch package.module:factory (arch=)")
    return _of_spandrel(path, found, stated)


def _of_spandrel(path: Path, found: Sequence[Candidate], arch: str) -> Fit:
    if not is_spandrel_id(arch):
        known = ", ".join(architecture.name for architecture in ARCHITECTURES)
        raise ArgumentError(
            f"{arch}: unknown architecture; give one of {known}, an id of spandrel, or "
            "package.module:factory"
        )
    try:
        fitted = _first_external(found, arch)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    assert fitted is not None  # a named architecture fits or is an error
    return fitted


def _first_known(
    path: Path,
    found: Sequence[Candidate],
    metadata: Mapping[str, str],
    named: Architecture | None = None,
) -> Fit | None:
    for each in found:
        known = known_network(path, each, metadata, named)
        if known is not None:
            architecture = known.architecture
            return Fit(
                network=known.network,
                architecture=architecture.name,
                hyperparameters=known.hyperparameters,
                train_size=architecture.train_size,
                task=None,
                candidate=each,
            )
    return None


def _first_external(found: Sequence[Candidate], arch: str | None = None) -> Fit | None:
    problem = None
    for each in found:
        try:
            external = recognised(each.weights, arch)
        except CheckpointError as error:
            problem = problem or error
            continue
        if external is not None:
            return Fit(
                network=external.network,
                architecture=external.architecture,
                hyperparameters=external.hyperparameters,
                train_size=None,
                task=external.task,
                candidate=each,
            )
    if problem is not None:
        raise problem
    return None


def _own(path: Path, found: Sequence[Candidate], factory: str | Factory) -> Fit:
    name, network = built_by(factory)
    own = network.state_dict()
    compared = []
    for candidate in found:
        state_dict = full_precision(path, without_counters(candidate.state_dict, keep=own))
        if not differences(network, state_dict):
            network.load_state_dict(state_dict, strict=False)
            size = carried_train_size(network)
            return Fit(network, type(network).__name__, {}, size, None, candidate)
        compared.append(Misfit.of(candidate.entry, name, network, state_dict))
    closest = _closest(compared)
    raise CheckpointError(f"{path}: {closest}")


def _closest(compared: Sequence[Misfit]) -> Misfit:
    """Return the misfit with the most keys in common, of equals the one below most prefixes."""
    return max(reversed(compared), key=lambda misfit: misfit.share)


def _misfit_text(
    path: Path,
    found: Sequence[Candidate],
    metadata: Mapping[str, str],
    named: Architecture | None = None,
) -> tuple[float, str]:
    """Return the share of common keys with the closest network, and what to say of it."""
    compared = [
        misfit
        for candidate in found[:_COMPARED]
        for misfit in misfits(path, candidate, metadata, named)
    ]
    best = _closest(compared)
    if len({misfit.name for misfit in compared}) == 1:  # the user or the file names it
        return best.share, str(best)
    for candidate in found[:_COMPARED]:
        for part in parts(candidate):
            known_part = known_network(path, part, {})
            if known_part is not None:
                return 1, (
                    f"matches no known network as a whole; the keys below {part.entry!r} match "
                    f"{known_part.architecture.name}, choose them with --entry {part.entry}"
                )
    if not best.share:
        known = ", ".join(dict.fromkeys(misfit.name for misfit in compared))
        keys = few_names(found[0].state_dict)
        return 0, f"matches no known network ({known});\nits keys are {keys}"
    same = (each for each in compared if each.entry == best.entry and each.share)
    closest = nlargest(3, same, key=lambda misfit: misfit.share)
    subject = f"{best.entry} matches" if best.entry else "matches"
    return best.share, f"{subject} no known network; {closest_text(closest)}"
