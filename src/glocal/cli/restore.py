"""``glocal restore``: restore a photograph or a folder of them."""

import time
from dataclasses import replace
from pathlib import Path
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
    check_new_file,
    device_named,
    load_model,
)
from glocal.cli.inputs import InputOption, example_for, inputs_named
from glocal.cli.progress import Bar, run_through
from glocal.cli.reporting import say, say_facts
from glocal.cli.runtimes import RuntimeOption, prepared_runtime
from glocal.cli.tiling import Blend, Halo, Memory, Overlap, Tile
from glocal.cli.ways import (
    Check,
    SettingsFile,
    Stride,
    WayOption,
    checked,
    chosen,
    prepared,
    tiles_of,
)
from glocal.errors import ArgumentError
from glocal.texts import few_names, size_text

if TYPE_CHECKING:
    from torch import nn

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


def restore(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A photograph or a folder of them.", show_default=False
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="TARGET",
            help="Output file, whose ending selects the format, or folder. Required if SOURCE is "
            "a folder.  [dim]\\[default: NAME-restored beside the photograph][/dim]",
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
    way: WayOption = None,
    window: Window = None,
    stride: Stride = None,
    precision: PrecisionOption = "exact",
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    verify: Verify = True,
    check: Check = True,
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
    settings_file: SettingsFile = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing results.", rich_help_panel="Files"),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            help="Skip files of a folder whose results exist; continue an interrupted large "
            "photograph.",
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
            help="Quality of JPEG, WebP and AVIF.",
            rich_help_panel="Files",
        ),
    ] = 95,
    strip: Annotated[
        Literal["gps", "all"] | None,
        typer.Option(
            help="Leave out metadata: gps the place, all everything but colours and resolution.",
            show_default=False,
            rich_help_panel="Files",
        ),
    ] = None,
) -> None:
    """Restore a photograph, or every photograph of a folder.

    By default the network runs with TLC: its global operations use local windows instead of
    the whole image. Reads and writes PNG, JPEG, TIFF, WebP, AVIF, JPEG XL and OpenEXR, reads HEIC,
    RAW and others; keeps bit depth, alpha, colour profile and metadata.
    """
    from glocal.images.limits import written_suffix

    folder = source.is_dir()
    if folder and target is None:
        raise typer.BadParameter("give an output folder, as SOURCE is one", param_hint="TARGET")
    target = target or source.with_name(f"{source.stem}-restored{written_suffix(source.suffix)}")
    notes: tuple[str, ...] = ()
    if not folder:
        if target.is_dir():
            target /= source.with_suffix(written_suffix(source.suffix)).name
        notes = _check_file(source, target, overwrite, strip)
        for note in notes:
            say(note, "yellow", "note")

    from glocal.runs.jobs import Job, folder_jobs

    suffix = None if suffix is None else "." + suffix.lower().lstrip(".")
    jobs = [Job(source, target)]
    if folder:
        jobs = folder_jobs(source, target, recursive=recursive, suffix=suffix)
    division = {"tile": tile, "halo": halo, "overlap": overlap, "blend": blend}
    settings = chosen(
        settings_file,
        way,
        precision=precision,
        model=model,
        train_size=train_size,
        output=output,
        window=window,
        stride=stride,
        keep_global=tuple(keep_global) if keep_global else None,
        allow_global=allow_global or None,
        **division,
    )
    chosen_device = device_named(device)
    loaded = load_model(settings.model or DEFAULT_MODEL, entry, arch)
    run = {"device": chosen_device, "dtype": None if dtype == "auto" else dtype}
    if check and not inputs:
        is_chosen = any((way, settings_file, window, precision != "exact"))
        settings = checked(loaded, settings, jobs[0].source, is_chosen=is_chosen, **run)
    named = inputs_named(inputs)
    example = example_for(loaded.network, named, jobs[0].source)
    network, settings, how = prepared(
        loaded, settings, precision=precision, verify=verify, example=example
    )
    facts = {"network": _describe(loaded, settings), **how}
    facts |= prepared_runtime(
        network, jobs[0].source, runtime, output=settings.output, grey=grey, **run
    )
    options: dict[str, Any] = {
        "tiles": tiles_of(settings, **division),
        "memory": memory,
        **run,
        "output": settings.output,
        "grey": grey,
        "runtime": runtime,
        "quality": quality,
        "strip": strip,
    }
    if named:
        options["inputs"] = named
    where = chosen_device if dtype == "auto" else f"{chosen_device} in {dtype}"
    if folder:
        options |= {"recursive": recursive, "suffix": suffix, "batch": batch}
        options |= {"resume": resume, "overwrite": overwrite}
        _restore_folder(network, source, target, len(jobs), facts, where, options)
    else:
        _restore_file(network, source, target, facts, where, {**options, "resume": resume}, notes)


