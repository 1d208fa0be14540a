"""``glocal tune``: the window, and the operations to convert, that serve a few images best."""

import shlex
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from glocal.cli.arguments import (
    AllowGlobal,
    Data,
    Device,
    DType,
    KeepGlobal,
    Layout,
    Limit,
    Model,
    NoiseSigma,
    Output,
    TrainSize,
    device_named,
    load_model,
    parse_size,
    train_size_of,
)
from glocal.cli.progress import Bar
from glocal.cli.reporting import console, say_facts
from glocal.errors import ArgumentError
from glocal.texts import size_text

if TYPE_CHECKING:
    from rich.table import Table

    from glocal.study.tuning.recommendation import Tuning

__all__ = ["tune"]


def tune(
    model: Model,
    data: Data,
    layout: Layout = "auto",
    noise_sigma: NoiseSigma = None,
    limit: Limit = None,
    crop: Annotated[
        Any,
        typer.Option(
            parser=parse_size,
            metavar="N|HxW",
            help="Take the centre of each image only, at least 3 × the train size: faster, but "
            "crops smaller than the photographs in use understate the effect.",
            rich_help_panel="Data",
        ),
    ] = None,
    train_size: TrainSize = None,
    output: Output = None,
    per_axis: Annotated[
        bool,
        typer.Option(
            "--per-axis",
            help="Refine the window's height and width alone, too.",
            rich_help_panel="Search",
        ),
    ] = False,
    operations: Annotated[
        bool,
        typer.Option(
            help="Try to leave groups of operations global, too.", rich_help_panel="Search"
        ),
    ] = True,
    metric: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="psnr, psnr-y, ssim-3d, ssim or ssim-y.",
            rich_help_panel="Search",
        ),
    ] = "psnr",
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    device: Device = "auto",
    dtype: DType = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write all that was found there.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Note every measurement there; a search that was interrupted goes on.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Begin the log anew; replace FILE.json.", rich_help_panel="Results"
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel="Results"),
    ] = False,
) -> None:
    """Choose the window of a network, and which operations to convert, from a few images.

    Windows of 0.3 to 3 × the train size are compared with the original network on the full image.
    The gain to expect is that on images that did not choose. Where TLC does not help, this is
    said, and the original is recommended. Without targets the statistics decide, as a proxy.
    """
    from glocal.data.datasets import pairs
    from glocal.images.files import write_whole
    from glocal.study.tuning.search import tune as tune_network

    if out is not None and out.exists() and not overwrite:
        raise ArgumentError(f"{out}: exists already; name another output or give --overwrite")
    if out is not None and not out.parent.is_dir():
        raise ArgumentError(f"{out.parent}: no such folder to write to")
    found = pairs(data, layout, noise_sigma=noise_sigma)
    chosen_device = device_named(device)
    loaded = load_model(model)
    size = train_size_of(loaded, train_size)
    with _Stages() as stages:
        tuning = tune_network(
            loaded.network,
            found,
            size,
            metric=metric,
            per_axis=per_axis,
            operations=operations,
            limit=limit,
            crop=crop,
            keep_global=keep_global or (),
            allow_global=allow_global,
            device=chosen_device,
            dtype=None if dtype == "auto" else dtype,
            output=output,
            log=log,
            overwrite=overwrite,
            progress=stages.show,
        )
    if as_json:
        typer.echo(tuning.to_json())
    else:
        name = f"{loaded.name} ({loaded.architecture}, trained on crops of {size_text(size)})"
        centre = f", {size_text(crop)} of their centre" if crop else ""
        say_facts(
            {"network": name, "images": f"{len(tuning.images)} of {len(found)} in {data}{centre}"}
        )
        _say_found(tuning, _command(model, train_size, output, tuning, allow_global))
    # last, so that a disk that refuses the file takes nothing away
    if out is not None:
        write_whole(out, tuning.to_json() + "\n", ArgumentError)
        if not as_json:
            say_facts({"result": str(out)})


def _say_found(tuning: "Tuning", words: list[str]) -> None:
    """The table with its protocol, and the recommendation with the command that follows it."""
    if tuning.trials:
        console().print(_table(tuning), soft_wrap=False)
        say_facts({"protocol": tuning.protocol})
    notes = {f"note {n}" if n > 1 else "note": text for n, text in enumerate(tuning.notes, 1)}
    advice = " ".join(filter(None, [tuning.advice(), tuning.proxy]))
    say_facts({**notes, "advice": advice, "use": shlex.join(words)})


class _Stages:
    """A bar for each stage of the search, one after the other."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, traceback)
            self._bar = None

    def show(self, stage: str, done: int, total: int) -> None:
        """Show how many images of a stage are done."""
        if done == 0:
            self.__exit__(None, None, None)
            self._bar = Bar(stage, files=total)
            self._bar.__enter__()
        elif self._bar is not None:
            self._bar.file_done()


def _table(tuning: "Tuning") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, head in enumerate(tuning.heads):
        table.add_column(Text(head), justify="left" if index in (0, 2) else "right")
    for row in tuning.rows():
        style = "bold" if row[0].endswith("*") else ""
        table.add_row(*(Text(cell, style=style) for cell in row))
    return table


def _command(
    model: str,
    train_size: tuple[int, int] | None,
    output: int | None,
    tuning: "Tuning",
    allow_global: bool,
) -> list[str]:
    """The command that does what is recommended, with a photograph to fill in."""
    words = ["glocal", "restore", "photo.jpg", "--model", model]
    if output is not None:
        words += ["--output", str(output)]
    if tuning.window is None:
        return [*words, "--global"]
    if train_size is not None:
        words += ["--train-size", size_text(train_size)]
    window = tuning.window
    words += ["--window", str(window[0]) if window[0] == window[1] else size_text(window)]
    for pattern in tuning.keep_global:
        words += ["--keep-global", pattern]
    return [*words, "--allow-global"] if allow_global else words
