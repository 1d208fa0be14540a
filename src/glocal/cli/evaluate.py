"""``glocal evaluate``: compare ways of running a network on a data set.

Above 300 lines: each option has its help.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.arguments import (
    AllowGlobal,
    Arch,
    Data,
    Device,
    DType,
    Entry,
    GreyOption,
    KeepGlobal,
    Layout,
    Limit,
    Model,
    NoiseSigma,
    Output,
    TrainSize,
    Verify,
    load_model,
    parse_size,
    train_size_of,
)
from glocal.cli.executors import (
    Address,
    EngineOption,
    GpusPerWorker,
    ShardOption,
    Workers,
    workforce,
)
from glocal.cli.progress import Bar
from glocal.cli.reporting import console, print_text, say, say_facts, say_failure
from glocal.cli.runtimes import RuntimeOption
from glocal.cli.tables import FittedTable
from glocal.cli.tiling import StitchBlend, StitchTile, parse_overlap
from glocal.errors import ArgumentError
from glocal.inference.ways import WAYS, Way, takes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from glocal.data.pairing import Pair
    from glocal.study.evaluation.records import Evaluation

__all__ = ["evaluate"]


def parse_way(text: str) -> Way:
    """Return the way of this name.

    Raises:
        typer.BadParameter: there is none.
    """
    for way in WAYS:
        if text == way:
            return way
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(WAYS)}")


def evaluate(
    model: Model,
    data: Data,
    layout: Layout = "auto",
    noise_sigma: NoiseSigma = None,
    limit: Limit = None,
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    output: Output = None,
    grey: GreyOption = "channels",
    way: Annotated[
        list[Any] | None,
        typer.Option(
            "--way",
            parser=parse_way,
            metavar="|".join(way for way in WAYS if way != "degraded"),  # has a row in any case
            help="What to compare: full image, crop-and-stitch, statistics from windows (TLC), "
            "from crops, or from what suits each kind of operation; the degraded images have a row "
            "in any case. May be repeated.  "
            "[dim]\\[default: full, stitch, windows, crops][/dim]",
            rich_help_panel="Ways",
        ),
    ] = None,
    window: Annotated[
        list[Any] | None,
        typer.Option(
            "--window",
            parser=parse_size,
            metavar="N|HxW",
            help="Window of local operations, in input pixels; may be repeated.  "
            "[dim]\\[default: as the model states, or 1.5 × the train size][/dim]",
            rich_help_panel="Local operations (TLC)",
        ),
    ] = None,
    stride: Annotated[
        list[float] | None,
        typer.Option(
            metavar="S",
            help="Most distance between the crops that give statistics, in crops; may be "
            "repeated.  [dim]\\[default: 1][/dim]",
            rich_help_panel="Local operations (TLC)",
            show_default=False,
        ),
    ] = None,
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    verify: Verify = True,
    tile: StitchTile = None,
    overlap: Annotated[
        list[Any] | None,
        typer.Option(
            "--overlap",
            parser=parse_overlap,
            metavar="PIXELS|PERCENT%",
            help="Least overlap of tiles, in pixels or as 50%; may be repeated. Overlaps of 50% "
            "and 75% cost 4 and 16 times as much and leave no visible seam.  "
            "[dim]\\[default: an eighth of the tile][/dim]",
            rich_help_panel="Crop-and-stitch",
        ),
    ] = None,
    blend: StitchBlend = "linear",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="psnr, psnr-y, ssim-3d, ssim, ssim-y, or a metric of pyiqa, such as lpips, niqe "
            "and musiq; may be repeated.  [dim]\\[default: psnr, ssim-3d][/dim]",
            rich_help_panel="Metrics",
            show_default=False,
        ),
    ] = None,
    round8: Annotated[
        bool,
        typer.Option(
            help="Clamp and round to 8 bits before the metrics, as published tables do.",
            rich_help_panel="Metrics",
        ),
    ] = True,
    border: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="PIXELS",
            help="Pixels to cut from each border before the metrics; the scale in "
            "super-resolution.",
            rich_help_panel="Metrics",
        ),
    ] = 0,
    device: Device = "auto",
    dtype: DType = "auto",
    runtime: RuntimeOption = "torch",
    engine: EngineOption = "local",
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    shard: ShardOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write records.jsonl, report.md, report.html and pictures to FOLDER; continue an "
            "interrupted evaluation there.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    picture_count: Annotated[
        int,
        typer.Option(
            "--pictures",
            min=0,
            metavar="N",
            help="Number of images that the report shows.",
            rich_help_panel="Results",
        ),
    ] = 8,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the records in FOLDER.", rich_help_panel="Results"
        ),
    ] = False,
    per_image: Annotated[
        bool,
        typer.Option(
            "--per-image", help="Print a table of every image too.", rich_help_panel="Results"
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel="Results"),
    ] = False,
) -> None:
    r"""Compare full image, crop-and-stitch, TLC and statistics from crops on a data set.

    For each method: metrics, paired difference to the full image with its 95 % interval, seconds,
    and peak memory. Images without targets are restored, timed, and measured by metrics without
    reference. Reports need [bold]pip install "glocal\[plots]"[/bold], metrics of pyiqa
    [bold]pip install "glocal\[iqa]"[/bold].
    """
    from glocal.inference.options import Tiles
    from glocal.study.evaluation.comparison import evaluate_by
    from glocal.study.evaluation.methods import DEFAULT_WAYS
    from glocal.study.evaluation.perceptual import check_metrics
    from glocal.study.evaluation.pictures import Pictures
    from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
    from glocal.study.report import require_jinja2, write_report

    ways = way or list(DEFAULT_WAYS)
    _check_ways(ways, {"window": window, "stride": stride, "tile": tile, "overlap": overlap})
    metrics = metric or ["psnr", "ssim-3d"]
    check_metrics(metrics)
    if out is not None:
        require_jinja2()
        if out.exists() and not out.is_dir():
            raise ArgumentError(f"{out} is a file; choose a folder for the report")
    if shard is not None and out is None:
        raise ArgumentError("--shard needs --out, where the parts come together")
    force = workforce(
        device, engine=engine, address=address, workers=workers, gpus=gpus_per_worker, shard=shard,
        runtime=runtime,
    )  # fmt: skip
    found = _images(data, layout, noise_sigma, metrics, force.device)
    loaded = load_model(model, entry, arch)
    size = train_size_of(loaded, train_size)
    pictures = None if out is None else Pictures(out / "images", picture_count)
    with Bar(str(data), files=min(limit or len(found), len(found))) as bar:
        evaluation = evaluate_by(
            force.executor,
            force.shard,
            loaded.network,
            found,
            size,
            ways=ways,
            windows=window or (None,),
            strides=stride or (1.0,),
            tiles=Tiles(tile or "auto", blend=blend),
            overlaps=overlap or (None,),
            conversion=ConversionOptions(keep_global or (), allow_global, verify=verify),
            score=ScoreOptions(metrics, round8, border),
            run=RunOptions(force.device, None if dtype == "auto" else dtype, output, runtime, grey),
            limit=limit,
            name=f"{loaded.name} ({loaded.architecture})",
            log=None if out is None else out / "records.jsonl",
            overwrite=overwrite,
            pictures=pictures,
            progress=lambda done, total: bar.file_done() if done else None,
            tile_progress=bar.tiles if force.executor is None else None,
        )
    if as_json:
        print_text(evaluation.to_json())
    else:
        for part in printed(evaluation, per_image=per_image):
            console().print(part, soft_wrap=False)
    if out is not None and pictures is not None and force.shard is None:
        files = write_report(evaluation, out, pictures)
        if not as_json:
            say_facts({"result": ", ".join(str(file) for file in (out / "records.jsonl", *files))})
    if force.shard is not None:
        say(
            f"{force.shard_text}: without --shard, the same command reads the records of all parts "
            "and writes the report",
            "yellow",
            "note",
        )
    for text in _warnings(evaluation):
        say(text, "yellow", "warning")
    for failure in evaluation.failures:
        where = failure.image + (f", {failure.method}" if failure.method else "")
        say_failure(where, failure.error, failure.trace)
    if evaluation.failures:
        raise typer.Exit(1)


def _images(
    data: Path, layout: str, noise_sigma: float | None, metrics: list[str], device: str
) -> "list[Pair]":
    """Return the pairs of a data set, or images without targets if no metric needs any."""
    import torch

    from glocal.data.datasets import pairs
    from glocal.metrics import METRICS
    from glocal.study.dataset import folder_images
    from glocal.study.evaluation.perceptual import metrics_named

    if layout == "auto" and noise_sigma is None and not any(name in METRICS for name in metrics):
        found, paired = folder_images(data)
        if paired:
            return found
        # loaded only here, because that takes seconds
        if not any(each.needs_target for each in metrics_named(metrics, torch.device(device))):
            say(
                f"{data} contains no pairs; its images are restored without targets",
                "yellow",
                "note",
            )
            return found
    return pairs(data, layout, noise_sigma=noise_sigma)


def _check_ways(ways: list[Way], options: dict[str, object]) -> None:
    """Check that every option has an effect in one of the ways.

    Raises:
        ArgumentError: one has none.
    """
    for name, value in options.items():
        if value and not any(takes(way, name) for way in ways):
            raise ArgumentError(f"--{name} has no effect with --way {', '.join(ways)} alone")


def printed(evaluation: "Evaluation", *, per_image: bool = False) -> "Iterator[RenderableType]":
    """Yield the tables for a terminal, each followed by the protocol."""
    from rich.padding import Padding
    from rich.text import Text

    from glocal.study.report.tables import comparison_table, image_table, summary_table

    protocol = Text("\n".join(evaluation.sentences()), style="dim")
    tables = [summary_table(evaluation), comparison_table(evaluation)]
    for table in [image_table(evaluation), *tables] if per_image else tables:
        if table is not None:
            yield FittedTable(table.columns, table.rows, table.texts, table.best, table.title)
            yield Padding(protocol, (0, 0, 1, 1))


def _warnings(evaluation: "Evaluation") -> list[str]:
    """Return the warnings of the plans."""
    return [
        f"{method}: {line.removeprefix('warning: ')}"
        for method, plan in evaluation.protocol.plans.items()
        for line in plan.splitlines()
        if line.startswith("warning: ")
    ]
