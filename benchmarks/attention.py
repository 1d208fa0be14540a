"""Transposed attention: local by cells against global, and against windows that are cut out.

The maps are three levels of Restormer on an image of 512×768 with a window of 384. *windows* is
the plain way: overlapping windows, stacked, attended and averaged back. Errors are the largest
against that way in float64, on white noise in [0, 1] and on maps of mean 30 and deviation 0.1;
by cells / windows.
"""

from collections.abc import Mapping
from functools import partial

import torch
from case import Case, Record, Settings, Size
from inputs import INPUTS, largest_errors
from references import attention, attention_by_windows
from tables import errors, milliseconds, table, times
from timing import ratio, take_turns
from torch import Tensor

from glocal.ops import local_channel_attention
from glocal.texts import size_text

# (channels, heads, map, window)
LEVELS = [
    (96, 2, (256, 384), 192),
    (48, 1, (512, 768), 384),
    (384, 8, (64, 96), 48),
]
QUICK = [(8, 2, (16, 24), 8)]
BATCHES = (1, 2)


def case_name(channels: int, heads: int, size: Size, window: int, batch: int, dtype: str) -> str:
    """Of one row."""
    level = f"{channels} channels {heads} heads {size_text(size)} window {window}"
    return f"{level} batch {batch} {dtype}"


def cases(settings: Settings) -> list[Case]:
    """Every level with one image and with two."""
    return [
        Case(
            case_name(*level, batch, dtype),
            1e-7 * batch * level[0] * level[2][0] * level[2][1] * settings.repeats,
            partial(measure, settings, *level, batch, dtype),
        )
        for dtype in settings.dtypes
        for level in settings.pick(LEVELS, QUICK)
        for batch in BATCHES
    ]


def measure(
    settings: Settings,
    channels: int,
    heads: int,
    size: Size,
    window: int,
    batch: int,
    dtype: str,
    earlier: Mapping[str, Record],
) -> Record:
    """Seconds of all forms in turn, and their errors."""
    shape = (3, batch, heads, channels // heads, *size)
    given = {name: make(shape, settings.device, dtype) for name, make in INPUTS.items()}
    inputs = {name: tuple(made.unbind()) for name, made in given.items()}
    q, k, v = inputs["noise"]
    one = torch.ones(heads, 1, 1, device=settings.device, dtype=v.dtype)
    square = (window, window)
    local = partial(local_channel_attention, temperature=one, window=square)
    windows = partial(attention_by_windows, temperature=one, window=square)

    def truth(*maps: Tensor) -> Tensor:
        wide = (m.double() for m in maps)
        return attention_by_windows(*wide, temperature=one.double(), window=square)

    with torch.inference_mode():
        seconds = take_turns(
            {
                "clone": v.clone,
                "global": partial(attention, q, k, v, one),
                "local": partial(local, q, k, v),
                "windows": partial(windows, q, k, v),
            },
            settings.repeats,
            device=settings.device,
        )
        error = largest_errors({"local": local, "windows": windows}, truth, inputs)
    about = {
        "channels": channels,
        "heads": heads,
        "map": size_text(size),
        "window": window,
        "batch": batch,
        "dtype": dtype,
    }
    return {"about": about, "seconds": seconds, "error": error}


def tables(records: Mapping[str, Record]) -> str:
    """All levels in one."""
    head = ["channels, heads", "map", "window", "batch", "dtype", "clone of v, ms"]
    head += ["global ÷ clone", "by cells ÷ global", "windows ÷ global"]
    head += [f"error, {name}" for name in INPUTS]
    rows = []
    for record in records.values():
        about = record["about"]
        rows.append(
            [
                f"{about['channels']}, {about['heads']}",
                *(str(about[key]) for key in ("map", "window", "batch", "dtype")),
                milliseconds(record["seconds"]["clone"]),
                times(ratio(record, "global", "clone")),
                times(ratio(record, "local", "global")),
                times(ratio(record, "windows", "global")),
                *(errors(record["error"][name], ["local", "windows"]) for name in INPUTS),
            ]
        )
    return table(head, rows)
