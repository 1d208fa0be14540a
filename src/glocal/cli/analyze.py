"""``glocal analyze``: how far a network's statistics shift from training crops to full images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.arguments import (
    Data,
    Device,
    KeepGlobal,
    Layout,
    Limit,
    Model,
    NoiseSigma,
    Output,
    TrainSize,
    Window,
    device_named,
    load_model,
    train_size_of,
)
from glocal.cli.progress import Bar
from glocal.cli.reporting import console, say, say_facts
from glocal.errors import ArgumentError
from glocal.texts import size_text

if TYPE_CHECKING:
    from rich.table import Table

    from glocal.data.pairing import Pair
    from glocal.study.shift.files import Seams
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
            help="Images to take training crops from, best those of the training set.  "
            "[dim]\\[default: the images themselves][/dim]",
            rich_help_panel="Data",
            show_default=False,
        ),
    ] = None,
    crops_per_image: Annotated[
        int, typer.Option(min=1, help="Random crops of each image.", rich_help_panel="Data")
    ] = 24,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the places of the crops.", rich_help_panel="Data")
    ] = 0,
    train_size: TrainSize = None,
    output: Output = None,
    window: Window = None,
    keep_global: KeepGlobal = None,
    device: Device = "auto",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Module whose densities FOLDER gets; may be repeated.  [dim]\\[default: the one "
            "that shifts most][/dim]",
            rich_help_panel="Results",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write shift.json, densities and ranking as figures, and the seam map of the "
            "first image with its crop-and-stitch and TLC results there.",
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
    """Measure how far the statistics of global operations are from those of training crops.

    For each operation: the distance (Wasserstein, in deviations over crops) of its statistic on
    full images and under TLC from that over crops of the training size, and the shift of its
    mean. Training crops come from the same images unless --crops names others. Figures need
    [bold]pip install "glocal\\[plots]"[/bold].
    """
    from glocal.data.pairing import evenly_spaced
    from glocal.study.shift.files import check_folder, measure_seams, write_analysis
    from glocal.study.shift.measure import analyze as analyze_network

    if layer and out is None:
        raise typer.BadParameter("its densities need a folder: give --out", param_hint="--layer")
    if out is not None:
        check_folder(out, overwrite)
    found = evenly_spaced(_find(data, layout, noise_sigma), limit)
    sources = None if crops is None else _Degraded(_plain(crops))
    loaded = load_model(model)
    size = train_size_of(loaded, train_size)
    network = loaded.network.to(device_named(device))
    _check_layers(network, size, layer or [])
    count = len(found) + (0 if sources is None else len(sources))
    with Bar(str(data), files=count) as bar:
        shifts = analyze_network(
            network,
            _Degraded(found),
            size,
            window=window,
            crops=sources,
            crops_per_image=crops_per_image,
            seed=seed,
            keep_global=keep_global or (),
            progress=lambda done, _: bar.file_done() if done else bar.tiles(0, 1),
        )
    seams: Seams | None = None
    if out is not None:
        with Bar(found[0].name, files=1) as bar:
            seams = measure_seams(
                network,
                found[0],
                size,
                window=shifts.window,
                keep_global=keep_global or (),
                output=output,
                progress=bar.tiles,
            )
    name = f"{loaded.name} ({loaded.architecture})"
    if as_json:
        typer.echo(json.dumps(_json(shifts, seams), indent=2, ensure_ascii=False))
    else:
        taken = f"{count - len(found)} in {crops}" if sources is not None else "the same"
        say_facts(
            {
                "network": name,
                "images": f"{len(found)} in {data}",
                "crops": f"{crops_per_image} of {size_text(size)} in each image ({taken})",
                "window": size_text(shifts.window),
            }
        )
        if shifts.shifts:
            console().print(_table(shifts), soft_wrap=False)
        console().print(f"[bold]{shifts.verdict()}[/bold]")
    # last, so that a disk that refuses a file takes nothing away
    if seams is not None and out is not None:
        write_analysis(out, shifts, seams, layer or [], name)
        if not as_json:
            say_facts({"seams": seams.text(), "seam map": seams.map_text(), "result": str(out)})


def _find(data: Path, layout: str, noise_sigma: float | None) -> "list[Pair]":
    """The images of a data set; of a plain folder too, where no layout is named."""
    from glocal.data.datasets import pairs
    from glocal.images.images import list_images

    plain = (
        layout == "auto"
        and noise_sigma is None
        and data.is_dir()
        and bool(list_images(data, recursive=False))
        and not any(path.is_dir() for path in data.iterdir())
    )
    if not plain:
        return pairs(data, layout, noise_sigma=noise_sigma)
    say(f"{data} holds no pairs: its images are taken as degraded ones", "yellow", "note")
    return _plain(data)


def _plain(folder: Path) -> "list[Pair]":
    """All images of a folder, without targets."""
    from glocal.data.pairing import Pair, stems_of

    if not folder.is_dir():
        raise ArgumentError(f"{folder}: no such folder")
    found = [Pair(stem, path, None) for stem, path in stems_of(folder).items()]
    if not found:
        raise ArgumentError(f"{folder}: holds no images")
    return found


class _Degraded(Sequence[Any]):
    """The degraded images of a data set, read as they are asked for."""

    def __init__(self, found: "Sequence[Pair]") -> None:
        self.found = found

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: Any) -> Any:
        from glocal.data.datasets import read_pair

        return read_pair(self.found[index])[0]


def _check_layers(network: Any, size: tuple[int, int], layers: list[str]) -> None:
    """Refuse a layer without global operations before anything is measured."""
    if not layers:
        return
    from glocal.scanning.example import scan_network

    paths = list(dict.fromkeys(o.path for o in scan_network(network, size, None).operations))
    for layer in layers:
        if layer not in paths:
            shown = ", ".join(map(repr, paths[:8])) + (", …" if len(paths) > 8 else "")
            raise ArgumentError(
                f"no global operation lies at {layer!r}; they lie at {shown or 'no module'}"
            )


def _table(shifts: "StatisticsShift") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("module", overflow="fold")
    table.add_column("operation", overflow="fold")
    for head in ("distance\nfull", "\nTLC", "mean shift\nfull", "\nTLC"):
        table.add_column(head, justify="right")
    for path, operation, *numbers, how in shifts.rows()[1:]:
        kept = " (global)" if how.endswith("(global)") else ""
        table.add_row(*map(Text, (path, operation + kept, *numbers)))
    return table


def _json(shifts: "StatisticsShift", seams: "Seams | None") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(shifts.to_json())
    return data if seams is None else data | {"seams": seams.as_dict()}
