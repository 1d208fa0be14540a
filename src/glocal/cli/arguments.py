"""The command line's words for sizes and models."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from glocal.networks import LoadedNetwork

__all__ = [
    "ModelName",
    "TrainSize",
    "Window",
    "load_model",
    "parse_size",
    "size_text",
    "train_size_of",
]


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "384" or "384x512".

    >>> parse_size("384"), parse_size("384x512")
    ((384, 384), (384, 512))

    Raises:
        typer.BadParameter: the text is no size.
    """
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if match is None or "0" in (match[1], match[2]):
        raise typer.BadParameter(f"{text!r} is no size; give pixels as 384, or as 384x512 (h x w)")
    return int(match[1]), int(match[2] or match[1])


def size_text(size: tuple[int, int]) -> str:
    """A size in the form that `parse_size` reads, height first.

    >>> size_text((384, 512))
    '384x512'
    """
    return f"{size[0]}x{size[1]}"


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Checkpoint (.pth, .safetensors), embedded name (see [bold]glocal models[/bold]), "
        "or package.module:factory.",
        rich_help_panel="Network",
    ),
]
# typer reads the type from the parser; the value is (height, width)
TrainSize = Annotated[
    Any,
    typer.Option(
        "--train-size",
        parser=parse_size,
        metavar="N|HxW",
        help="Size of the crops the network was trained on, in pixels; needed where the model "
        "does not say it.",
        rich_help_panel="Network",
    ),
]
Window = Annotated[
    Any,
    typer.Option(
        "--window",
        parser=parse_size,
        metavar="N|HxW",
        help="Window of the local operations, in input pixels.  [dim]\\[default: 1.5 × the "
        "train size][/dim]",
        rich_help_panel="Local operations (TLC)",
    ),
]


def load_model(name: str) -> "LoadedNetwork":
    """The network of a checkpoint, an embedded name or a ``package.module:factory``.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
        ArgumentError: the factory makes no network.
    """
    from glocal.networks import load_checkpoint

    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", name):
        return _made_by(name)
    return load_checkpoint(name)


def train_size_of(loaded: "LoadedNetwork", given: tuple[int, int] | None) -> tuple[int, int]:
    """The training size the user gave, or else the one the model carries.

    Raises:
        ArgumentError: neither says it.
    """
    size = given or loaded.train_size
    if size is None:
        raise ArgumentError(
            f"{loaded.name} does not say on which crop size it was trained; give --train-size\n"
            "(gt_size, patch_size or crop_size in its training options; "
            "256 for most models trained on GoPro)"
        )
    return size


def _made_by(name: str) -> "LoadedNetwork":
    import importlib
    import os
    import sys
    from functools import reduce

    from torch import nn

    from glocal.networks import LoadedNetwork

    module_name, attribute = name.split(":")
    sys.path.insert(0, os.getcwd())
    try:
        factory = reduce(getattr, attribute.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{name}: cannot be imported ({error})") from None
    finally:
        sys.path.remove(os.getcwd())
    network: Any = (
        factory() if callable(factory) and not isinstance(factory, nn.Module) else factory
    )
    if not isinstance(network, nn.Module):
        raise ArgumentError(
            f"{name}: gave {type(network).__name__}; a factory returns a torch.nn.Module"
        )
    return LoadedNetwork(
        network=network.eval(),
        architecture=type(network).__name__,
        hyperparameters={},
        train_size=None,
        name=name,
        task=None,
    )
