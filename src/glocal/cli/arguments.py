"""Options that several commands share: sizes, models, data, devices.

Above 300 lines: each option has its help.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glocal.cli.reporting import say
from glocal.errors import ArgumentError
from glocal.texts import few_names

if TYPE_CHECKING:
    from glocal.networks import LoadedNetwork

__all__ = [
    "DEFAULT_MODEL",
    "AllowGlobal",
    "Arch",
    "DType",
    "Data",
    "Device",
    "Entry",
    "GreyOption",
    "KeepGlobal",
    "Layout",
    "Limit",
    "Model",
    "ModelName",
    "NoiseSigma",
    "Output",
    "PrecisionOption",
    "TrainSize",
    "Verify",
    "Window",
    "check_new_file",
    "device_named",
    "load_model",
    "parse_output",
    "parse_size",
    "train_size_of",
]


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "384" or "384x512".

    >>> parse_size("384"), parse_size("384x512")
    ((384, 384), (384, 512))

    Raises:
        typer.BadParameter: the text is not a size.
    """
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if match is None or "0" in (match[1], match[2]):
        raise typer.BadParameter(f"{text!r} is not a size; give pixels as 384 or 384x512 (h x w)")
    return int(match[1]), int(match[2] or match[1])


DEFAULT_MODEL = "nafnet-motion-blur"
"""The embedded model of `restore`."""

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Checkpoint file (.pth, .safetensors), name of a model (see [bold]glocal "
        "models[/bold]), owner/name on the Hugging Face Hub, or package.module:factory.  "
        f"[dim]\\[default: {DEFAULT_MODEL}][/dim]",
        rich_help_panel="Network",
    ),
]
Entry = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the weights lie in the checkpoint, such as params or state_dict.net.  "
        "[dim]\\[default: averaged ones (EMA), else the generator's][/dim]",
        rich_help_panel="Network",
        show_default=False,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Network of the checkpoint: a name (see [bold]glocal models[/bold]), an id of "
        "spandrel, or package.module:factory.  [dim]\\[default: detected][/dim]",
        rich_help_panel="Network",
        show_default=False,
    ),
]
# typer reads the type from the parser; the value is (height, width)
TrainSize = Annotated[
    Any,
    typer.Option(
        "--train-size",
        parser=parse_size,
        metavar="N|HxW",
        help="Size of the training crops in pixels.  [dim]\\[default: as the model states][/dim]",
        rich_help_panel="Network",
    ),
]
Window = Annotated[
    Any,
    typer.Option(
        "--window",
        parser=parse_size,
        metavar="N|HxW",
        help="Window of local operations, in input pixels.  [dim]\\[default: as the model states, "
        "or 1.5 × the train size][/dim]",
        rich_help_panel="Local operations (TLC)",
    ),
]

PrecisionOption = Annotated[
    Literal["exact", "fast"],
    typer.Option(
        "--precision",
        help="Precision of window statistics. fast computes them on a coarse grid and "
        "interpolates.",
        rich_help_panel="Local operations (TLC)",
    ),
]
KeepGlobal = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-global",
        metavar="PATTERN",
        help="Leave modules global, such as 'encoder.*'; may be repeated.",
        rich_help_panel="Local operations (TLC)",
    ),
]
AllowGlobal = Annotated[
    bool,
    typer.Option(
        "--allow-global",
        help="Leave operations global that cannot be converted, instead of failing.",
        rich_help_panel="Local operations (TLC)",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Prove the conversion by running the network; this takes about as long as ten calls "
        "at the training size.",
        rich_help_panel="Local operations (TLC)",
    ),
]
Data = Annotated[
    Path,
    typer.Option("--data", "-d", metavar="DIR", help="Folder of images.", show_default=False),
]
Layout = Annotated[
    str,
    typer.Option(
        metavar="LAYOUT",
        help="Layout of the data set: gopro, hide, realblur-j, reds, sidd, dpdd, sots, o-haze, "
        "rain100l, raindrop-a, lol-v1, set5-x4, div2k-x4, paired …, dnd (images without targets), "
        "or DEGRADED:TARGET, two folders in DIR or templates of names, as "
        "LR/{}x4.png:HR/{}.png. auto takes the first that fits.",
        rich_help_panel="Data",
    ),
]
NoiseSigma = Annotated[
    float | None,
    typer.Option(
        metavar="SIGMA",
        help="Read DIR as clean images and add noise of this standard deviation, in 1/255.",
        rich_help_panel="Data",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Use N images, evenly spaced over the data set.  [dim]\\[default: all][/dim]",
        rich_help_panel="Data",
        show_default=False,
    ),
]


