"""`export`: write a converted network for other runtimes, as ONNX or .pt2.

The program takes any batch, height and width with the same local operations (see
`glocal.ops.exported`) and contains none of glocal's own operators. It is compared with the network
before the file gets its name. A network that takes statistics from crops becomes two programs in
two files (see `two_graphs`), which are compared with it together.
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from glocal.conversion.inside import unwrapped
from glocal.conversion.localize import plan_of
from glocal.conversion.two_passes import TwoPasses, two_passes_of
from glocal.errors import ArgumentError, GlocalError
from glocal.exporting.capture import CapturedProgram, capture_program
from glocal.exporting.check import difference, sizes_around_crop, sizes_around_window
from glocal.exporting.files import IMAGE, Graph, load, write
from glocal.exporting.int8 import Int8, in_int8
from glocal.exporting.onnx import require_onnx
from glocal.exporting.repeated_blocks import called_instead, capture_blocks
from glocal.exporting.two_graphs import capture_two_graphs, run_both
from glocal.ops.programs import keeping_operators
from glocal.ops.windows import Size, as_size, covers
from glocal.scanning.example import channels_of
from glocal.scanning.modules import eval_mode
from glocal.scanning.plan import Plan
from glocal.scanning.user_code import failure

__all__ = ["Exported", "crops_file", "export"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """The written files and their check.

    Attributes:
        path: the file whose program takes an image.
        crops: the file whose program takes crops of the training size and returns their statistics,
            which the first one takes too; None for a network with statistics from windows.
        opset: version of ONNX's operators; None for .pt2.
        multiple: heights and widths must be multiples of this; 1 is any.
        smallest: least height and width, in pixels.
        sizes: (height, width) at which the result was compared with that of the network.
        difference: largest absolute difference, relative to the network's largest value.
        operators: names of the operators in the files, sorted.
        int8: effect of 8-bit integers; None without `calibrate`.
    """

    path: Path
    crops: Path | None
    opset: int | None
    multiple: int
    smallest: int
    sizes: tuple[Size, ...]
    difference: float
    operators: tuple[str, ...]
    int8: Int8 | None = None


def export(
    model: nn.Module,
    path: str | Path,
    *,
    size: int | Size | None = None,
    opset: int = 18,
    channels: int | None = None,
    allow_global: bool = False,
    tolerance: float | None = None,
    calibrate: Sequence[Tensor] | None = None,
) -> Exported:
    """Write a converted network to an .onnx or .pt2 file for images of any size.

    An ONNX file takes "image" (b, c, h, w) and returns "restored"; further results of the network
    are "restored_1" and so on. Its statistics have one value per window until they meet pixels, so
    that it costs about what the global network costs.

    The file is run (ONNX by onnxruntime) and compared with the network at three sizes: below the
    window, above it along one axis, and along both. It is kept only if all results agree. It
    carries the training size, the window and the plan: as `metadata_props` in ONNX, as the extra
    file "glocal.json" in .pt2.

    A network with statistics from crops becomes two files, for example "net.onnx" and
    "net-crops.onnx". The second takes "crops" (n, c, h, w) of the training size and returns
    "statistic_0", "statistic_1", …, each (n, ...). The first takes an "image" that is at least as
    large, "rows" (r,) and "columns" (k,) with the starts of the crops in pixels, int64, and the
    statistics as (r, k, b, ...); crops lie row by row. ``examples/run_crops_onnx.py`` runs both.
    They are compared with the network together.

    >>> import tempfile
    >>> import glocal
    >>> local = glocal.localize(nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)), 16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = export(local, Path(folder) / "network.pt2", size=(40, 30))
    >>> exported.sizes, exported.difference < 1e-5
    (((40, 30),), True)

    Args:
        model: from `localize`; takes one image tensor (b, c, h, w). It is exported in eval mode
            and in its own dtype, and is left unchanged, on its device and in its mode.
        path: the file to write, in an existing folder; its suffix chooses the format.
        size: side or (height, width) in pixels of the only size that the file accepts, for
            runtimes without dynamic shapes; any size by default.
        opset: version of ONNX's operators, 18 or above.
        channels: of the image, by default read from the network's first convolution.
        allow_global: also write a network that is not converted, or only in part.
        tolerance: largest allowed difference, relative to the largest value; by default 1e-4, in
            half precision 2e-2.
        calibrate: photographs (c, h, w) or (b, c, h, w) in [0, 1], as the network will see them.
            Then the dense convolutions of an ONNX file in float32 compute in 8-bit integers, with
            scales from parts of these photographs. Measure whether your engine gains by it.

    Returns:
        What was written and checked.

    Raises:
        ArgumentError: an argument is invalid, or operations of the network are global.
        GlocalError: the network cannot be exported, or the program differs from it.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise ArgumentError(f"{path}: the name of an exported file must end in .onnx or .pt2")
    if not path.parent.is_dir():
        raise ArgumentError(f"{path.parent}: no such folder; create it first")
    if opset < 18:
        raise ArgumentError(f"opset={opset} is not supported; give 18 or above")
    fixed = None if size is None else as_size(size, "size")
    model = unwrapped(model)
    plan = _plan(model, allow_global)
    if calibrate is not None and path.suffix != ".onnx":
        raise ArgumentError(f"{path}: 8-bit integers need an .onnx file")
    if path.suffix == ".onnx":
        require_onnx()
    elif plan is not None and plan.precision == "fast":
        raise ArgumentError(
            f"{path}: .pt2 files hold exact statistics only; convert the network with "
            'precision="exact", or write an .onnx file'
        )

    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))
    if tolerance is None:
        tolerance = 1e-4 if first.dtype.itemsize > 2 else 2e-2

    def image(batch: int, at: Size) -> Tensor:
        """Noise on a slope, so that distant windows have different statistics."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(batch, taken, *at, generator=generator)
        slope = torch.linspace(0, 1, at[0])[:, None] * torch.linspace(0, 1, at[1])
        return (0.5 * noise + 0.5 * slope).to(first)

    keeping = keeping_operators() if path.suffix == ".onnx" else nullcontext()
    with eval_mode(model, first.device), torch.no_grad(), warnings.catch_warnings(), keeping:
        warnings.simplefilter("ignore")  # torch's exporters warn about their own internals
        size_known = fixed or (plan.train_size if plan else (64, 64))
        taken, example = _example_for(model, first, size_known, channels)
        passes = two_passes_of(model)
        if passes is None:
            blocks = capture_blocks(model, image(1, example)) if path.suffix == ".onnx" else ()
            with called_instead(model, blocks):
                captured = capture_program(model, image, fixed, example)
            names = {"image": IMAGE}
            results = _result_names(captured)
            graphs = {path.name: Graph(captured.program, names, results, model, blocks)}
        else:
            captured, graphs = _of_crops(model, passes, image, fixed, path)
        facts = _facts(captured, plan, passes, graphs)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
            operators = {
                operator
                for name, graph in graphs.items()
                for operator in write(graph, Path(folder, name), opset, facts)
            }
            runs = [load(Path(folder, name)) for name in graphs]
            run = runs[0] if passes is None else run_both(passes, runs[1], runs[0])
            if fixed:
                sizes: tuple[Size, ...] = (fixed,)
            elif passes is None:
                sizes = sizes_around_window(plan.window if plan else (64, 64), captured)
            else:
                sizes = sizes_around_crop(passes.crop, captured)
            batches = (2, *(1 for _ in sizes[1:]))
            images = [image(b, at) for b, at in zip(batches, sizes, strict=True)]
            worst = max(difference(model, run, x) for x in images)
            if not worst <= tolerance:
                raise GlocalError(
                    f"{path}: not written, since the program differs from the network by "
                    f"{worst:.2g} of the largest value at one of {_text(sizes)}; "
                    f"tolerance={tolerance:.2g} allows less"
                )
            int8 = None
            if calibrate is not None:
                files = [Path(folder, name) for name in graphs]
                int8 = in_int8(files, run, calibrate, taken, fixed or captured, passes)
            for file in Path(folder).iterdir():
                os.replace(file, path.parent / file.name)
    _LOG.info("%s: differs from the network by at most %.2g at %s", path, worst, _text(sizes))
    return Exported(
        path,
        None if passes is None else crops_file(path),
        opset if path.suffix == ".onnx" else None,
        captured.multiple,
        captured.smallest,
        sizes,
        worst,
        tuple(sorted(operators)),
        int8,
    )


def crops_file(path: Path) -> Path:
    """The second file of a network with statistics from crops, from the name of the first.

    >>> crops_file(Path("net.onnx")).name
    'net-crops.onnx'
    """
    return path.with_name(f"{path.stem}-crops{path.suffix}")


def _of_crops(
    model: nn.Module,
    passes: TwoPasses,
    image: Callable[[int, Size], Tensor],
    fixed: Size | None,
    path: Path,
) -> tuple[CapturedProgram, dict[str, Graph]]:
    """Return the program of the image, and both graphs by the names of their files."""
    if fixed and not covers(fixed, passes.crop):
        raise ArgumentError(
            f"size={_text([fixed])} is smaller than the crops of {_text([passes.crop])} that the "
            "statistics come from"
        )
    both = capture_two_graphs(model, passes, image, fixed)
    statistics = dict.fromkeys(both.names, ("rows", "columns", "batch"))
    places = {"rows": ("rows",), "columns": ("columns",)}
    graphs = {
        path.name: Graph(
            both.image.program,
            {"image": IMAGE, **places, **statistics},
            _result_names(both.image),
        ),
        crops_file(path).name: Graph(both.crops, {"crops": ("crops", "channels")}, both.names),
    }
    return replace(both.image, smallest=max(both.image.smallest, *passes.crop)), graphs


def _result_names(captured: CapturedProgram) -> tuple[str, ...]:
    """Names of the results: "restored", "restored_1", …"""
    number = len(captured.program.graph_signature.user_outputs)
    return ("restored", *(f"restored_{i}" for i in range(1, number)))


def _plan(model: nn.Module, allow_global: bool) -> Plan | None:
    """Return the plan of the network, or None; raise if operations are global."""
    try:
        plan = plan_of(model)
    except ArgumentError:
        if allow_global:
            return None
        raise ArgumentError(
            "the network is not converted: the file would run its global operations over whole "
            "images\nConvert it with glocal.localize first, or pass allow_global=True."
        ) from None
    left = plan.with_status("global")
    if left and not allow_global:
        paths = ", ".join(f"'{row.path}'" for row in left[:3])
        raise ArgumentError(
            f"{len(left)} operations of the network were left global ({paths}); "
            "pass allow_global=True to export it anyway"
        )
    return plan


def _example_for(model: nn.Module, like: Tensor, size: Size, given: int | None) -> tuple[int, Size]:
    """Return the channels and a size of images on which the network has run.

    By default the channels are those of its first convolution, which may be defined in another
    order. A small size takes less time, if the network accepts it.
    """
    first: Any = next((m.in_channels for m in model.modules() if hasattr(m, "in_channels")), 3)
    usual = channels_of(model) or 3
    guesses = (given,) if given else (usual if first == 1 else int(first), usual)
    for at in dict.fromkeys(((min(64, size[0]), min(64, size[1])), size)):
        for taken in dict.fromkeys(guesses):
            try:
                results = tree_leaves(model(like.new_zeros(1, taken, *at)))
            except Exception as error:  # a network may raise any exception
                problem = failure(error)
                continue
            for each in results:
                if not isinstance(each, Tensor):
                    raise GlocalError(
                        f"the network returned {type(each).__name__}; only tensors can be exported"
                    )
            return taken, at
    raise GlocalError(
        f"the network does not run on an image of {taken} channels and {_text([size])} pixels; "
        f"pass channels= if it takes others: {problem}"
    )


def _facts(
    captured: CapturedProgram,
    plan: Plan | None,
    passes: TwoPasses | None,
    graphs: dict[str, Graph],
) -> dict[str, str]:
    """Metadata of the files."""
    facts = {
        "glocal_version": version("glocal"),
        "glocal_multiple": str(captured.multiple),
        "glocal_smallest": str(captured.smallest),
    }
    if passes is not None:
        whole, crops = graphs
        names = " ".join(graphs[crops].outputs)
        facts |= {"glocal_image_file": whole, "glocal_crops_file": crops}
        facts |= {"glocal_stride": repr(passes.stride), "glocal_statistics": names}
    if plan is None:
        return {**facts, "glocal_summary": "not converted"}
    return {
        **facts,
        "glocal_train_size": _text([plan.train_size]),
        "glocal_window": _text([plan.window]),
        "glocal_summary": plan.summary(),
        "glocal_plan": plan.to_json(),
    }


def _text(sizes: Sequence[Size]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)
