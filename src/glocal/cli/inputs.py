"""The option for inputs beside the photograph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glocal.errors import ArgumentError, ImageError

if TYPE_CHECKING:
    from torch import nn

    from glocal.runs.inputs import InputSource
    from glocal.scanning.example import Example

__all__ = ["InputOption", "example_for", "inputs_named"]

InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="What the network takes beside the photograph: a number, an image, or a folder with "
        "an image for each photograph. NAME is a parameter of forward; any other name is appended "
        "to the channels, such as sigma=0.1 for DRUNet. May be repeated.",
        rich_help_panel="Network",
    ),
]


def inputs_named(texts: list[str] | None) -> "dict[str, InputSource]":
    """Return numbers and paths by name from "NAME=VALUE".

    >>> inputs_named(["sigma=0.1"])
    {'sigma': 0.1}

    Raises:
        ArgumentError: a text has another form, or its file does not exist.
    """
    found: dict[str, InputSource] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ArgumentError(
                f"--input {text}: give NAME=VALUE, such as mask=masks/ or sigma=0.1"
            )
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = Path(value)
            if not Path(value).exists():
                raise ArgumentError(
                    f"--input {text}: no such file or folder, nor a number"
                ) from None
    return found


def example_for(
    network: "nn.Module", inputs: "dict[str, InputSource]", source: Path
) -> "Example | None":
    """Return arguments for a scan of a network that takes inputs; None without inputs."""
    if not inputs:
        return None

    from glocal.images.sample_files import read_header
    from glocal.inference.inputs import example_of, extras_of
    from glocal.runs.inputs import read_inputs

    try:
        extras = extras_of(network, read_inputs(inputs, source))
        channels = read_header(source).channels
    except ImageError:  # the run reports it
        return None
    return example_of(network, channels, extras)
