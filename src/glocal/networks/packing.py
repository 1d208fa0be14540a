"""A network as one safetensors file that says all that is needed to load and convert it."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from glocal.conversion.train_size import resolve_window
from glocal.errors import ArgumentError, CheckpointError
from glocal.networks.checkpoints.detect import architecture_named
from glocal.networks.checkpoints.external import Fitted
from glocal.networks.checkpoints.files import WEIGHTS_FILE
from glocal.networks.checkpoints.own import is_function
from glocal.networks.loading import LoadedNetwork, load_checkpoint
from glocal.texts import short_name, size_text

__all__ = ["Packed", "packed"]

_MOST_TEXT = 200  # characters of a value that is shown


@dataclass(frozen=True)
class Packed:
    """A network in a file.

    Attributes:
        content: of the file.
        metadata: that the file states; all values are text.
        parameters: number of weights.
        factory: name of the function that builds the network, "package.module:factory", where
            neither glocal nor spandrel has it; empty otherwise.
    """

    content: bytes
    metadata: dict[str, str]
    parameters: int
    factory: str


def packed(
    loaded: LoadedNetwork,
    *,
    train_size: tuple[int, int],
    window: tuple[int, int] | None = None,
    licence: str | None = None,
    licence_text: str | None = None,
    name: str | None = None,
    task: str | None = None,
    arch: str | None = None,
    half: bool = False,
) -> Packed:
    """Return a network as a file, after loading it back from there.

    Args:
        loaded: the network; what its own file stated is kept.
        train_size: (height, width) of its training crops.
        window: that serves it best, by default the one it states, else that of `localize`.
        licence: of the weights, by default the stated one.
        licence_text: the whole text of the licence, which may have to accompany the weights.
        name: of the model, by default the stated one.
        task: what it was trained for, by default the stated one.
        arch: the function that builds the network, if the user gave one.
        half: store float16.

    Raises:
        ArgumentError: the licence is not stated, or a text has several lines.
        CheckpointError: the network that loads from the file is another one.
    """
    network = loaded.network.network if isinstance(loaded.network, Fitted) else loaded.network
    assert isinstance(network, nn.Module)
    known = architecture_named(loaded.architecture) is not None
    given = {
        "name": name or loaded.name.rpartition("/")[2],
        "task": task or loaded.task,
        "licence": licence or loaded.metadata.get("licence"),
        "licence_text": licence_text,
        "architecture": loaded.architecture,
        "hyperparameters": json.dumps(loaded.hyperparameters) if known else None,
        "train_size": size_text(train_size),
        "window": size_text(resolve_window(loaded.network, train_size, window, None)),
        "format": "pt",
    }
    kept = dict(loaded.metadata)
    if licence:
        kept.pop("licence_text", None)  # of another licence
    metadata = {**kept, **{key: text for key, text in given.items() if text}}
    _check(metadata)
    tensors = _tensors(network, half=half)
    content = save(tensors, metadata)
    factory = next((each for each in (arch, loaded.name) if each and is_function(each)), "")
    _check_loads(content, loaded.network, tensors, factory or arch, metadata)
    return Packed(content, metadata, sum(p.numel() for p in network.parameters()), factory)


def _check(metadata: dict[str, str]) -> None:
    if "licence" not in metadata:
        raise ArgumentError("the licence of the weights is not stated; give --licence, such as MIT")
    for key in ("name", "task", "licence"):
        text = metadata.get(key, "")
        if len(text) > _MOST_TEXT or not text.isprintable():
            raise ArgumentError(
                f"{key} must be one line of at most {_MOST_TEXT} characters, got {short_name(text)}"
            )


def _tensors(network: nn.Module, *, half: bool) -> dict[str, Tensor]:
    dtype = torch.float16 if half else torch.float32
    return {  # copies: tied weights share memory, which the format refuses
        key: tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        .contiguous()
        for key, tensor in network.state_dict().items()
    }  # fmt: skip


def _check_loads(
    content: bytes,
    network: nn.Module,
    tensors: dict[str, Tensor],
    arch: str | None,
    metadata: dict[str, str],
) -> None:
    """Check that a file gives the network back.

    Raises:
        CheckpointError: it does not.
    """
    with tempfile.TemporaryDirectory(prefix="glocal-") as temporary:
        path = Path(temporary) / WEIGHTS_FILE
        path.write_bytes(content)
        try:
            again = load_checkpoint(path, arch=arch)
        except CheckpointError as error:
            why = str(error).removeprefix(f"{path}: ")
            raise CheckpointError(f"{metadata['name']}: would not load back: {why}") from None
    found = again.network.network if isinstance(again.network, Fitted) else again.network
    assert isinstance(found, nn.Module)
    state_dict = found.state_dict()
    same = state_dict.keys() == tensors.keys() and all(
        torch.equal(state_dict[key], tensor.to(state_dict[key].dtype))
        for key, tensor in tensors.items()
    )
    sizes = [size and size_text(size) for size in (again.train_size, again.window)]
    if not same or sizes != [metadata["train_size"], metadata["window"]]:
        raise CheckpointError(
            f"{metadata['name']}: would load back as another {type(network).__name__}; nothing is "
            "written"
        )
