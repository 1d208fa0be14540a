"""Convert a network to local operations, or list what would be converted.

A few lines above 300: the arguments of two public functions, described.
"""

import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from glocal.conversion.converter import Conversion
from glocal.conversion.inside import PLAN, converted_inside, converted_network, own_plan
from glocal.conversion.proof import Converted, prove
from glocal.conversion.proof_of_crops import refuted, take_crops
from glocal.conversion.rules import DEFAULT_RULES, Rule
from glocal.conversion.rules.rule import Local
from glocal.conversion.sources import Sources, Statistics
from glocal.conversion.train_size import resolve_train_size, resolve_window
from glocal.conversion.two_passes import run_twice
from glocal.errors import ArgumentError, ConversionError
from glocal.ops.windows import LEAST, Overlap, Precision, Size
from glocal.scanning.example import Example, scan_network
from glocal.scanning.modules import ancestors
from glocal.scanning.plan import Plan, Row
from glocal.scanning.sandbox import keep_random_state

__all__ = ["localize", "plan_of", "scan"]

_LOG = logging.getLogger(__name__)


def localize(
    model: nn.Module,
    train_size: int | Size | None = None,
    *,
    statistics: Statistics = "windows",
    stride: float = 1.0,
    window_scale: float | None = None,
    window: int | Size | None = None,
    window_overlap: Overlap = LEAST,
    precision: Precision = "exact",
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
    allow_global: bool = False,
    verify: bool = True,
) -> nn.Module:
    """Return a copy of a network whose global operations run locally (TLC).

    The copy shares all parameters with `model`, which is not changed. It has the same state-dict
    keys and accepts images of every size. `plan_of(copy)` returns its `Plan`.

    >>> class Gate(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
    ...     def forward(self, x):
    ...         return x * self.gate(x)
    >>> local = localize(Gate(), train_size=64)
    >>> local.gate[0]
    LocalAvgPool2d(output_size=1, window=(96, 96))

    Args:
        model: any network that maps an image to an image.
        train_size: side or (height, width) of its training crops, in pixels. By default the size
            that the model carries as `model.glocal_train_size`; `glocal.load` sets it where the
            checkpoint or its architecture states one.
        statistics: where the statistic of a global operation comes from. "windows": from a window
            of the feature map around each pixel, as in the paper. "crops": the network first runs
            on crops of the training size, where each operation computes what it did in training,
            and each pixel of the image takes the results of the crops around it, interpolated.
            "auto": norms and attention from crops, pools from windows (`AUTO`). A mapping gives
            the source by kind of operation ("pools", "norms", "attention") or by pattern of
            module paths ("encoder.*"), which comes first; the rest are on windows. Operations that
            cannot take crops, such as grids, run on windows of the training size.
        stride: largest distance between crops, as a multiple of their size. 1.0 places them side by
            side; 2.0 takes less time.
        window: side or (height, width) of the window in input pixels. By default the one that the
            model carries as `model.glocal_window` for its training size, else 1.5 times the
            training size, as in the paper.
        window_scale: window ÷ training size, instead of `window`.
        window_overlap: how the windows of rewritten operations that mix pixels (grids, spatial
            attention) overlap. More overlap costs time and shows fewer seams. Transposed
            attention that a rule converts always has the least overlap.
        precision: of window statistics. "fast" evaluates means and moments on a coarse grid and
            interpolates. It is quicker on large maps and differs from "exact" by at most 1/16 of
            the range of a map, see `glocal.ops`. Attention, maxima, and compiled or exported
            networks are always exact.
        keep_global: module paths, or patterns such as "encoder.*", to leave global.
        rules: the forms to convert; the first match wins.
        example: what to call the model with if it takes more than one image tensor: a tensor, a
            sequence of arguments, or a function of (height, width) that returns them. Only shapes
            and types matter; the last two dims of its tensors are resized for the scan.
        allow_global: leave an operation that cannot be converted global instead of raising; the
            plan lists it.
        verify: prove the result: run it and the original on image-like values and compare them
            where windows cover the maps, run it on a larger image, and look for modules that
            depend on far pixels. This takes about as long as ten calls of the network at the
            training size. A network without values (on the meta device) is not proven.

    Returns:
        The converted copy, in the mode (training or not) of `model`.

    Raises:
        ArgumentError: a size, window or pattern is wrong, the training size is unknown, or the
            model is converted already.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted, or the proof fails at a module, and
            `allow_global` is not set.

    Source: Chu et al., Improving Image Restoration by Revisiting Global Information
    Aggregation, ECCV 2022 (arXiv 2112.04491).
    """
    known = converted_inside(model)
    if known is not None:
        part = f" (its part '{known[0]}')" if known[0] else ""
        raise ArgumentError(
            f"the model is converted already{part}; convert the original instead, which is "
            "unchanged"
        )
    _refuse_lazy(model)
    train = resolve_train_size(model, train_size)
    sources = Sources.of(statistics)
    if not (stride > 0 and math.isfinite(stride)):
        raise ArgumentError(f"stride must be above 0, got {stride!r}; 1.0 is one crop")
    pixels = resolve_window(model, train, window, window_scale)
    if precision not in get_args(Precision):
        raise ArgumentError(f'precision must be "exact" or "fast", got {precision!r}')
    patterns = (keep_global,) if isinstance(keep_global, str) else tuple(keep_global)

    with (
        keep_random_state(),
        torch.inference_mode(False),
    ):  # inside, torch shows a scan other operations
        found = scan_network(model, train, example)
        conversion = Conversion(model, found, train, pixels, rules, window_overlap, sources)
        rows = _run(conversion, patterns, precision, allow_global)
        unproven = _why_unproven(model, verify)
        if not unproven:
            conversion, rows = _proven(conversion, rows, patterns, precision, allow_global)
        on_crops = conversion.on_crops
        if on_crops and not unproven:
            no_crops = refuted(_converted(conversion), on_crops)
            # blocks that have no form on windows yet
            lost = {p: why for p, why in no_crops.items() if p in conversion.without_windows}
            if lost:
                conversion = conversion.without_crops(lost)
                rows = _run(conversion, patterns, precision, allow_global)
                conversion, rows = _proven(conversion, rows, patterns, precision, allow_global)
            on_crops = [path for path in conversion.on_crops if path not in no_crops]
            rows = _without_crops(rows, no_crops)
    root = conversion.root
    if on_crops:
        take_crops(root, on_crops)
        run_twice(root, train, stride)
    plan = Plan(train, pixels, rows, precision, unproven, stride, found.period)
    setattr(root, PLAN, plan)
    _LOG.info("%s: %s", type(model).__name__, plan.summary())
    return root


