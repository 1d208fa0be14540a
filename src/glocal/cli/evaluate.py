"""``glocal evaluate``: full image, crop-and-stitch and TLC side by side on a data set."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.arguments import (
    AllowGlobal,
    Blending,
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
from glocal.cli.reporting import console, say, say_facts
from glocal.errors import ArgumentError

if TYPE_CHECKING:
    from rich.console import JustifyMethod, RenderableType

    from glocal.study.evaluation.records import Evaluation
    from glocal.study.report.tables import Table

__all__ = ["evaluate"]


def evaluate(
    model: Model,
    data: Data,
    layout: Layout = "auto",
    noise_sigma: NoiseSigma = None,
    limit: Limit = None,
    train_size: TrainSize = None,
    output: Output = None,
    window: Annotated[
        list[Any] | None,
        typer.Option(
            "--window",
            parser=parse_size,
            metavar="N|HxW",
            help="Window of the local operations, in input pixels; may be repeated.  "
            "[dim]\\[default: 1.5 × the train size][/dim]",
            rich_help_panel="Local operations (TLC)",
        ),
    ] = None,
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    tile: Annotated[
        Any,
        typer.Option(
            parser=parse_size,
            metavar="N|HxW",
            help="Tiles of crop-and-stitch.  [dim]\\[default: the train size][/dim]",
            rich_help_panel="Crop-and-stitch",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Least overlap of tiles in pixels.  [dim]\\[default: an eighth of the tile][/dim]",
            rich_help_panel="Crop-and-stitch",
        ),
    ] = None,
    blend: Blending = "linear",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="psnr, psnr-y, ssim-3d, ssim or ssim-y; may be repeated.  "
            "[dim]\\[default: psnr, ssim-3d][/dim]",
            rich_help_panel="Metrics",
            show_default=False,
        ),
    ] = None,
    round8: Annotated[
        bool,
        typer.Option(
            help="Clamp and round to 8 bits first, as published tables do.",
            rich_help_panel="Metrics",
        ),
    ] = True,
    border: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pixels to cut from each border first; super-resolution tables cut the scale.",
            rich_help_panel="Metrics",
        ),
    ] = 0,
    device: Device = "auto",
    dtype: DType = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write records.jsonl, report.md, report.html and pictures there; an evaluation "
            "that was interrupted goes on.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="How many images the report shows.", rich_help_panel="Results"
        ),
    ] = 8,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Begin anew where FOLDER holds records.", rich_help_panel="Results"
        ),
    ] = False,
    per_image: Annotated[
        bool,
        typer.Option("--per-image", help="Print every image too.", rich_help_panel="Results"),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel="Results"),
    ] = False,
) -> None:
    """Compare full image, crop-and-stitch and TLC on a data set.

    For each: the metrics, the paired difference to the full image with its 95 % interval, seconds,
    and peak memory. Images without targets are restored and timed only.
    """
    from glocal.data.datasets import pairs
    from glocal.data.pairing import evenly_spaced
    from glocal.metrics import metric_named
    from glocal.study.evaluation.comparison import evaluate as evaluate_network
    from glocal.study.evaluation.pictures import Pictures
    from glocal.study.report import write_report

    metrics = metric or ["psnr", "ssim-3d"]
    for name in metrics:
        metric_named(name)
    if out is not None and out.exists() and not out.is_dir():
        raise ArgumentError(f"{out}: is a file; a report needs a folder")
    found = evenly_spaced(pairs(data, layout, noise_sigma=noise_sigma), limit)
    chosen_device = device_named(device)
    loaded = load_model(model)
    size = train_size_of(loaded, train_size)
    pictures = None if out is None else Pictures(out / "images", images)
    with Bar(str(data), files=len(found)) as bar:
        evaluation = evaluate_network(
            loaded.network,
            found,
            size,
            windows=window or (None,),
            tile=tile,
            overlap=overlap,
            blend=blend,
            keep_global=keep_global or (),
            allow_global=allow_global,
            metrics=metrics,
            round8=round8,
            border=border,
            device=chosen_device,
            dtype=None if dtype == "auto" else dtype,
            output=output,
            name=f"{loaded.name} ({loaded.architecture})",
            log=None if out is None else out / "records.jsonl",
            overwrite=overwrite,
            pictures=pictures,
            progress=lambda done, total: bar.file_done() if done else None,
            tiles=bar.tiles,
        )
    if as_json:
        typer.echo(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
    else:
        for part in printed(evaluation, per_image=per_image):
            console().print(part, soft_wrap=False)
    if out is not None and pictures is not None:
        files = write_report(evaluation, out, pictures)
        if not as_json:
            say_facts({"result": ", ".join(str(file) for file in (out / "records.jsonl", *files))})
    for text in _warnings(evaluation):
        say(text, "yellow", "warning")
    for failure in evaluation.failures:
        where = failure.image + (f", {failure.way}" if failure.way else "")
        say(f"{where}: {failure.error}", "bold red", "failed")
    if evaluation.failures:
        raise typer.Exit(1)


def printed(evaluation: "Evaluation", *, per_image: bool = False) -> "Iterator[RenderableType]":
    """The tables for a terminal, each with the protocol below it."""
    from rich.padding import Padding
    from rich.text import Text

    from glocal.study.report.tables import comparison_table, image_table, summary_table

    protocol = Text("\n".join(evaluation.protocol.sentences()), style="dim")
    tables = [summary_table(evaluation), comparison_table(evaluation)]
    for table in [image_table(evaluation), *tables] if per_image else tables:
        if table is not None:
            yield _rich_table(table)
            yield Padding(protocol, (0, 0, 1, 1))


def _rich_table(table: "Table") -> "RenderableType":
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD
    )
    for index, column in enumerate(table.columns):
        side: JustifyMethod = "left" if index < table.texts else "right"
        # a narrow terminal may break a number in two, but never cuts digits off
        made.add_column(Text(column), justify=side, overflow="fold")
    for row in table.rows:
        made.add_row(*map(Text, row))
    return made


def _warnings(evaluation: "Evaluation") -> list[str]:
    """What the plans warn of, once for each window."""
    return [
        f"{way}: {line.removeprefix('warning: ')}"
        for way, plan in evaluation.protocol.plans.items()
        for line in plan.splitlines()
        if line.startswith("warning: ")
    ]
