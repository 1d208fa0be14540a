"""What is known about the models that load by name, from the headers of their files."""

import importlib.resources
import math
from dataclasses import dataclass
from pathlib import Path

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.detect import ARCHITECTURES
from glocal.networks.checkpoints.files import read_metadata, read_shapes
from glocal.networks.fetching.store import stored_models
from glocal.networks.loading import embedded_files, stated_size

__all__ = ["NamedModel", "named_models"]


@dataclass(frozen=True)
class NamedModel:
    """A model that loads by its name; None stands for what its file does not state.

    Attributes:
        name: for `glocal.load`.
        path: of its file.
        embedded: True if glocal contains it, False if the user's model folder does.
        architecture: such as "NAFNet".
        task: such as "deblurring".
        train_size: (height, width) of the training crops in pixels.
        window: (height, width) of the window that serves it best, in pixels.
        parameters: number of weights.
        file_bytes: size of the file.
        licence: of the weights.
        source: where they come from.
    """

    name: str
    path: Path
    embedded: bool
    architecture: str | None
    task: str | None
    train_size: tuple[int, int] | None
    window: tuple[int, int] | None
    parameters: int
    file_bytes: int
    licence: str | None
    source: str | None

    @classmethod
    def read(cls, name: str, path: Path, *, embedded: bool) -> "NamedModel":
        """Read the header of a file, not its weights.

        Raises:
            CheckpointError: it is not a readable safetensors file, or states a wrong size.
        """
        shapes, metadata = read_shapes(path), read_metadata(path)
        known = next((each for each in ARCHITECTURES if each.recognises(shapes)), None)
        name_of_known, size_of_known = (known.name, known.train_size) if known else (None, None)
        return cls(
            name=name,
            path=path,
            embedded=embedded,
            architecture=metadata.get("architecture") or name_of_known,
            task=metadata.get("task"),
            train_size=stated_size(path, metadata, "train_size") or size_of_known,
            window=stated_size(path, metadata, "window"),
            parameters=sum(map(math.prod, shapes.values())),
            file_bytes=path.stat().st_size,
            licence=metadata.get("licence"),
            source=metadata.get("source"),
        )


def named_models() -> tuple[list[NamedModel], list[str]]:
    """Return the embedded models and those of the user, and why others cannot be read.

    A model of the user that has the name of an embedded one does not load by it, and is left out.
    """
    models: list[NamedModel] = []
    problems: list[str] = []
    embedded = embedded_files()
    for name, file in embedded.items():
        with importlib.resources.as_file(file) as path:
            models.append(NamedModel.read(name, path, embedded=True))
    for name, path in stored_models().items():
        if name in embedded:
            problems.append(f"{path}: glocal contains another model of this name; rename the file")
            continue
        try:
            models.append(NamedModel.read(name, path, embedded=False))
        except CheckpointError as error:
            problems.append(str(error))
    return models, problems
