"""Load networks: checkpoint files, embedded models, Hugging Face Hub, factories."""

import importlib.resources
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from torch import nn

from glocal.conversion.train_size import ATTRIBUTE, WINDOW_ATTRIBUTE, carried_train_size
from glocal.errors import ArgumentError, CheckpointError, GlocalWarning
from glocal.networks.checkpoints.candidates import Candidate, candidates, unnamed_averages
from glocal.networks.checkpoints.files import SUFFIXES, read_checkpoint, read_metadata
from glocal.networks.checkpoints.fits import fit
from glocal.networks.checkpoints.names import Role
from glocal.networks.checkpoints.own import Factory, is_function, made_by
from glocal.networks.fetching.catalogue import CATALOGUE
from glocal.networks.fetching.hub import download, is_repository
from glocal.networks.fetching.store import stored_models
from glocal.texts import few_names, short_name

__all__ = [
    "DEFAULT_MODEL",
    "LoadedNetwork",
    "embedded_files",
    "embedded_models",
    "load",
    "load_checkpoint",
    "stated_size",
]

DEFAULT_MODEL = "nafnet-motion-blur"
"""The embedded model that is used by default."""

_MOST_PIXELS = 65_536  # pixels a side
_MOST_TEXT = 200  # characters


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, in eval mode on the CPU, and its description.

    Attributes:
        network: carries its training size as `network.glocal_train_size`, and its window as
            `network.glocal_window`, where they are known.
        architecture: its name, such as "NAFNet"; the class name for a factory.
        hyperparameters: constructor arguments of the network.
        train_size: (height, width) of its training crops in pixels; None if unknown.
        name: of the embedded model or of the checkpoint.
        task: what it was trained for, such as "deblurring"; None if unknown.
        entry: where the weights lie in the checkpoint, such as "params_ema"; empty if it has
            nothing but weights.
        other_entries: entries whose weights have the same names and shapes, and were not taken.
        window: (height, width) of the window that serves it best, in pixels; None if the
            checkpoint states none.
        metadata: what a safetensors file states, such as `licence` and `source`, unchecked.
    """

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    train_size: tuple[int, int] | None
    name: str
    task: str | None
    entry: str = ""
    other_entries: tuple[str, ...] = ()
    window: tuple[int, int] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.train_size is not None:
            setattr(self.network, ATTRIBUTE, self.train_size)
        if self.window is not None:
            setattr(self.network, WINDOW_ATTRIBUTE, self.window)


def load(
    source: str | Path, *, entry: str | None = None, arch: str | Factory | None = None
) -> nn.Module:
    """Return the network of a checkpoint or an embedded model, in eval mode.

    The network is on the CPU. It carries its training size as `network.glocal_train_size` where
    the checkpoint or the architecture states it, and the window of the checkpoint as
    `network.glocal_window`, so `glocal.localize(glocal.load(source))` needs no number. With
    spandrel installed, checkpoints of its architectures are recognised too.

    >>> load("nafnet-motion-blur").glocal_train_size
    (64, 64)

    Args:
        source: one of

            - path of a checkpoint: a file of torch.save or safetensors, an index of shards, or a
              folder that has one of them;
            - name of an embedded model, see `embedded_models`, or of one in the user's model
              folder, which `glocal models get` fills; it takes precedence over a file of that
              name;
            - "owner/name" on the Hugging Face Hub, also "owner/name:file", and
              "owner/name@revision" for a branch, a tag or a commit;
            - "package.module:factory", a Python function that returns the network.
        entry: where the weights lie in the checkpoint, such as "params" or "state_dict.net". By
            default the weights that a network fits: averaged ones (EMA), else the generator's,
            else the first.
        arch: the network, if it is not to be detected: a name such as "NAFNet", an id of
            spandrel, a function without arguments that returns the network, or its name
            "package.module:factory". The weights must fit it exactly.

    Raises:
        CheckpointError: the file cannot be read, or matches no known network.
        ArgumentError: the architecture is unknown, or the factory fails or returns no network.
    """
    return load_checkpoint(source, entry=entry, arch=arch).network


def load_checkpoint(
    source: str | Path, *, entry: str | None = None, arch: str | Factory | None = None
) -> LoadedNetwork:
    """Return a network with what is known about it: training size, task, name.

    Weights are loaded in float32, whatever the file stores. The global random state is not
    changed. Warns if the file has several sets of weights that fit and no name prefers one.

    Args:
        source: as in `load`.
        entry: as in `load`.
        arch: as in `load`.

    Raises:
        CheckpointError: the file cannot be read, or matches no known network.
        ArgumentError: the architecture is unknown, or the factory fails or returns no network.
    """
    options: dict[str, Any] = {"entry": entry, "arch": arch}
    embedded = embedded_files()
    if isinstance(source, str) and source in embedded:
        with importlib.resources.as_file(embedded[source]) as path:
            return _load_file(path, source, **options)
    stored = stored_models()
    if isinstance(source, str) and source in stored:
        return _load_file(stored[source], source, **options)
    path = Path(source)
    if isinstance(source, str) and not path.exists():
        if is_function(source):
            return _load_function(source, **options)
        if is_repository(source) and (":" in source or path.suffix not in SUFFIXES):
            return _load_file(download(source), source, **options)
    if not path.exists() and not path.suffix:
        raise CheckpointError(_no_model(str(source), [*embedded, *stored]))
    return _load_file(path, path.stem, **options)


def _no_model(source: str, known: Sequence[str]) -> str:
    if source in CATALOGUE:
        return f"{source} is not in your model folder yet; run: glocal models get {source}"
    missing = [name for name in CATALOGUE if name not in known]
    more = f"\n`glocal models get NAME` fetches {', '.join(missing)}" if missing else ""
    return f"{source}: neither a file nor a model (models: {', '.join(known) or 'none'}){more}"


def embedded_models() -> dict[str, dict[str, str]]:
    """Return the metadata of the models in the package, by their names."""
    models: dict[str, dict[str, str]] = {}
    for name, file in embedded_files().items():
        with importlib.resources.as_file(file) as path:
            models[name] = read_metadata(path)
    return models


def _load_function(source: str, **options: object) -> LoadedNetwork:
    if any(options.values()):
        raise ArgumentError(
            f"{source}: a function returns a network as it is; entry and arch are for checkpoints, "
            f"so give the checkpoint as the model and --arch {source}"
        )
    network = made_by(source)
    size = carried_train_size(network)
    return LoadedNetwork(network, type(network).__name__, {}, size, source, None)


def _load_file(
    path: Path, name: str, *, entry: str | None, arch: str | Factory | None
) -> LoadedNetwork:
    content, metadata = read_checkpoint(path)
    found = candidates(path, content, entry)
    fitted = fit(path, found, metadata, arch)
    chosen = fitted.candidate
    others = [each for each in found if each is not chosen and each.same_keys(chosen)]
    _warn_of_doubt(path, content, chosen, others)
    return LoadedNetwork(
        network=fitted.network,
        architecture=fitted.architecture,
        hyperparameters=fitted.hyperparameters,
        train_size=stated_size(path, metadata, "train_size") or fitted.train_size,
        name=_stated_text(path, metadata, "name") or name,
        task=_stated_text(path, metadata, "task") or fitted.task,
        entry=chosen.entry,
        other_entries=tuple(each.entry for each in others),
        window=stated_size(path, metadata, "window"),
        metadata=metadata,
    )


def _warn_of_doubt(
    path: Path, content: object, chosen: Candidate, others: Sequence[Candidate]
) -> None:
    """Warn if better weights cannot be read, or others differ and nothing prefers the chosen."""
    unnamed = unnamed_averages(content)
    if unnamed and chosen.role is not Role.AVERAGED:
        warnings.warn(
            f"{path}: the averaged weights in {few_names(unnamed)} have no names; those in "
            f"{chosen.entry or 'the file itself'} are taken instead",
            GlocalWarning,
            stacklevel=2,
        )
    equal = [
        each.entry for each in others if each.role is chosen.role and not each.same_weights(chosen)
    ]
    if equal:
        warnings.warn(
            f"{path}: the weights in {chosen.entry} are taken; those in {few_names(equal)} differ "
            "and fit too; choose with --entry (entry=)",
            GlocalWarning,
            stacklevel=2,
        )


def _stated_text(path: Path, metadata: Mapping[str, str], key: str) -> str | None:
    text = metadata.get(key)
    if text is not None and (len(text) > _MOST_TEXT or not text.isprintable()):
        raise CheckpointError(
            f"{path}: {key} in the metadata must be one line of at most {_MOST_TEXT} characters, "
            f"got {short_name(text)}"
        )
    return text


def stated_size(path: Path, metadata: Mapping[str, str], key: str) -> tuple[int, int] | None:
    """Return (height, width) of a size in the metadata of a file; None without it.

    Args:
        path: of the file, for errors.
        metadata: of the file.
        key: "train_size" or "window".

    Raises:
        CheckpointError: the text is not one or two integers, or they are no size of an image.
    """
    text = metadata.get(key)
    if text is None:
        return None
    match = re.fullmatch(r"[\[(]?\s*(\d{1,9})\s*(?:[,x×]\s*(\d{1,9})\s*)?[\])]?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(size) < 1 or max(size) > _MOST_PIXELS:
        raise CheckpointError(
            f"{path}: {key} in the metadata must be one or two integers from 1 to "
            f"{_MOST_PIXELS}, got {short_name(text)!r}"
        )
    return size


def _weights_folder() -> Traversable:
    return importlib.resources.files("glocal") / "weights"


def embedded_files() -> dict[str, Traversable]:
    """Return the files of the models in the package, by their names, sorted."""
    folder = _weights_folder()
    if not folder.is_dir():
        return {}
    files = {file.name: file for file in folder.iterdir() if file.name.endswith(".safetensors")}
    return {name.removesuffix(".safetensors"): files[name] for name in sorted(files)}
