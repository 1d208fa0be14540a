"""``glocal restore``: restore a photograph, a folder of them, or a video.

Above 300 lines: each option has its help.
"""

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glocal.cli.arguments import (
    DEFAULT_MODEL,
    AllowGlobal,
    Arch,
    Device,
    DType,
    Entry,
    GreyOption,
    KeepGlobal,
    ModelName,
    Output,
    PrecisionOption,
    TrainSize,
    Verify,
    Window,
    load_model,
)
from glocal.cli.estimates import say_estimate, say_passes
from glocal.cli.executors import (
    Address,
    EngineOption,
    GpusPerWorker,
    ShardOption,
    Workers,
    workforce,
)
from glocal.cli.inputs import InputOption, example_for, inputs_named
from glocal.cli.pipes import through_files
from glocal.cli.reporting import Voice, print_json, say_facts, set_voice, waiting
from glocal.cli.restore_report import details, json_report
from glocal.cli.restore_run import Run
from glocal.cli.restore_task import Task
from glocal.cli.restore_video import (
    CodecOption,
    LosslessOption,
    SmoothOption,
    VideoOptions,
    VideoTask,
)
from glocal.cli.runtimes import RuntimeOption, prepared_runtime
from glocal.cli.targets import PIPE, requested
from glocal.cli.tiling import Blend, Halo, Memory, Overlap, Tile
from glocal.cli.video_run import VideoRun
from glocal.cli.ways import (
    Check,
    FallbackOption,
    SettingsFile,
    Stride,
    WayOption,
    checked,
    chosen,
    fallback_of,
    prepared,
    tiles_of,
)
from glocal.errors import ArgumentError
from glocal.texts import size_text

if TYPE_CHECKING:
    from glocal.inference.settings import Settings
    from glocal.networks import LoadedNetwork

__all__ = ["restore"]