def _restore_file(
    network: "nn.Module",
    source: Path,
    target: Path,
    facts: dict[str, str],
    where: str,
    options: dict[str, Any],
    said: tuple[str, ...],
) -> None:
    from glocal.runs.folder import restore_file

    tiles: list[str] = []
    with Bar(source.name, files=1) as bar:
        result = restore_file(
            network, source, target, progress=bar.tiles, report=tiles.append, **options
        )
    assert result.size is not None
    height, width = result.size
    say_facts(
        {
            "photograph": f"{source} ({width} × {height} pixels)",
            **facts,
            **({"tiles": tiles[0]} if tiles else {}),
            "time": f"{result.elapsed_s:.1f} s on {where}",
            "result": str(target),
        }
    )
    for note in result.notes:
        if note not in said:
            say(note, "yellow", "note")


def _restore_folder(
    network: "nn.Module",
    source: Path,
    target: Path,
    count: int,
    facts: dict[str, str],
    where: str,
    options: dict[str, Any],
) -> None:
    from glocal.runs.folder import restore_folder
    from glocal.runs.jobs import unreadable_files

    say_facts({"photographs": f"{count} in {source}", **facts})
    unread = unreadable_files(source, target, recursive=options["recursive"])
    started = time.perf_counter()
    bar = Bar(str(source), files=count)
    with restore_folder(network, source, target, progress=bar.tiles, **options) as run:
        done, failed = run_through(run, bar, ("restored", "skipped", "failed"), count)
    elapsed_s = time.perf_counter() - started
    busy = f", busy {100 * run.usage.busy:.0f} % of the time" if run.usage.computing_s else ""
    say_facts({"time": f"{elapsed_s:.1f} s on {where}{busy}", "result": f"{target} ({done})"})
    if unread:
        named = few_names((str(path.relative_to(source)) for path in unread), 20)
        say(f"{len(unread)} not read, as nothing reads their formats: {named}", "yellow", "note")
    if failed:
        raise typer.Exit(1)


def _check_file(
    source: Path, target: Path, overwrite: bool, strip: Literal["gps", "all"] | None
) -> tuple[str, ...]:
    """Check before the work that the result can be written; say what its format cannot hold.

    Raises:
        ArgumentError: it cannot.
        ImageError: the source cannot be read, or is too large for the format of the target.
    """
    from glocal.images.limits import WRITTEN, check_format
    from glocal.images.metadata import stripped
    from glocal.images.sample_files import read_header

    if not source.exists():
        raise ArgumentError(f"{source}: no such file or folder")
    if target.suffix.lower() not in WRITTEN:
        raise ArgumentError(f"{target}: the name must end in {', '.join(WRITTEN)}")
    if target.exists() and target.samefile(source):
        raise ArgumentError(f"{target} is the input file; choose another output name")
    check_new_file(target, overwrite)
    header = read_header(source)
    check_format(target, header.size)
    header = replace(header, metadata=stripped(header.metadata, strip))
    return header.metadata.notes + header.losses(target.suffix.lower())


def _describe(loaded: "LoadedNetwork", settings: "Settings") -> str:
    size = settings.given_train_size or loaded.train_size
    trained = f", trained on crops of {size_text(size)}" if size else ""
    return f"{loaded.name} ({loaded.architecture}{trained})"
