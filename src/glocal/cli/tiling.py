"""Options for the tiles of an image: size, memory, overlap, blending."""

import re
from typing import Annotated, Any, Literal

import typer

from glocal.cli.arguments import parse_size

__all__ = [
    "Blend",
    "Halo",
    "Memory",
    "Overlap",
    "StitchBlend",
    "StitchOverlap",
    "StitchTile",
    "Tile",
]


def parse_tile(text: str) -> tuple[int, int] | Literal["auto"]:
    """Return a size, or "auto".

    >>> parse_tile("auto"), parse_tile("512")
    ('auto', (512, 512))
    """
    return "auto" if text == "auto" else parse_size(text)


def parse_memory(text: str) -> int:
    """Return the bytes of "6GB", "6000MB" or "5.5GiB".

    >>> parse_memory("6GB"), parse_memory("512MiB")
    (6000000000, 536870912)

    Raises:
        typer.BadParameter: the text is not an amount of memory.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?", text, re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not an amount of memory; give it as 6GB or 800MB")
    unit = 1024 if match[3] else 1000
    return int(float(match[1]) * unit ** (1 + "KMGT".index(match[2].upper())))


def parse_overlap(text: str) -> int | float:
    """Return the pixels of "32", or the fraction of "50%".

    >>> parse_overlap("32"), parse_overlap("50%")
    (32, 0.5)

    Raises:
        typer.BadParameter: the text is neither.
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", text)
    if match is None or (match[2] and float(match[2]) >= 100):
        raise typer.BadParameter(
            f"{text!r} is not an overlap; give pixels as 32, or a share of the tile as 50%"
        )
    return int(match[1]) if match[1] else float(match[2]) / 100


Tile = Annotated[
    Any,
    typer.Option(
        "--tile",
        parser=parse_tile,
        metavar="N|HxW|auto",
        help="Size of the tiles. auto is the train size with --way stitch. Otherwise it takes "
        "the whole photograph if it fits into memory, else the largest tile that fits.",
        rich_help_panel="Running",
    ),
]
Memory = Annotated[
    Any,
    typer.Option(
        "--memory",
        parser=parse_memory,
        metavar="SIZE",
        help="Memory to use at most, such as 6GB; auto tiles are chosen to fit.  "
        "[dim]\\[default: most of the free memory][/dim]",
        rich_help_panel="Running",
    ),
]
Halo = Annotated[
    int | None,
    typer.Option(
        "--halo",
        min=0,
        metavar="PIXELS",
        help="Least pixels around each tile to compute and discard.  "
        "[dim]\\[default: as measured, which is always the least][/dim]",
        rich_help_panel="Running",
    ),
]
Overlap = Annotated[
    Any,
    typer.Option(
        "--overlap",
        parser=parse_overlap,
        metavar="PIXELS|P%",
        help="Blend tiles, with at least this overlap in pixels or as a share of the tile.  "
        "[dim]\\[default: an eighth with --way stitch, else no blending][/dim]",
        rich_help_panel="Running",
    ),
]
Blend = Annotated[
    Literal["linear", "mean", "cut"] | None,
    typer.Option(
        "--blend",
        help="Blend tiles: linear fades them into each other, mean averages them, cut takes "
        "each pixel from one tile.  [dim]\\[default: linear with --way stitch, else no blending]"
        "[/dim]",
        rich_help_panel="Running",
    ),
]

StitchTile = Annotated[
    Any,
    typer.Option(
        "--tile",
        parser=parse_size,
        metavar="N|HxW",
        help="Size of the tiles.  [dim]\\[default: the train size][/dim]",
        rich_help_panel="Crop-and-stitch",
    ),
]
StitchOverlap = Annotated[
    Any,
    typer.Option(
        "--overlap",
        parser=parse_overlap,
        metavar="PIXELS|P%",
        help="Least overlap of tiles, in pixels or as a share of the tile.  "
        "[dim]\\[default: an eighth of the tile][/dim]",
        rich_help_panel="Crop-and-stitch",
    ),
]
StitchBlend = Annotated[
    Literal["linear", "mean", "cut"],
    typer.Option(
        "--blend",
        help="linear fades tiles into each other, mean averages them, cut takes each pixel from "
        "one tile.",
        rich_help_panel="Crop-and-stitch",
    ),
]