def parse_output(text: str) -> int | str:
    """Return the index or the name of an output.

    >>> parse_output("-1"), parse_output("restored")
    (-1, 'restored')
    """
    return int(text) if re.fullmatch(r"-?\d+", text) else text


Output = Annotated[
    Any,
    typer.Option(
        "--output",
        parser=parse_output,
        metavar="NAME|INDEX",
        help="Name or index of the output to take if the network returns several.",
        rich_help_panel="Network",
    ),
]
GreyOption = Annotated[
    Literal["channels", "luma"],
    typer.Option(
        "--grey",
        help="How a network of one channel restores colour: each channel by itself, or the luma "
        "alone.",
        rich_help_panel="Network",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="Where to run: a device of torch, such as cpu, cuda, cuda:1, mps or xpu. auto takes "
        "the first GPU, or the CPU if there is none; [bold]glocal doctor[/bold] lists them. "
        "restore and evaluate take several, as cuda:0,cuda:1.",
        rich_help_panel="Running",
    ),
]
DType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        metavar="TYPE",
        help="Floating-point type of the computation: float32, bfloat16, float16, or auto for the "
        "type of the weights. bfloat16 and float16 are slow on CPUs without instructions for them.",
        rich_help_panel="Running",
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint file (.pth, .safetensors), name of a model (see [bold]glocal "
        "models[/bold]), owner/name on the Hugging Face Hub, or package.module:factory.",
        show_default=False,
    ),
]


def load_model(name: str, entry: str | None = None, arch: str | None = None) -> "LoadedNetwork":
    """Return the network of a MODEL argument, see `glocal.load`.

    Says which weights are taken if the checkpoint has several that fit.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
        ArgumentError: the architecture is unknown, the factory fails or returns no network, or
            the network needs a mask beside the image.
    """
    from glocal.networks import load_checkpoint
    from glocal.networks.checkpoints.external import INPAINTING

    loaded = load_checkpoint(name, entry=entry, arch=arch)
    if loaded.task == INPAINTING:
        raise ArgumentError(
            f"{loaded.name}: {loaded.architecture} needs a mask beside the image; load it in "
            "Python with glocal.load, and convert it with glocal.localize(example=)"
        )
    if loaded.other_entries and entry is None:
        listed = few_names(other or "the file itself" for other in loaded.other_entries)
        taken = loaded.entry or "the file itself"
        say(f"{loaded.name}: weights of {taken}, not of {listed}", "yellow", "note")
    return loaded


def train_size_of(loaded: "LoadedNetwork", given: tuple[int, int] | None) -> tuple[int, int]:
    """Return the training size from the command line, by default that of the model.

    Raises:
        ArgumentError: neither states one.
    """
    size = given or loaded.train_size
    if size is None:
        raise ArgumentError(
            f"the training size of {loaded.name} is unknown; give --train-size\n"
            "(gt_size, patch_size or crop_size in its training options; "
            "256 for most models trained on GoPro)"
        )
    return size


def device_named(name: str) -> str:
    """Return the device to run on; "auto" is the first GPU, or the CPU if there is none.

    Raises:
        ArgumentError: torch cannot use the device.
    """
    from glocal.devices import usable_device

    return str(usable_device(name))


def check_new_file(path: Path, overwrite: bool) -> None:
    """Check before the work that a result can be written.

    Raises:
        ArgumentError: the file exists and must not be replaced, or its folder does not exist or
            may not be written to.
    """
    if path.exists() and not overwrite:
        raise ArgumentError(f"{path} exists; choose another name or pass --overwrite")
    if not path.parent.is_dir():
        raise ArgumentError(f"{path.parent}: no such folder to write to")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ArgumentError(f"{path.parent}: no permission to write to this folder")
