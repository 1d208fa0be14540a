"""Make a network local: find its global operations and put their local forms in their place."""

from collections.abc import Iterable, Sequence
from typing import get_args

import torch
from torch import nn

from glocal.conversion.converter import Conversion
from glocal.conversion.rules import DEFAULT_RULES, Rule
from glocal.conversion.rules.rule import Local
from glocal.errors import ArgumentError, ConversionError
from glocal.ops.windows import LEAST, Overlap, Precision, Size, as_size
from glocal.scanning.example import Example, scan_network
from glocal.scanning.plan import Plan

__all__ = ["localize", "plan_of", "scan"]

_PLAN = "glocal_plan"


def localize(
    model: nn.Module,
    train_size: int | Size,
    *,
    window_scale: float = 1.5,
    window: int | Size | None = None,
    overlap: Overlap = LEAST,
    precision: Precision = "exact",
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
    allow_global: bool = False,
) -> nn.Module:
    """A copy of a network whose global operations run over local windows (TLC).

    The copy shares all parameters with `model`, which stays as it is, has the same state-dict
    keys, and serves images of every size. Its `Plan` is `plan_of(copy)`.

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
        train_size: side or (height, width) of the crops it was trained on, in pixels.
        window_scale: window ÷ training size; 1.5 is the paper's.
        window: side or (height, width) of the window in input pixels, instead of `window_scale`.
        overlap: of the windows of rewritten operations that mix pixels, such as grids and spatial
            attention; more of it costs more and shows fewer seams. Transposed attention that a
            rule converts always has the least.
        precision: of window statistics. "fast" evaluates means and moments on a coarse grid and
            interpolates: quicker where statistics meet large maps, within 1/16 of the range of a
            map of the exact ones, see `glocal.ops`. Attention and maxima are exact anyway, and so
            is what is compiled or exported.
        keep_global: module paths, or patterns such as "encoder.*", that are to stay global.
        rules: the forms to convert, first match wins.
        example: what to call the model with, if not one image tensor: a tensor, a sequence of
            arguments, or a function of (height, width) that makes them. Only shapes and types
            count; the last two dims of tensors are adapted to the sizes that are tried.
        allow_global: leave what cannot be converted global instead of raising; the plan lists it.

    Returns:
        The converted copy, in the mode (training or not) of `model`.

    Raises:
        ArgumentError: a size, window or pattern is wrong, or the model is converted already.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.

    Source: Chu et al., Improving Image Restoration by Revisiting Global Information
    Aggregation, ECCV 2022 (arXiv 2112.04491).
    """
    train = as_size(train_size, "train_size")
    if window is None:
        if not window_scale > 0:
            raise ArgumentError(f"window_scale must be above 0, got {window_scale!r}")
        pixels = (max(1, int(train[0] * window_scale)), max(1, int(train[1] * window_scale)))
    else:
        pixels = as_size(window, "window")
    if hasattr(model, _PLAN):
        raise ArgumentError("the model is converted already: convert the original instead")
    if precision not in get_args(Precision):
        raise ArgumentError(f'precision is "exact" or "fast", got {precision!r}')
    patterns = (keep_global,) if isinstance(keep_global, str) else tuple(keep_global)

    with torch.inference_mode(False):  # inside, torch shows a scan other operations
        found = scan_network(model, train, example)
        conversion = Conversion(model, found, train, pixels, rules, overlap)
        rows = conversion.run(patterns)
    for module in conversion.root.modules():
        if isinstance(module, Local):
            module.precision = precision
    plan = Plan(train, pixels, rows, precision)
    left = plan.with_status("global")
    if left and not allow_global:
        shown = "; ".join(
            f"{row.operation} in '{row.path}' ({row.line}): {row.how}" for row in left[:3]
        )
        more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
        raise ConversionError(
            f"{len(left)} of {len(rows)} global operations cannot be made local: {shown}{more}\n"
            "Pass allow_global=True to leave them global, or name them in keep_global."
        )
    root = conversion.root
    setattr(root, _PLAN, plan)
    return root


def scan(
    model: nn.Module,
    train_size: int | Size,
    *,
    window_scale: float = 1.5,
    window: int | Size | None = None,
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
) -> Plan:
    """What is global in a network and what `localize` would make of it; arguments as there.

    >>> print(scan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8)), 64).summary())
    1 local, 0 left global
    """
    converted = localize(
        model,
        train_size,
        window_scale=window_scale,
        window=window,
        keep_global=keep_global,
        rules=rules,
        example=example,
        allow_global=True,
    )
    return plan_of(converted)


def plan_of(converted: nn.Module) -> Plan:
    """The plan that a converted network carries.

    Raises:
        ArgumentError: the network comes from no conversion.
    """
    plan = getattr(converted, _PLAN, None)
    if not isinstance(plan, Plan):
        raise ArgumentError("the network was not made by localize: it carries no plan")
    return plan
