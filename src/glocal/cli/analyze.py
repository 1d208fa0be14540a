"""``glocal analyze``: measure the shift of statistics on full images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.arguments import (
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
    Window,
    device_named,
    load_model,
    train_size_of,
)
from glocal.cli.progress import Bar
from glocal.cli.reporting import console, print_json, print_text, print_words, say, say_facts
from glocal.cli.tables import FittedTable
from glocal.cli.ways import Stride
from glocal.errors import ArgumentError
from glocal.texts import printable, size_text, text_table

if TYPE_CHECKING:
    from glocal.data.pairing import Pair
    from glocal.study.shift.folder import Seams
    from glocal.study.shift.report import StatisticsShift

__all__ = ["analyze"]


def analyze(
    model: Model,
    data: Data,
    layout: Layout = "auto",
    noise_sigma: NoiseSigma = None,
    limit: Limit = None,
    crops: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of images to take training crops from, preferably the training set.  "
            "[dim]\\[default: the images of --data][/dim]",
            rich_help_panel="Data",
            show_default=False,
        ),
    ] = None,
    crops_per_image: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Random crops of each image.", rich_help_panel="Data"
        ),
    ] = 24,
    seed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Seed of the crop positions.", rich_help_panel="Data"
        ),
    ] = 0,
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    output: Output = None,
    window: Window = None,
    stride: Stride = None,
    keep_global: KeepGlobal = None,
    verify: Verify = True,
    device: Device = "auto",
    dtype: DType = "auto",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Module whose densities to draw in FOLDER; may be repeated.  [dim]\\[default: "
            "the one that shifts most][/dim]",
            rich_help_panel="Results",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write to FOLDER: shift.json, figures of densities and ranking, and the seam map "
            "of the first image with its results of crop-and-stitch, TLC and crops.",
            rich_help_panel="Results",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the results in FOLDER.",
            rich_help_panel="Results",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel="Results"),
    ] = False,
) -> None:
    """Measure the shift of statistics from training crops to full images.

    For each global operation, on the full image, with TLC, and with statistics from crops: the
    Wasserstein distance of its statistic from that on training crops, in standard deviations over
    the crops, and the shift of its mean. The training crops come from the same images unless
    --crops names others. Figures need [bold]pip install "glocal\\[plots]"[/bold].
    """
    from glocal.study.dataset import open_dataset
    from glocal.study.options import ConversionOptions, RunOptions
    from glocal.study.shift.folder import check_folder, measure_seams, write_analysis
    from glocal.study.shift.measure import analyze as analyze_network

    if layer and out is None:
        raise typer.BadParameter("densities need a folder; give --out", param_hint="--layer")
    if out is not None:
        check_folder(out, overwrite)
    found = _find(data, layout, noise_sigma)
    used = min(limit or len(found), len(found))
    sources = None if crops is None else _plain(crops)
    loaded = load_model(model, entry, arch)
    size = train_size_of(loaded, train_size)
    network = loaded.network
    conversion = ConversionOptions(keep_global or (), verify=verify)
    run = RunOptions(device_named(device), None if dtype == "auto" else dtype, output)
    _check_layers(network, size, layer or [])
    count = used + len(sources or ())
    with Bar(str(data), files=count) as bar:
        shifts = analyze_network(
            network,
            found,
            size,
            window=window,
            stride=1.0 if stride is None else stride,
            crops=sources,
            crops_per_image=crops_per_image,
            seed=seed,
            conversion=conversion,
            run=run,
            limit=limit,
            progress=lambda done, _: bar.file_done() if done else bar.tiles(0, 1),
        )
    seams: Seams | None = None
    if out is not None:
        (first,) = open_dataset(found[:1], purpose="analyze").samples
        with Bar(first.name, files=1) as bar:
            seams = measure_seams(
                network,
                first,
                size,
                window=shifts.window,
                stride=1.0 if stride is None else stride,
                conversion=conversion,
                run=run,
                progress=bar.tiles,
            )
    name = f"{loaded.name} ({loaded.architecture})"
    if as_json:
        print_json(_json(shifts, seams))
    else:
        taken = f"{len(sources)} in {crops}" if sources is not None else "the same"
        say_facts(
            {
                "network": name,
                "images": f"{used} in {data}",
                "crops": f"{crops_per_image} of {size_text(size)} in each image ({taken})",
                "window": size_text(shifts.window),
            }
        )
        if shifts.shifts:
            _print_table(shifts)
        print_words(shifts.verdict(), "bold")
    # last, so that nothing is lost if a file cannot be written
    if seams is not None and out is not None:
        write_analysis(out, shifts, seams, layer or [], name)
        if not as_json:
            say_facts({"seams": seams.text(), "seam map": seams.map_text(), "result": str(out)})


def _find(data: Path, layout: str, noise_sigma: float | None) -> "list[Pair]":
    """Return the images of a data set or of a folder without pairs."""
    from glocal.data.datasets import pairs
    from glocal.study.dataset import folder_images

    if layout != "auto" or noise_sigma is not None:
        return pairs(data, layout, noise_sigma=noise_sigma)
    found, paired = folder_images(data)
    if not paired:
        say(f"{data} contains no pairs; its images are used as degraded images", "yellow", "note")
    return found


def _plain(folder: Path) -> "list[Pair]":
    """Return all images of a folder and its subfolders, without targets."""
    from glocal.data.pairing import Pair, stems_of

    if not folder.is_dir():
        raise ArgumentError(f"{folder}: no such folder")
    found = [Pair(stem, path, None) for stem, path in stems_of(folder).items()]
    if not found:
        raise ArgumentError(f"{folder}: contains no images")
    return found


def _check_layers(network: Any, size: tuple[int, int], layers: list[str]) -> None:
    """Check before the measurement that each layer has a global operation."""
    if not layers:
        return
    from glocal.scanning.example import scan_network

    paths = list(dict.fromkeys(o.path for o in scan_network(network, size, None).operations))
    for layer in layers:
        if layer not in paths:
            listed = ", ".join(map(repr, paths[:8])) + (", …" if len(paths) > 8 else "")
            raise ArgumentError(
                f"--layer: module {layer!r} has no global operation; these have one: "
                f"{listed or 'none'}"
            )


def _print_table(shifts: "StatisticsShift") -> None:
    out = console()
    if not out.is_terminal:  # other programs read it: a line for each operation
        print_text(printable(text_table(shifts.rows())))
        return
    rows = []
    for path, operation, *numbers, statistic in shifts.rows()[1:]:
        suffix = " (global)" if statistic.endswith("(global)") else ""
        rows.append((f"{path}\n  {operation}{suffix}", *numbers))
    heads = ("distance\nfull", "\nTLC", "\ncrops", "mean shift\nfull", "\nTLC", "\ncrops")
    out.print(FittedTable(("module and operation", *heads), rows), soft_wrap=False)


def _json(shifts: "StatisticsShift", seams: "Seams | None") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(shifts.to_json())
    return data if seams is None else data | {"seams": seams.to_dict()}
