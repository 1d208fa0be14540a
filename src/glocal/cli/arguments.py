"""The command line's words for sizes and models."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.errors import ArgumentError

if TYPE_CHECKING:
    from glocal.networks import LoadedNetwork

__all__ = [
    "AllowGlobal",
    "KeepGlobal",
    "Model",
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
        "owner/name on the Hugging Face Hub, or package.module:factory.",
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

KeepGlobal = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-global",
        metavar="PATTERN",
        help="Module paths that stay global, such as 'encoder.*'; may be repeated.",
        rich_help_panel="Local operations (TLC)",
    ),
]
AllowGlobal = Annotated[
    bool,
    typer.Option(
        "--allow-global",
        help="Go on where an operation cannot be made local.",
        rich_help_panel="Local operations (TLC)",
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint, embedded name, owner/name on the Hugging Face Hub, or "
        "package.module:factory.",
        show_default=False,
    ),
]


def load_model(name: str) -> "LoadedNetwork":
    """The network of any MODEL, see `glocal.networks.load`.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
        ArgumentError: the factory makes no network.
    """
    from glocal.networks import load_checkpoint

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
