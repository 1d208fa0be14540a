"""``glocal export``: write a converted network to an ONNX or .pt2 file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.arguments import (
    AllowGlobal,
    Arch,
    Entry,
    KeepGlobal,
    Model,
    PrecisionOption,
    TrainSize,
    Verify,
    Window,
    check_new_file,
    load_model,
    parse_size,
    train_size_of,
)
from glocal.cli.reporting import console, say_facts
from glocal.cli.ways import Stride, check_options
from glocal.errors import ArgumentError
from glocal.inference.ways import DEFAULT_WAY, Converting
from glocal.texts import size_text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["export"]


def export(
    model: Model,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET",
            help="Output file; its ending selects the format: .onnx or .pt2 (torch.export).",
            show_default=False,
        ),
    ],
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    way: Annotated[
        Converting,
        typer.Option(
            help="Where statistics come from: windows (TLC), crops, or auto, a mixture. Those from "
            "crops need a second file beside TARGET, which computes them.",
            rich_help_panel="Local operations (TLC)",
        ),
    ] = DEFAULT_WAY,
    window: Window = None,
    stride: Stride = None,
    precision: PrecisionOption = "exact",
    keep_global: KeepGlobal = None,
    allow_global: AllowGlobal = False,
    verify: Verify = True,
    opset: Annotated[
        int,
        typer.Option(metavar="N", help="ONNX operator set, at least 18.", rich_help_panel="File"),
    ] = 18,
    size: Annotated[
        Any,
        typer.Option(
            parser=parse_size,
            metavar="N|HxW",
            help="Fix the image size, for runtimes without dynamic shapes.  [dim]\\[default: any "
            "size][/dim]",
            rich_help_panel="File",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Compute dense convolutions in 8-bit integers; needs --calibrate. Networks of 3x3 "
            "convolutions gain most, others may not.",
            rich_help_panel="File",
        ),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Photographs as the network will see them, for --int8.",
            rich_help_panel="File",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing file.", rich_help_panel="File"),
    ] = False,
) -> None:
    """Convert a network to local operations and export it to ONNX or .pt2.

    The file accepts images of any size. Before it is written, its results are compared with those
    of the network at several sizes. With statistics from crops there are two files, one from crops
    of the training size to statistics, one from an image and statistics to the result. ONNX needs
    [bold]pip install "glocal\\[onnx]"[/bold].
    """
    from glocal.conversion.localize import plan_of
    from glocal.exporting.export import crops_file
    from glocal.exporting.export import export as export_network
    from glocal.inference.settings import Settings

    check_options(way, precision=precision, window=window, stride=stride)
    check_new_file(target, overwrite)
    if int8 != (calibrate is not None):
        raise ArgumentError("--int8 and --calibrate DIR belong together: give both or neither")
    photographs = None if calibrate is None else _photographs(calibrate)
    started = time.perf_counter()
    loaded = load_model(model, entry, arch)
    with console(stderr=True).status("Looking for global operations …"):
        settings = Settings(
            way,
            train_size_of(loaded, train_size),
            window=window,
            stride=stride,
            keep_global=tuple(keep_global or ()),
            allow_global=allow_global,
        )
        local = settings.network(loaded.network, precision=precision, verify=verify)
    if plan_of(local).takes_crops:
        check_new_file(crops_file(target), overwrite)
    with console(stderr=True).status("Exporting and comparing with the network …"):
        exported = export_network(
            local,
            target,
            size=size,
            opset=opset,
            allow_global=allow_global,
            calibrate=photographs,
        )
    plan = plan_of(local)
    if size:
        taken = f"{size_text(size)} only"
    elif exported.multiple > 1:
        taken = f"multiples of {exported.multiple} from {exported.smallest}"
    else:
        taken = f"any from {exported.smallest}"
    bits = {}
    if exported.int8:
        bits["int8"] = (
            f"{exported.int8.convolutions} convolutions; PSNR to the results in float32 "
            f"{exported.int8.psnr:.1f} dB on {exported.int8.parts} parts of the photographs"
        )
    kind = f"ONNX, opset {exported.opset}" if exported.opset else "torch.export (.pt2)"
    files = [file for file in (exported.path, exported.crops) if file]
    say_facts(
        {
            "network": f"{loaded.name} ({loaded.architecture})",
            "TLC": f"{plan.summary()}; {plan.sources()}",
            "format": f"{kind}, {len(exported.operators)} operator types",
            "image sizes": f"{taken}, any batch",
            "checked at": ", ".join(map(size_text, exported.sizes)),
            "difference": f"at most {exported.difference:.1e} of the largest value",
            **bits,
            "time": f"{time.perf_counter() - started:.1f} s",
            "result": ", ".join(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in files),
        }
    )


def _photographs(folder: Path) -> "list[Tensor]":
    """The photographs of a folder, at most as many as calibration looks at."""
    from glocal.data.pairing import evenly_spaced
    from glocal.exporting.int8 import MOST_PARTS
    from glocal.images.folders import list_images
    from glocal.images.image_files import read
    from glocal.study.dataset import as_tensor

    some = evenly_spaced(list_images(folder), MOST_PARTS)
    return [as_tensor(read(path).pixels) for path in some]