def parse_batch(text: str) -> int | Literal["auto"]:
    """Return a number of images, or "auto".

    >>> parse_batch("auto"), parse_batch("4")
    ('auto', 4)
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is not a number of images; give one or auto")
    return int(text)


def parse_region(text: str) -> tuple[int, int, int, int]:
    """Return x, y, width and height of "X,Y,W,H".

    >>> parse_region("2000,1500,800,600")
    (2000, 1500, 800, 600)

    Raises:
        typer.BadParameter: the text is no region.
    """
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is not a region; give X,Y,W,H in pixels, such as 2000,1500,800,600"
        )
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def parse_ensemble(text: str | int) -> int:
    """Return the number of results to average.

    >>> parse_ensemble("8")
    8
    """
    if str(text) not in ("1", "8"):  # the default is parsed too
        raise typer.BadParameter(f"{text!r} is not 8, for all flips and turns, or 1, for none")
    return int(text)


def restore(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Photographs, or folders of them, or one video; - is standard input. The last is "
            "the target if it ends in / or is a folder (made when absent), or if it is the second "
            "of two and does not exist; - is standard output.  "
            "[dim]\\[default target: NAME-restored beside the photograph][/dim]",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="TARGET",
            help="The target: a file, whose ending selects the format, or a folder.",
            rich_help_panel="Files",
            show_default=False,
        ),
    ] = None,
    model: ModelName = None,
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    output: Output = None,
    grey: GreyOption = "channels",
    inputs: InputOption = None,
    strength: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="0..1",
            help="Share of the restored photograph in the result; the rest is the photograph.",
            rich_help_panel="Result",
        ),
    ] = 1.0,
    ensemble: Annotated[
        Any,
        typer.Option(
            "--ensemble",
            parser=parse_ensemble,
            metavar="8",
            help="Average the results of all flips and turns; takes 8 times as long.  "
            "[dim]\\[default: one result][/dim]",
            rich_help_panel="Result",
            show_default=False,
        ),
    ] = 1,
    region: Annotated[
        Any,
        typer.Option(
            "--region",
            parser=parse_region,
            metavar="X,Y,W,H",
            help="Restore and write this part of a photograph alone, in pixels from the top left, "
            "to try options on it first.",
            rich_help_panel="Result",
            show_default=False,
        ),
    ] = None,
    way: WayOption = None,
    window: Window = None,
    stride: Stride = None,
    precision: PrecisionOption = "exact",
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    verify: Verify = True,
    check: Check = True,
    fallback: FallbackOption = "auto",
    tile: Tile = "auto",
    memory: Memory = None,
    halo: Halo = None,
    overlap: Overlap = None,
    blend: Blend = None,
    batch: Annotated[
        Any,
        typer.Option(
            parser=parse_batch,
            metavar="N|auto",
            help="Largest number of a folder's images of one size in a batch. auto is 16, fewer if "
            "that is slow or memory is short.",
            rich_help_panel="Running",
        ),
    ] = "auto",
    device: Device = "auto",
    dtype: DType = "auto",
    runtime: RuntimeOption = "torch",
    engine: EngineOption = "local",
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    shard: ShardOption = None,
    settings_file: SettingsFile = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing results.", rich_help_panel="Files"),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            help="Skip files whose results in the folder were made alike, and make others of "
            "glocal again; continue an interrupted large photograph.",
            rich_help_panel="Files",
        ),
    ] = True,
    recursive: Annotated[
        bool, typer.Option(help="Include subfolders.", rich_help_panel="Files")
    ] = True,
    suffix: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="SUFFIX",
            help="Format of a folder's results, such as png.  [dim]\\[default: as the input][/dim]",
            rich_help_panel="Files",
        ),
    ] = None,
    quality: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            metavar="N",
            help="Quality of JPEG, WebP and AVIF, and of videos: 95 is CRF 16, 10 less is 5 more.",
            rich_help_panel="Files",
        ),
    ] = 95,
    codec: CodecOption = "auto",
    lossless: LosslessOption = False,
    smooth_statistics: SmoothOption = None,
    strip: Annotated[
        Literal["gps", "all"] | None,
        typer.Option(
            help="Leave out metadata: gps the place, all everything but colours and resolution.",
            show_default=False,
            rich_help_panel="Files",
        ),
    ] = None,
    accept_damaged: Annotated[
        bool,
        typer.Option(
            "--accept-damaged",
            help="Restore the readable parts of damaged photographs and videos, instead of "
            "refusing them.",
            rich_help_panel="Files",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write nothing; print what would be done, and about how much time and memory it "
            "would take.",
            rich_help_panel="Output",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print errors and warnings alone.", rich_help_panel="Output"
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Print the plan of the conversion, versions, and each file too.",
            rich_help_panel="Output",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print what was done as JSON, on stdout.", rich_help_panel="Output"
        ),
    ] = False,
) -> None:
    """Restore photographs, every photograph of folders, or a video.

    By default the network runs with TLC: its global operations use local windows instead of
    the whole image. Reads and writes PNG, JPEG, TIFF, WebP, AVIF, JPEG XL and OpenEXR, reads HEIC,
    RAW and others; keeps bit depth, alpha, colour profile and metadata. Reads MP4, MKV, MOV, WebM,
    AVI and other videos, writes MP4, MOV and MKV; copies sound and subtitles.
    """
    request = requested(
        paths, out, overwrite=overwrite, tag="restored" if region is None else "region"
    )
    if quiet and verbose:
        raise ArgumentError("--quiet and --verbose contradict each other; give one")
    if as_json and request.target == PIPE:
        raise ArgumentError("--json needs stdout, which the photograph takes; name an output file")
    facts: Literal["stdout", "stderr"] | None = "stdout"
    if quiet or as_json:
        facts = None
    elif request.target == PIPE:
        facts = "stderr"
    set_voice(Voice(facts, notes=not quiet, progress=not quiet, verbose=verbose))
    suffix = None if suffix is None else "." + suffix.lower().lstrip(".")
    video, is_video = VideoOptions(codec, lossless, smooth_statistics), VideoTask.is_for(request)
    force = workforce(
        device, engine=engine, address=address, workers=workers, gpus=gpus_per_worker, shard=shard,
        runtime=runtime, verbose=verbose,
    )  # fmt: skip
    with through_files(request, suffix) as files, ExitStack() as stack:
        task: Task | VideoTask
        if is_video:
            if region is not None or suffix is not None:
                name = "--format" if region is None else "--region"
                raise ArgumentError(f"{name} is for photographs; leave it out for a video")
            if force.executor is not None or force.shard is not None:
                raise ArgumentError(
                    "one process restores a video; leave out --engine, --shard and further devices"
                )
            task = stack.enter_context(
                VideoTask(files, video, quality, overwrite, resume, dry_run, strip, accept_damaged)
            )
        else:
            video.check_photographs()
            shown = str(request.target) if request.target == PIPE else None
            task = Task(
                files, suffix, recursive, overwrite, resume, region, dry_run, strip,
                accept_damaged, shown, force,
            )  # fmt: skip
        said = task.check(is_temporary=request.target == PIPE)
        if isinstance(task, Task) and not task.jobs:
            _say_empty(task, as_json=as_json)
            return
        first = stack.enter_context(task.first())
        division = {"tile": tile, "halo": halo, "overlap": overlap, "blend": blend}
        with waiting("loading network", long=task.is_large):  # and torch, which takes longer
            settings = chosen(
                settings_file,
                way,
                precision=precision,
                fallback=fallback,
                smooth_statistics=smooth_statistics,
                model=model,
                train_size=train_size,
                output=output,
                window=window,
                stride=stride,
                keep_global=tuple(keep_global) if keep_global else None,
                allow_global=allow_global or None,
                **division,
            )
            loaded = load_model(settings.model or DEFAULT_MODEL, entry, arch)
        run = {"device": force.device, "dtype": None if dtype == "auto" else dtype}
        expected_s = None
        is_here = force.executor is None and not request.is_remote
        if is_here and runtime == "torch" and not inputs and not dry_run:
            about = {"memory": memory, "output": settings.output, "grey": grey}
            expected_s = say_estimate(loaded, task.pictures, **about, **run)
        has_areas = False
        if check and not inputs:
            is_chosen = any((way, settings_file, window, precision != "exact"))
            settings, has_areas = checked(
                loaded, settings, first, is_chosen=is_chosen, fallback=fallback,
                expected_s=expected_s, **run,
            )  # fmt: skip
        named = inputs_named(inputs)
        if isinstance(task, VideoTask):
            task.check_inputs(named)
        example = example_for(loaded.network, named, first)
        network, settings, how = prepared(
            loaded, settings, precision=precision, verify=verify, example=example
        )
        original = fallback_of(fallback, loaded, network, has_areas=has_areas)
        say_passes(network, expected_s, falls_back=original is not None)
        described = {"network": _describe(loaded, settings), **how}
        described |= prepared_runtime(
            network, first, runtime, output=settings.output, grey=grey, **run
        )
        if verbose:
            described |= details(network)
        options: dict[str, Any] = {
            "tiles": tiles_of(settings, **division),
            "memory": memory,
            **run,
            "output": settings.output,
            "grey": grey,
            "runtime": runtime,
            "strength": strength,
            "ensemble": ensemble,
            "quality": quality,
            "strip": strip,
            "accept_damaged": accept_damaged,
        }
        if named:
            options["inputs"] = named
        if original is not None:
            options["fallback"] = original
        where = force.where or force.device
        where = where if dtype == "auto" else f"{where} in {dtype}"
        run_of: Run | VideoRun
        if isinstance(task, VideoTask):
            run_of = VideoRun(task, network, options, {**described}, where)
        else:
            run_of = Run(task, network, options, {**described}, where)
        report = run_of.report(batch, said)
    if as_json:
        print_json(report)
    if report["failed"] or report["left"]:
        raise typer.Exit(1)


def _say_empty(task: Task, *, as_json: bool) -> None:
    """Say that no file belongs to the shard."""
    say_facts({"photographs": f"none belongs to {task.force.shard_text}"})
    if as_json:
        print_json(json_report([]))


def _describe(loaded: "LoadedNetwork", settings: "Settings") -> str:
    size = settings.given_train_size or loaded.train_size
    trained = f", trained on crops of {size_text(size)}" if size else ""
    return f"{loaded.name} ({loaded.architecture}{trained})"
