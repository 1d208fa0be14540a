"""`export`: write a converted network for other runtimes, as ONNX or .pt2.

The program takes any batch, height and width with the same local operations (see
`glocal.ops.exported`) and contains none of glocal's own operators. It is compared with the network
before the file gets its name.
"""

import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from glocal.conversion.localize import plan_of
from glocal.errors import ArgumentError, GlocalError
from glocal.exporting.capture import CapturedProgram, capture_program
from glocal.exporting.onnx import require_onnx, run_onnx, write_onnx
from glocal.inference.runner import channels_of, eval_mode
from glocal.ops.windows import Size, as_size
from glocal.scanning.plan import Plan

__all__ = ["Exported", "export"]

Run = Callable[[Tensor], list[Tensor]]
"""Runs a file on an image and returns all outputs."""


@dataclass(frozen=True)
class Exported:
    """The written file and its check.

    Attributes:
        path: the file.
        opset: version of ONNX's operators; None for .pt2.
        multiple: heights and widths must be multiples of this; 1 is any.
        smallest: least height and width, in pixels.
        sizes: (height, width) at which the program was compared with the network.
        difference: largest absolute difference, relative to the network's largest value.
        operators: names of the operators in the program, sorted.
    """

    path: Path
    opset: int | None
    multiple: int
    smallest: int
    sizes: tuple[Size, ...]
    difference: float
    operators: tuple[str, ...]


def export(
    model: nn.Module,
    path: str | Path,
    *,
    size: int | Size | None = None,
    opset: int = 18,
    channels: int | None = None,
    allow_global: bool = False,
    tolerance: float | None = None,
) -> Exported:
    """Write a converted network to an .onnx or .pt2 file for images of any size.

    The file is run (ONNX by onnxruntime) and compared with the network at three sizes: below the
    window, above it along one axis, and along both. It is kept only if all results agree. It
    carries the training size, the window and the plan: as `metadata_props` in ONNX, as the extra
    file "glocal.json" in .pt2.

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
    plan = _plan(model, allow_global)
    if path.suffix == ".onnx":
        require_onnx()

    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))
    if tolerance is None:
        tolerance = 1e-4 if first.dtype.itemsize > 2 else 2e-2
    taken = channels or _channels(model)

    def image(batch: int, at: Size) -> Tensor:
        """Noise on a slope, so that distant windows have different statistics."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(batch, taken, *at, generator=generator)
        slope = torch.linspace(0, 1, at[0])[:, None] * torch.linspace(0, 1, at[1])
        return (0.5 * noise + 0.5 * slope).to(first)

    with eval_mode(model, first.device), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporters warn about their own internals
        captured = capture_program(model, image, fixed)
        facts = _facts(captured, plan)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
            partial = Path(folder, path.name)
            if path.suffix == ".onnx":
                operators = write_onnx(captured.program, partial, opset, facts)
                run = run_onnx(partial)
            else:
                operators = _write_pt2(captured.program, partial, facts)
                run = _run_pt2(partial)
            sizes = (fixed,) if fixed else _sizes_to_check(plan, captured)
            batches = (2, *(1 for _ in sizes[1:]))
            images = [image(b, at) for b, at in zip(batches, sizes, strict=True)]
            difference = max(_difference(model, run, x) for x in images)
            if not difference <= tolerance:
                raise GlocalError(
                    f"{path}: not written, since the program differs from the network by "
                    f"{difference:.2g} of the largest value at one of {_text(sizes)}; "
                    f"tolerance={tolerance:.2g} allows less"
                )
            for file in Path(folder).iterdir():
                os.replace(file, path.parent / file.name)
    return Exported(
        path,
        opset if path.suffix == ".onnx" else None,
        captured.multiple,
        captured.smallest,
        sizes,
        difference,
        operators,
    )


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


def _channels(model: nn.Module) -> int:
    """Return the input channels of the first convolution that takes an image."""
    first: Any = next((m.in_channels for m in model.modules() if hasattr(m, "in_channels")), 3)
    return channels_of(model) or 3 if first == 1 else int(first)


def _facts(captured: CapturedProgram, plan: Plan | None) -> dict[str, str]:
    """Metadata of the file."""
    facts = {
        "glocal_version": version("glocal"),
        "glocal_multiple": str(captured.multiple),
        "glocal_smallest": str(captured.smallest),
    }
    if plan is None:
        return {**facts, "glocal_summary": "not converted"}
    return {
        **facts,
        "glocal_train_size": _text([plan.train_size]),
        "glocal_window": _text([plan.window]),
        "glocal_summary": plan.summary(),
        "glocal_plan": plan.to_json(),
    }


def _sizes_to_check(plan: Plan | None, captured: CapturedProgram) -> tuple[Size, ...]:
    """Return sizes below the window, above it along one axis, and along both.

    They are odd if the program accepts odd sizes.
    """
    window = plan.window if plan else (64, 64)

    def near(pixels: int) -> int:
        pixels = max(pixels | 1 if captured.multiple == 1 else pixels, captured.smallest)
        return pixels + -pixels % captured.multiple

    below, above = (
        [near(int(n * share)) for n, share in zip(window, shares, strict=True)]
        for shares in ((0.7, 0.8), (1.3, 1.4))
    )
    return (below[0], below[1]), (below[0], above[1]), (above[0], above[1])


def _difference(model: nn.Module, run: Run, image: Tensor) -> float:
    """Return the largest difference ÷ the largest value; infinite if shapes differ."""
    wanted = [t for t in tree_leaves(model(image.clone())) if isinstance(t, Tensor)]
    try:
        got = run(image)
    except Exception as error:  # a runtime may raise any exception
        reason = " ".join(str(error).split())[:200]
        raise GlocalError(
            f"the exported program fails at {_text([_size(image)])}: {reason}"
        ) from None
    if [t.shape for t in got] != [t.shape for t in wanted]:
        return math.inf
    worst = 0.0
    for ours, theirs in zip(wanted, got, strict=True):
        scale = ours.abs().max().clamp_min(torch.finfo(ours.dtype).tiny)
        difference = float((theirs.to(ours) - ours).abs().max() / scale)
        worst = math.inf if math.isnan(difference) else max(worst, difference)
    return worst


def _size(image: Tensor) -> Size:
    return (image.shape[-2], image.shape[-1])


def _write_pt2(program: ExportedProgram, path: Path, facts: dict[str, str]) -> tuple[str, ...]:
    """Write a .pt2 file; returns the names of the program's operators."""
    torch.export.save(program, path, extra_files={"glocal.json": json.dumps(facts)})
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    return tuple(sorted(name for name in names if "." in name))


def _run_pt2(path: Path) -> Run:
    """The function that a .pt2 file computes."""
    module = torch.export.load(path).module()
    return lambda image: tree_leaves(module(image))


def _text(sizes: Sequence[Size]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)
