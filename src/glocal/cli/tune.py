"""``glocal tune``: choose the way of running a network, and its options."""

import shlex
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from glocal.cli.arguments import (
    AllowGlobal,
    Arch,
    Data,
    Device,
    DType,
    Entry,
    KeepGlobal,
    Layout,
    Limit,
    Model,
    NoiseSigma,
    Output,
    TrainSize,
    Verify,
    check_new_file,
    device_named,
    load_model,
    parse_size,
    train_size_of,
)
from glocal.cli.progress import Bar
from glocal.cli.reporting import console, print_text, say_facts
from glocal.cli.tables import FittedTable
from glocal.errors import ArgumentError
from glocal.texts import size_text

if TYPE_CHECKING:
    from glocal.inference.settings import Settings
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
            help="Use only the centre of each image, at least 3 × the train size. Faster, but a "
            "smaller image shows a smaller effect.",
            rich_help_panel="Data",
        ),
    ] = None,
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    output: Output = None,
    per_axis: Annotated[
        bool,
        typer.Option(
            "--per-axis",
            help="Refine the height and the width of the window separately.",
            rich_help_panel="Search",
        ),
    ] = False,
    operations: Annotated[
        bool,
        typer.Option(help="Try to leave groups of operations global.", rich_help_panel="Search"),
    ] = True,
    metric: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Metric to decide by: psnr, psnr-y, ssim-3d, ssim or ssim-y.",
            rich_help_panel="Search",
        ),
    ] = "psnr",
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    verify: Verify = True,
    device: Device = "auto",
    dtype: DType = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write all trials and the recommendation to FILE.json.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write the recommended settings to FILE.json, for [bold]glocal restore "
            "--settings[/bold].",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Append every measurement to FILE.jsonl; continue an interrupted search.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace existing files of results.", rich_help_panel="Results"
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel="Results"),
    ] = False,
) -> None:
    """Choose the way of running a network, and its options, on a few images.

    Compares the original network on the full image with TLC (windows of 0.3 to 3 × the train
    size), statistics from crops, and crop-and-stitch, with the time that each takes. The expected
    gain is validated on held-out images. If nothing helps, the original network is recommended; if
    nothing beats the degraded images, none.
    Without targets the statistics of global operations decide between windows, as a proxy.
    """
    from glocal.data.datasets import pairs
    from glocal.images.files import write_whole
    from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
    from glocal.study.tuning.search import tune as tune_network

    for file in (out, save):
        if file is not None:
            check_new_file(file, overwrite)
    if save is not None and save == out:
        raise ArgumentError(f"--save and --out are both {save}; choose two files")
    found = pairs(data, layout, noise_sigma=noise_sigma)
    chosen_device = device_named(device)
    loaded = load_model(model, entry, arch)
    size = train_size_of(loaded, train_size)
    with _Stages() as stages:
        tuning = tune_network(
            loaded.network,
            found,
            size,
            per_axis=per_axis,
            operations=operations,
            crop=crop,
            conversion=ConversionOptions(keep_global or (), allow_global, verify=verify),
            score=ScoreOptions((metric,)),
            run=RunOptions(chosen_device, None if dtype == "auto" else dtype, output),
            limit=limit,
            log=log,
            overwrite=overwrite,
            progress=stages.show,
        )
    if as_json:
        print_text(tuning.to_json())
    else:
        name = f"{loaded.name} ({loaded.architecture}, trained on crops of {size_text(size)})"
        centre = f", centre of {size_text(crop)} each" if crop else ""
        say_facts(
            {"network": name, "images": f"{len(tuning.images)} of {len(found)} in {data}{centre}"}
        )
        words = ["--settings", str(save)] if save else _words(model, train_size, tuning.settings)
        _print_result(tuning, ["glocal", "restore", "photo.jpg", *words])
    # last, so that nothing is lost if a file cannot be written
    if out is not None:
        write_whole(out, tuning.to_json() + "\n", ArgumentError)
    if save is not None:
        tuning.settings.changed(model=model).write(save)
    files = ", ".join(str(file) for file in (out, save) if file)
    if files and not as_json:
        say_facts({"result": files})


def _print_result(tuning: "Tuning", words: list[str]) -> None:
    """Print the table, its protocol, the recommendation, and the command for it."""
    if tuning.original:
        console().print(_table(tuning), soft_wrap=False)
        say_facts({"protocol": tuning.protocol})
    notes = {f"note {n}" if n > 1 else "note": text for n, text in enumerate(tuning.notes, 1)}
    advice = " ".join(filter(None, [tuning.advice(), tuning.proxy_note]))
    say_facts({**notes, "advice": advice, "use": shlex.join(words)})


class _Stages:
    """Shows a progress bar for each stage of the search in turn."""

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


def _table(tuning: "Tuning") -> FittedTable:
    rows = tuning.rows()
    bold = {
        (number, column)
        for number, row in enumerate(rows)
        for column in range(len(row))
        if row[0].endswith("*")
    }
    return FittedTable(tuning.columns, rows, texts=3, bold=bold)


def _words(model: str, train_size: tuple[int, int] | None, settings: "Settings") -> list[str]:
    """Return the options of `glocal restore` for the recommendation."""
    words = ["--model", model]
    if settings.output is not None:
        words += ["--output", str(settings.output)]
    words += ["--way", settings.way]
    if train_size is not None and settings.way not in ("full", "degraded"):
        words += ["--train-size", size_text(train_size)]
    if isinstance(settings.window, tuple):
        height, width = settings.window
        words += ["--window", str(height) if height == width else size_text(settings.window)]
    if settings.stride is not None:
        words += ["--stride", f"{settings.stride:g}"]
    for pattern in settings.keep_global:
        words += ["--keep-global", pattern]
    return [*words, "--allow-global"] if settings.allow_global else words
