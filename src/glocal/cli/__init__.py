"""The command line, ``glocal``: one small module for each command.

These modules import torch and other slow packages inside functions, so that ``--help`` is quick.
May import every other room.
"""

import inspect
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from glocal.cli.analyze import analyze
from glocal.cli.degrade import degrade
from glocal.cli.evaluate import evaluate
from glocal.cli.export import export
from glocal.cli.import_ import import_app
from glocal.cli.models import models
from glocal.cli.reporting import ReportingGroup
from glocal.cli.restore import restore
from glocal.cli.scan import scan
from glocal.cli.tune import tune
from glocal.inference.allocator import keep_freed_memory

__all__ = ["app", "main"]

app = typer.Typer(
    cls=ReportingGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glocal {version('glocal')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Restore photographs with networks trained on crops, converted to local operations (TLC)."""


def _help(command: Callable[..., None]) -> str:
    """Return a command's docstring with unwrapped paragraphs, for any terminal width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")


app.command(
    help=_help(restore),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal restore photo.jpg\n\n"
    "glocal restore photo.jpg sharp.png --tile 1024\n\n"
    "glocal restore in/ out/ --model NAFNet-GoPro-width32.pth --train-size 256\n\n"
    "glocal restore in/ out/ --model restormer.pth --train-size 128 --dtype bfloat16\n\n"
    "glocal restore thumbnails/ out/ --batch 8",
)(restore)
app.command(
    help=_help(scan),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal scan nafnet-motion-blur\n\n"
    "glocal scan NAFNet-GoPro-width32.pth --train-size 256\n\n"
    "glocal scan mypackage.networks:build --train-size 128 --json",
)(scan)
app.command(help=_help(models), epilog="[bold]Example[/bold]\n\nglocal models")(models)
app.command(
    help=_help(export),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal export nafnet-motion-blur network.onnx\n\n"
    "glocal export NAFNet-GoPro-width32.pth network.pt2 --train-size 256 --window 384",
)(export)
app.add_typer(import_app, name="import")
app.command(
    help=_help(degrade),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal degrade photos/ set/ --kind motion\n\n"
    "glocal degrade photo.jpg set/ --kind noise --strength 50 --seed 1",
)(degrade)
app.command(
    help=_help(evaluate),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal evaluate nafnet-motion-blur --data set/ --out report/\n\n"
    "glocal evaluate NAFNet-GoPro-width32.pth --train-size 256 --data GoPro/test "
    "--window 256 --window 384\n\n"
    "glocal evaluate restormer.pth --train-size 128 --data Kodak24/ --noise-sigma 25",
)(evaluate)
app.command(
    help=_help(analyze),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal analyze nafnet-motion-blur --data photos/\n\n"
    "glocal analyze NAFNet-GoPro-width32.pth --train-size 256 --data GoPro/test --limit 20 "
    "--out analysis/\n\n"
    "glocal analyze model.pth --train-size 256 --data set/ --crops train/blur "
    "--layer encoders.1.0.sca.0 --out analysis/",
)(analyze)
app.command(
    help=_help(tune),
    epilog="[bold]Examples[/bold]\n\n"
    "glocal tune nafnet-motion-blur --data set/\n\n"
    "glocal tune NAFNet-GoPro-width32.pth --data GoPro/test --train-size 256 --limit 8 "
    "--log tune.jsonl\n\n"
    "glocal tune net.pth --data photos/ --layout dnd --train-size 128",
)(tune)


def main() -> None:
    """Run the command line; entry point of the ``glocal`` script."""
    keep_freed_memory()
    app(prog_name="glocal")
