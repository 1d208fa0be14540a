"""Options that say what a network sees at once, and how its tiles become one image."""

import re
from typing import Annotated, Any, Literal

import typer

from glocal.cli.arguments import parse_size

__all__ = ["Blended", "Halo", "Memory", "Overlapping", "Tile"]


def parse_tile(text: str) -> tuple[int, int] | Literal["auto"]:
    """A size, or "auto".

    >>> parse_tile("auto"), parse_tile("512")
    ('auto', (512, 512))
    """
    return "auto" if text == "auto" else parse_size(text)


def parse_memory(text: str) -> int:
    """Bytes of "6GB", "6000MB" or "5.5GiB".

    >>> parse_memory("6GB"), parse_memory("512MiB")
    (6000000000, 536870912)

    Raises:
        typer.BadParameter: the text is no size of memory.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?", text, re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size of memory; give it as 6GB or 800MB")
    unit = 1024 if match[3] else 1000
    return int(float(match[1]) * unit ** (1 + "KMGT".index(match[2].upper())))


Tile = Annotated[
    Any,
    typer.Option(
        "--tile",
        parser=parse_tile,
        metavar="N|HxW|auto",
        help="What the network sees at once. auto is the whole photograph where memory is "
        "enough for it, and else the largest tile that is.",
        rich_help_panel="Running",
    ),
]
Memory = Annotated[
    Any,
    typer.Option(
        "--memory",
        parser=parse_memory,
        metavar="SIZE",
        help="Memory that may be taken, such as 6GB; chooses the tiles.  "
        "[dim]\\[default: most of what is free][/dim]",
        rich_help_panel="Running",
    ),
]
Halo = Annotated[
    int | None,
    typer.Option(
        "--halo",
        min=0,
        help="Pixels around a tile that are thrown away.  [dim]\\[default: measured][/dim]",
        rich_help_panel="Running",
    ),
]
Overlapping = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        min=0,
        help="Blend tiles that overlap by so many pixels at least.  [dim]\\[default: no "
        "blending with TLC, else an eighth of the tile][/dim]",
        rich_help_panel="Running",
    ),
]
Blended = Annotated[
    Literal["linear", "mean", "cut"] | None,
    typer.Option(
        "--blend",
        help="Blend tiles: linear fades them into each other, mean averages where they "
        "overlap, cut takes each pixel from one tile.  [dim]\\[default: no blending with TLC, "
        "else linear][/dim]",
        rich_help_panel="Running",
    ),
]