def _run(
    conversion: Conversion, patterns: tuple[str, ...], precision: Precision, allow_global: bool
) -> tuple[Row, ...]:
    """Convert; returns the rows of the plan."""
    rows = conversion.run(patterns)
    for module in conversion.root.modules():
        if isinstance(module, Local):
            module.precision = precision
    if not allow_global:
        _refuse(rows)
    return rows


def _proven(
    conversion: Conversion,
    rows: tuple[Row, ...],
    patterns: tuple[str, ...],
    precision: Precision,
    allow_global: bool,
) -> tuple[Conversion, tuple[Row, ...]]:
    """The conversion and its rows after the proof, without what it refutes.

    Raises:
        ConversionError: a part of the proof fails, and `allow_global` is not set.
    """
    missed: dict[str, Row] = {}  # by holder
    while True:
        miss = prove(_converted(conversion, missed))
        if miss is None:
            return conversion, rows + tuple(missed.values())
        if not allow_global:
            raise ConversionError(
                f"the converted network fails its proof at '{miss.path}': {miss.why}\n"
                "Pass allow_global=True to leave it global, or name it in keep_global."
            )
        if miss.blocks:
            conversion = conversion.without(miss.blocks, miss.why)
            rows = _run(conversion, patterns, precision, allow_global)
        else:
            assert miss.holder not in missed
            missed[miss.holder] = Row(
                miss.path, "(seen in the proof)", "", None, None, "global", miss.why
            )


