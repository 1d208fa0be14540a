"""What several commands take: sizes, models, data, devices."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glocal.errors import ArgumentError

if TYPE_CHECKING:
    from glocal.networks import LoadedNetwork

__all__ = [
    "AllowGlobal",
    "Blending",
    "DType",
    "Data",
    "Device",
    "KeepGlobal",
    "Layout",
    "Limit",
    "Model",
    "ModelName",
    "NoiseSigma",
    "Output",
    "PrecisionOption",
    "TrainSize",
    "Window",
    "device_named",
    "load_model",
    "parse_size",
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

PrecisionOption = Annotated[
    Literal["exact", "fast"],
    typer.Option(
        "--precision",
        help="fast evaluates window statistics on a grid and interpolates: quicker, nearly equal.",
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
Data = Annotated[
    Path,
    typer.Option("--data", "-d", metavar="DIR", help="Folder of the images.", show_default=False),
]
Layout = Annotated[
    str,
    typer.Option(
        metavar="NAME|DEGRADED:TARGET",
        help="How the data set lies on disk: gopro, hide, realblur-j, reds, sidd, dpdd, sots, "
        "rain, paired …, dnd for images without targets, or the paths of two folders; auto takes "
        "what fits.",
        rich_help_panel="Data",
    ),
]
NoiseSigma = Annotated[
    float | None,
    typer.Option(
        help="For a folder of clean images: deviation of the noise to add, in 1/255.",
        rich_help_panel="Data",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Take N images only, spread evenly over the data set.",
        rich_help_panel="Data",
        show_default=False,
    ),
]
Output = Annotated[
    int | None,
    typer.Option(
        help="Which output to take of a network that returns several, counted from 0.",
        rich_help_panel="Network",
    ),
]
Blending = Annotated[
    Literal["linear", "mean", "cut"],
    typer.Option(
        help="linear fades tiles into each other, mean averages where they overlap, cut takes "
        "each pixel from one tile.",
        rich_help_panel="Crop-and-stitch",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where to run; auto takes a GPU.", rich_help_panel="Running"),
]
DType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        help="What to compute in; auto is the network's own type. A CPU without instructions for "
        "bfloat16 or float16 takes many times as long with them.",
        rich_help_panel="Running",
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


def device_named(name: str) -> str:
    """The device to run on; "auto" is a GPU where there is one.

    Raises:
        ArgumentError: there is no GPU where one is asked for.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("--device cuda: torch finds no CUDA device here; give --device cpu")
    return name
