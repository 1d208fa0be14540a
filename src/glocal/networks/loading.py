"""Load networks: checkpoint files, embedded models, Hugging Face Hub, factories."""

import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from torch import nn

from glocal.conversion.train_size import ATTRIBUTE, carried_train_size
from glocal.errors import CheckpointError
from glocal.networks.checkpoint import SUFFIXES, read_checkpoint, read_metadata
from glocal.networks.detect import NearMissError, known_network
from glocal.networks.external import download, is_repository, made_by, recognised

__all__ = ["DEFAULT_MODEL", "LoadedNetwork", "embedded_models", "load", "load_checkpoint"]

DEFAULT_MODEL = "nafnet-motion-blur"
"""The embedded model that is used by default."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, in eval mode on the CPU, and its description.

    Attributes:
        network: carries its training size as `network.glocal_train_size` where that is known.
        architecture: its name, such as "NAFNet"; the class name for a factory.
        hyperparameters: constructor arguments of the network.
        train_size: (height, width) of its training crops in pixels; None if unknown.
        name: of the embedded model or of the checkpoint.
        task: what it was trained for, such as "deblurring"; None if unknown.
    """

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    train_size: tuple[int, int] | None
    name: str
    task: str | None

    def __post_init__(self) -> None:
        if self.train_size is not None:
            setattr(self.network, ATTRIBUTE, self.train_size)


def load(source: str | Path) -> nn.Module:
    """Return the network of a checkpoint or an embedded model, in eval mode.

    The network is on the CPU. It carries its training size as `network.glocal_train_size` where
    the checkpoint or the architecture states it, so `glocal.localize(glocal.load(source))` needs
    no number. With spandrel installed, checkpoints of its architectures are recognised too.

    >>> load("nafnet-motion-blur").glocal_train_size
    (64, 64)

    Args:
        source: one of

            - path of a `.pth`, `.pt`, `.ckpt` or `.safetensors` file;
            - name of an embedded model, see `embedded_models`; it takes precedence over a file
              of that name;
            - "owner/name" or "owner/name:file" on the Hugging Face Hub;
            - "package.module:factory", a Python function that returns the network.

    Raises:
        CheckpointError: the file cannot be read, or matches no known network.
        ArgumentError: the factory fails, or returns no network.
    """
    return load_checkpoint(source).network


def load_checkpoint(source: str | Path) -> LoadedNetwork:
    """Return a network with what is known about it: training size, task, name.

    Weights are loaded in float32, whatever the file stores. The global random state is not
    changed.

    Args:
        source: as in `load`.

    Raises:
        CheckpointError: the file cannot be read, or matches no known network.
        ArgumentError: the factory fails, or returns no network.
    """
    embedded = _embedded_files()
    if isinstance(source, str) and source in embedded:
        with importlib.resources.as_file(embedded[source]) as path:
            return _load_file(path, name=source)
    path = Path(source)
    if isinstance(source, str) and not path.exists():
        if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", source):
            network = made_by(source)
            size = carried_train_size(network)
            return LoadedNetwork(network, type(network).__name__, {}, size, source, None)
        if is_repository(source) and (":" in source or path.suffix not in SUFFIXES):
            return _load_file(download(source), name=source)
    if not path.exists() and not path.suffix:
        known = ", ".join(embedded) or "none"
        raise CheckpointError(
            f"{path}: neither a file nor an embedded model (embedded models: {known})"
        )
    return _load_file(path, name=path.stem)


def embedded_models() -> dict[str, dict[str, str]]:
    """Return the metadata of the models in the package, by their names."""
    models: dict[str, dict[str, str]] = {}
    for name, file in _embedded_files().items():
        with importlib.resources.as_file(file) as path:
            models[name] = read_metadata(path)
    return models


def _load_file(path: Path, name: str) -> LoadedNetwork:
    state_dict, metadata = read_checkpoint(path)
    try:
        network, architecture, hyperparameters = known_network(path, state_dict, metadata)
    except CheckpointError as mismatch:
        if metadata.keys() & {"architecture", "hyperparameters"}:  # the file says what it is
            raise
        external, why = None, "spandrel does not recognise it either"
        try:
            external = recognised(state_dict)
        except CheckpointError as error:
            why = str(error)
        if external is None and isinstance(mismatch, NearMissError):
            raise
        if external is None:
            raise CheckpointError(f"{mismatch}; {why}") from None
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
            f"{path}: train_size in the metadata must be one or two integers, got {text[:80]!r}"
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