def _converted(conversion: Conversion, excused: Iterable[str] = ()) -> Converted:
    """Return a conversion to prove, with the paths of modules that are global.

    Until it takes statistics from crops, a module takes them from windows as large as the crops;
    a module that has none from windows runs global.
    """
    unlike = conversion.without_windows
    blocks = {path: inside for path, inside in conversion.blocks.items() if path not in unlike}
    local = {o.index for inside in blocks.values() for o in inside}
    left = [o for o in conversion.scan.operations if o.index not in local]
    window = conversion.window
    if "crops" in conversion.sources.all:
        rows, columns = map(min, window, conversion.train_size)
        window = (rows, columns)
    return Converted(
        conversion.model, conversion.root, conversion.scan, conversion.train_size, window, blocks,
        left, frozenset(excused),
    )  # fmt: skip


def _without_crops(rows: tuple[Row, ...], reasons: Mapping[str, str]) -> tuple[Row, ...]:
    """Return the rows, with modules that cannot take statistics from crops."""

    def row_of(row: Row) -> Row:
        path = next((path for path in ancestors(row.path) if path in reasons), None)
        if path is None or row.source == "windows":
            return row
        return replace(row, source="windows", how=f"{row.how}; not from crops: {reasons[path]}")

    return tuple(map(row_of, rows))


def _why_unproven(model: nn.Module, verify: bool) -> str:
    """Why a conversion is not proven; empty if it is."""
    if not verify:
        return "verify=False"
    tensors = itertools.chain(model.parameters(), model.buffers())
    return "the network has no values (meta device)" if any(t.is_meta for t in tensors) else ""


def _refuse(rows: Sequence[Row]) -> None:
    """Raise if a row stays global.

    Raises:
        ConversionError: it does.
    """
    unconverted = [row for row in rows if row.status == "global"]
    if not unconverted:
        return
    listed = "; ".join(
        f"{row.operation} in '{row.path}' ({row.line}): {row.how}" for row in unconverted[:3]
    )
    more = f"; and {len(unconverted) - 3} more" if len(unconverted) > 3 else ""
    raise ConversionError(
        f"{len(unconverted)} of {len(rows)} global operations cannot be made local: "
        f"{listed}{more}\n"
        "Pass allow_global=True to leave them global, or name them in keep_global."
    )


def _refuse_lazy(model: nn.Module) -> None:
    for path, module in model.named_modules():
        tensors = (*module._parameters.values(), *module._buffers.values())
        if any(t is not None and is_lazy(t) for t in tensors):
            raise ArgumentError(
                f"the parameters of '{path}' ({type(module).__name__}) have no shape yet; run the "
                "network on an image before you convert it"
            )


def scan(
    model: nn.Module,
    train_size: int | Size | None = None,
    *,
    statistics: Statistics = "windows",
    stride: float = 1.0,
    window_scale: float | None = None,
    window: int | Size | None = None,
    window_overlap: Overlap = LEAST,
    precision: Precision = "exact",
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
    allow_global: bool = False,
    verify: bool = True,
) -> Plan:
    """Return what `localize` would do with each global operation of a network.

    Takes the arguments of `localize`, so `scan(model, **options)` shows what
    `localize(model, **options)` does. Operations that cannot be converted are listed whether or
    not `allow_global` is set.

    >>> print(scan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8)), 64).summary())
    1 local, 0 left global

    Raises:
        ArgumentError: as in `localize`.
        ScanError: the model does not run at the training size.
    """
    del allow_global  # accepted so that the same options serve `localize`
    converted = localize(
        model,
        train_size,
        statistics=statistics,
        stride=stride,
        window_scale=window_scale,
        window=window,
        window_overlap=window_overlap,
        precision=precision,
        keep_global=keep_global,
        rules=rules,
        example=example,
        allow_global=True,
        verify=verify,
    )
    return plan_of(converted)


def plan_of(converted: nn.Module) -> Plan:
    """Return the plan of a converted network, or of the one that a model wraps.

    >>> plan_of(nn.DataParallel(localize(nn.InstanceNorm2d(3), 64))).window
    (96, 96)

    Raises:
        ArgumentError: `localize` did not make the network, or the model adds global operations.
    """
    network = converted_network(converted)
    plan = None if network is None else own_plan(network)
    if plan is None:
        raise ArgumentError(
            "the network carries no plan; pass a network that localize returned"
            if converted_inside(converted) is None
            else "the model wraps a converted network, but has further global operations, or more "
            "than one converted network; pass the converted network alone"
        )
    return plan
