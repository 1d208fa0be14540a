"""Whatever names a network, to the network: a file, an embedded model, a repository, a factory."""

import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from torch import nn

from glocal.errors import CheckpointError
from glocal.networks.checkpoint import SUFFIXES, read_checkpoint, read_metadata
from glocal.networks.detect import NearMissError, known_network
from glocal.networks.external import download, is_repository, made_by, recognised

__all__ = ["DEFAULT_MODEL", "LoadedNetwork", "embedded_models", "load", "load_checkpoint"]

DEFAULT_MODEL = "nafnet-motion-blur"
"""Name of the embedded model that is used where none is named."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, in eval mode on the CPU, and what is known about it.

    `train_size` is the (height, width) of the crops it was trained on and `task` what it was
    trained for; both are None where neither the file nor the release says.
    """

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    train_size: tuple[int, int] | None
    name: str
    task: str | None


def load(source: str | Path) -> nn.Module:
    """The network of a checkpoint file or of an embedded model, in eval mode on the CPU.

    Checkpoints of networks that are not glocal's own are recognised where spandrel is installed.

    Args:
        source: path of a `.pth`, `.pt`, `.ckpt` or `.safetensors` file; the name of an
            embedded model (see `embedded_models`), which goes before a file of that very name;
            "owner/name" or "owner/name:file" on the Hugging Face Hub; or
            "package.module:factory", a Python function that makes the network.

    Raises:
        CheckpointError: the file cannot be read, or fits no known network.
        ArgumentError: the factory fails, or makes no network.
    """
    return load_checkpoint(source).network


def load_checkpoint(source: str | Path) -> LoadedNetwork:
    """The network of a checkpoint file or of an embedded model, with what is known about it.

    The weights are loaded in float32 (whatever the file holds) and the global random state is
    left alone.

    Args:
        source: as in `load`.

    Raises:
        CheckpointError: the file cannot be read, or fits no known network.
        ArgumentError: the factory fails, or makes no network.
    """
    embedded = _embedded_files()
    if isinstance(source, str) and source in embedded:
        with importlib.resources.as_file(embedded[source]) as path:
            return _load_file(path, name=source)
    path = Path(source)
    if isinstance(source, str) and not path.exists():
        if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", source):
            network = made_by(source)
            return LoadedNetwork(network, type(network).__name__, {}, None, source, None)
        if is_repository(source) and (":" in source or path.suffix not in SUFFIXES):
            return _load_file(download(source), name=source)
    if not path.exists() and not path.suffix:
        known = ", ".join(embedded) or "none"
        raise CheckpointError(
            f"{path}: neither a file nor an embedded model (embedded models: {known})"
        )
    return _load_file(path, name=path.stem)


def embedded_models() -> dict[str, dict[str, str]]:
    """The models that come with the package: name → metadata of its safetensors header."""
    models: dict[str, dict[str, str]] = {}
    for name, file in _embedded_files().items():
        with importlib.resources.as_file(file) as path:
            models[name] = read_metadata(path)
    return models


def _load_file(path: Path, name: str) -> LoadedNetwork:
    state_dict, metadata = read_checkpoint(path)
    try:
        network, architecture, hyperparameters = known_network(path, state_dict, metadata)
    except CheckpointError as unfit:
        if "architecture" in metadata:
            raise
        external, why = None, "spandrel knows none either"
        try:
            external = recognised(state_dict)
        except CheckpointError as error:
            why = str(error)
        if external is None and isinstance(unfit, NearMissError):
            raise
        if external is None:
            raise CheckpointError(f"{unfit}; {why}") from None
        return LoadedNetwork(
            network=external.network,
            architecture=external.architecture,
            hyperparameters=external.hyperparameters,
            train_size=_train_size(path, metadata),
            name=metadata.get("name", name),
            task=metadata.get("task", external.task),
        )
    return LoadedNetwork(
        network=network,
        architecture=architecture.name,
        hyperparameters=hyperparameters,
        train_size=_train_size(path, metadata) or architecture.train_size,
        name=metadata.get("name", name),
        task=metadata.get("task"),
    )


def _train_size(path: Path, metadata: Mapping[str, str]) -> tuple[int, int] | None:
    text = metadata.get("train_size")
    if text is None:
        return None
    match = re.fullmatch(r"[\[(]?\s*(\d+)\s*(?:[,x×]\s*(\d+)\s*)?[\])]?", text)
    if match is None:
        raise CheckpointError(
            f"{path}: the train_size in its metadata is neither one size nor two: {text[:80]!r}"
        )
    return int(match[1]), int(match[2] or match[1])


def _weights_folder() -> Traversable:
    return importlib.resources.files("glocal") / "weights"


def _embedded_files() -> dict[str, Traversable]:
    folder = _weights_folder()
    if not folder.is_dir():
        return {}
    files = {file.name: file for file in folder.iterdir() if file.name.endswith(".safetensors")}
    return {name.removesuffix(".safetensors"): files[name] for name in sorted(files)}
