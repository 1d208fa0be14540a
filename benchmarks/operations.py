"""Local mean, moments and instance norm against a copy of the tensor and the global operation.

A copy is `x.clone()` into new memory, with the page faults that any operation in a network pays
for its output. `out.copy_(x)` into existing memory is faster; the tables show both. *exact* and
*fast* store one value per window, as converted networks do; *map* writes every pixel. *two
cumsums* is the common implementation: differences of cumulative sums in float32, moments as E[x²]
− E[x]². Errors are the largest against float64 (for moments: of the variance), on white noise in
[0, 1] and on a map of mean 30 and deviation 0.1; exact / fast / two cumsums. Large maps have fewer
channels, so that all cases need about the same memory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import references
import torch
import torch.nn.functional as F
from case import Case, Record, Settings, Size
from inputs import INPUTS, largest_errors, noise
from precision import laid_out, operations
from tables import errors, milliseconds, table, times
from timing import ratio, take_turns
from torch import Tensor

from glocal.texts import size_text

SIZES: list[tuple[Size, int]] = [
    ((256, 256), 64),
    ((512, 512), 64),
    ((720, 1280), 64),
    ((1080, 1920), 32),
    ((2160, 3840), 8),
]
"""Map sizes, and their number of channels for the mean."""
QUICK = [((24, 32), 4)]
COVERING = 10**6
WINDOWS = (96, 384, COVERING)
QUICK_WINDOWS = (8, COVERING)
CHECKED = 2
"""Number of channels for the error measurement."""
COMPARED = ("exact map", "fast map", "cumsum")
"""Variants, and the reference."""
RATIOS = (
    ("copy", "clone"),
    ("global", "clone"),
    ("exact", "clone"),
    ("exact map", "clone"),
    ("exact map", "copy"),
    ("exact", "global"),
    ("fast", "clone"),
    ("fast map", "clone"),
    ("cumsum", "clone"),
)
TITLES = {"copy": "copy_", "cumsum": "two cumsums"}
NS_A_PIXEL = 70
"""Nanoseconds per pixel, channel and repeat, for the estimate of the remaining time."""


@dataclass(frozen=True)
class Operation:
    """One operation: its global, naive and reference forms."""

    name: str
    fewer: int
    """Divisor of the channels; expensive operations use fewer."""
    whole: Callable[[Tensor], Any]
    plain: Callable[[Tensor, Size], Any]
    truth: Callable[[Tensor, Size], Tensor]
    checked: Callable[[Any], Tensor] = lambda result: result
    """Part of the result that is compared with the reference."""


OPERATIONS = (
    Operation(
        "mean",
        1,
        lambda x: x.mean((-2, -1), keepdim=True),
        references.mean,
        references.true_mean,
    ),
    Operation(
        "moments",
        4,
        lambda x: torch.var_mean(x, (-2, -1), keepdim=True),
        references.moments,
        references.true_variance,
        lambda result: result[1],
    ),
    Operation(
        "instance norm",
        4,
        F.instance_norm,
        references.instance_norm,
        references.true_instance_norm,
    ),
)


def case_name(operation: str, size: Size, window: int, dtype: str) -> str:
    """Name of the case of one row."""
    return f"{operation} {size_text(size)} window {_window_text(window)} {dtype}"


def cases(settings: Settings) -> list[Case]:
    """Cases: every operation at every size and window."""
    return [
        Case(
            case_name(operation.name, size, window, dtype),
            NS_A_PIXEL * 1e-9 * size[0] * size[1] * channels // operation.fewer * settings.repeats,
            partial(measure, settings, operation, size, channels // operation.fewer, window, dtype),
        )
        for operation in OPERATIONS
        for dtype in settings.dtypes
        for size, channels in settings.pick(SIZES, QUICK)
        for window in settings.pick(WINDOWS, QUICK_WINDOWS)
    ]


def measure(
    settings: Settings,
    operation: Operation,
    size: Size,
    channels: int,
    window: int,
    dtype: str,
    earlier: Mapping[str, Record],
) -> Record:
    """Measure all variants alternately, and their errors."""
    square = (window, window)
    x = noise((1, channels, *size), settings.device, dtype)
    out = torch.empty_like(x)
    local = {p: partial(form, window=square) for p, form in operations(operation.name).items()}
    maps = {f"{p} map": laid_out(form) for p, form in local.items()}
    plain = partial(operation.plain, window=square)
    with torch.inference_mode():
        seconds = take_turns(
            {
                "clone": x.clone,
                "copy": partial(out.copy_, x),
                "global": partial(operation.whole, x),
                **{variant: partial(form, x) for variant, form in {**local, **maps}.items()},
                "cumsum": partial(plain, x),
            },
            settings.repeats,
            device=settings.device,
        )
        error = largest_errors(
            {
                variant: lambda x, form=form: operation.checked(form(x))
                for variant, form in {**maps, "cumsum": plain}.items()
            },
            partial(operation.truth, window=square),
            {
                name: (make((1, CHECKED, *size), settings.device, dtype),)
                for name, make in INPUTS.items()
            },
        )
    about = {
        "operation": operation.name,
        "map": size_text(size),
        "channels": channels,
        "window": _window_text(window),
        "dtype": dtype,
    }
    return {"about": about, "seconds": seconds, "error": error}


def tables(records: Mapping[str, Record]) -> str:
    """One table per operation and dtype."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records.values():
        about = record["about"]
        groups.setdefault((about["operation"], about["dtype"]), []).append(record)
    return "\n\n".join(
        f"Local {operation}, {dtype}:\n\n{_table(group)}"
        for (operation, dtype), group in groups.items()
    )


def _table(records: list[Record]) -> str:
    head = ["map", "channels", "window", "clone, ms"]
    head += [f"{TITLES.get(top, top)} ÷ {TITLES.get(bottom, bottom)}" for top, bottom in RATIOS]
    head += [f"error, {name}" for name in INPUTS]
    return table(
        head,
        [
            [
                *(str(record["about"][key]) for key in ("map", "channels", "window")),
                milliseconds(record["seconds"]["clone"]),
                *(times(ratio(record, top, bottom)) for top, bottom in RATIOS),
                *(errors(record["error"][name], COMPARED) for name in INPUTS),
            ]
            for record in records
        ],
    )


def _window_text(window: int) -> str:
    return "all" if window >= COVERING else str(window)
