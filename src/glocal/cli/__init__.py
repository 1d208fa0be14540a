"""The command line, ``glocal``: one small module for each command.

These modules import torch and other slow packages inside functions, so that ``--help`` is quick.
May import every other room.
"""

import inspect
import os
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from glocal.cli.analyze import analyze
from glocal.cli.degrade import degrade
from glocal.cli.doctor import doctor
from glocal.cli.evaluate import evaluate
from glocal.cli.export import export
from glocal.cli.group import ReportingGroup
from glocal.cli.import_ import import_app
from glocal.cli.interruption import (
    INTERRUPTED,
    TERMINATED,
    is_termination,
    leave_at_once,
    prompt_interruption,
)
from glocal.cli.models import models_app
from glocal.cli.restore import restore
from glocal.cli.scan import scan
from glocal.cli.serve import serve
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
    traceback: Annotated[
        bool,
        typer.Option("--traceback", help="After an error, print all calls that led to it."),
    ] = False,
) -> None:
    """Restore photographs with networks converted to local operations (TLC)."""


def _help(command: Callable[..., None]) -> str:
    """Return a command's docstring with unwrapped paragraphs, for any terminal width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")


def _examples(*lines: str) -> str:
    """Return the epilog of a command: example command lines of at most 78 characters."""
    heading = "Examples" if len(lines) > 1 else "Example"
    return "\n\n".join([f"[bold]{heading}[/bold]", *lines])


app.command(
    help=_help(restore),
    epilog=_examples(
        "glocal restore photo.jpg",
        "glocal restore photo.jpg sharp.png --tile 1024",
        "glocal restore *.jpg out/ --strength 0.7",
        "glocal restore in/ out/ --model NAFNet-GoPro-width32.pth --train-size 256",
        "glocal restore in/ out/ -m restormer.pth --train-size 128 --dry-run",
        "glocal restore panorama.tif part.png --region 2000,1500,800,600",
        "glocal restore /shared/in /shared/out --engine ray --address head:6379",
        "curl -s https://example.org/a.jpg | glocal restore - - > a-restored.jpg",
    ),
)(restore)
app.command(
    help=_help(scan),
    epilog=_examples(
        "glocal scan nafnet-motion-blur",
        "glocal scan NAFNet-GoPro-width32.pth --train-size 256 --window 384",
        "glocal scan mypackage.networks:build --train-size 128 --json",
    ),
)(scan)
app.add_typer(models_app, name="models")
app.command(
    help=_help(export),
    epilog=_examples(
        "glocal export nafnet-motion-blur network.onnx",
        "glocal export nafnet.pth network.pt2 --train-size 256 --window 384",
    ),
)(export)
app.add_typer(import_app, name="import")
app.command(
    help=_help(degrade),
    epilog=_examples(
        "glocal degrade photos/ set/ --kind motion",
        "glocal degrade photo.jpg set/ --kind noise --strength 50 --seed 1",
    ),
)(degrade)
app.command(
    help=_help(evaluate),
    epilog=_examples(
        "glocal evaluate nafnet-motion-blur --data set/ --out report/",
        "glocal evaluate nafnet.pth --train-size 256 -d GoPro/test --window 384",
        "glocal evaluate restormer.pth --train-size 128 -d Kodak24/ --noise-sigma 25",
        "glocal evaluate nafnet.pth -d set/ --way crops --way stitch --overlap 50%",
    ),
)(evaluate)
app.command(
    help=_help(analyze),
    epilog=_examples(
        "glocal analyze nafnet-motion-blur --data photos/",
        "glocal analyze nafnet.pth --train-size 256 -d GoPro/test --limit 20",
        "glocal analyze nafnet.pth --train-size 256 -d set/ --crops train/ --out out/",
    ),
)(analyze)
app.command(
    help=_help(tune),
    epilog=_examples(
        "glocal tune nafnet-motion-blur --data set/ --save settings.json",
        "glocal tune nafnet.pth --train-size 256 -d GoPro/test --log tune.jsonl",
        "glocal tune net.pth --data photos/ --layout dnd --train-size 128",
    ),
)(tune)
app.command(
    help=_help(serve),
    epilog=_examples(
        "glocal serve --open",
        "glocal serve --allow-folder ~/photos --max-memory 8GB",
        "glocal serve --host 0.0.0.0 --token SECRET",
    ),
)(serve)
app.command(
    help=_help(doctor),
    epilog=_examples("glocal doctor", "glocal doctor --json"),
)(doctor)


def main() -> None:
    """Run the command line; entry point of the ``glocal`` script."""
    # Threads that wait for each other spin by default, which takes time from whatever else runs.
    # The library of threads reads the variable when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("VIPS_WARNING", "0")  # any value: libvips calls nobody for its messages
    keep_freed_memory()
    try:
        with prompt_interruption():
            app(prog_name="glocal")
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):
            # typer says 130 for each KeyboardInterrupt before a command begins
            leave_at_once(TERMINATED if is_termination(end) else INTERRUPTED)
        raise
    except KeyboardInterrupt as interruption:  # outside of typer
        leave_at_once(TERMINATED if is_termination(interruption) else INTERRUPTED)
