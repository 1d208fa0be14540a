"""Transposed attention: local by cells against global, and against cut-out windows.

The maps are three levels of Restormer on a 512×768 image with a window of 384. *windows* is the
straightforward method: cut overlapping windows out, stack them, attend, average them back. Errors
are the largest difference from that method in float64, on white noise in [0, 1] and on maps of
mean 30 and deviation 0.1; by cells / windows.

As in `networks`, operations are *called* with the allocator's default settings and, on a CPU, also
run with glibc retaining freed memory, as `glocal restore` does. With the default settings, large
temporaries cause page faults, whose number depends on the state of the heap. That and the placement
of threads on cores vary between processes, so all repeats run in each of five processes.
"""

import math
from collections.abc import Mapping
from functools import partial

import torch
from case import Case, Record, Settings, Size
from fresh import PROCESSES, fresh_process
from inputs import INPUTS, largest_errors
from manners import manners, preparation
from references import attention, attention_by_windows
from tables import errors, milliseconds, table, times
from timing import add_turns, ratio, take_turns
from torch import Tensor

from glocal.ops import local_channel_attention
from glocal.texts import size_text

Level = tuple[int, int, Size, int]
"""Channels, heads, map, window."""
LEVELS: list[Level] = [
    (96, 2, (256, 384), 192),
    (48, 1, (512, 768), 384),
    (384, 8, (64, 96), 48),
]
QUICK: list[Level] = [(8, 2, (16, 24), 8)]
BATCHES = (1, 2)


def case_name(level: Level, batch: int, dtype: str, manner: str) -> str:
    """Name of the case of one row."""
    channels, heads, size, window = level
    subject = f"{channels} channels {heads} heads {size_text(size)} window {window}"
    return f"{subject} batch {batch} {dtype}, {manner}"


def cases(settings: Settings) -> list[Case]:
    """Cases for every level, with batches of one and two."""
    return [
        Case(
            case_name(level, batch, dtype, manner),
            1e-7 * batch * level[0] * math.prod(level[2]) * (settings.repeats + 5) * PROCESSES,
            partial(measure, settings, level, batch, dtype, manner),
        )
        for dtype in settings.dtypes
        for manner in manners(settings.device)
        for level in settings.pick(LEVELS, QUICK)
        for batch in BATCHES
    ]


def measure(
    settings: Settings,
    level: Level,
    batch: int,
    dtype: str,
    manner: str,
    earlier: Mapping[str, Record],
) -> Record:
    """Measure all variants alternately, and their errors."""
    channels, heads, size, window = level
    seconds: dict[str, list[float]] = {}
    for _ in settings.pick(range(PROCESSES), range(1)):
        with fresh_process(settings.threads, preparation(manner)) as call:
            taken, error = call(seconds_and_errors, settings, level, batch, dtype)
        add_turns(seconds, taken)
    about = {
        "channels": channels,
        "heads": heads,
        "map": size_text(size),
        "window": window,
        "batch": batch,
        "dtype": dtype,
        "run": manner,
    }
    return {"about": about, "seconds": seconds, "error": error}


def seconds_and_errors(
    settings: Settings, level: Level, batch: int, dtype: str
) -> tuple[dict[str, list[float]], dict[str, dict[str, float | None]]]:
    """Measure one row in one process."""
    channels, heads, size, window = level
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
    return seconds, error


def tables(records: Mapping[str, Record]) -> str:
    """One table of all levels."""
    head = ["channels, heads", "map", "window", "batch", "dtype", "run", "clone of v, ms"]
    head += ["global ÷ clone", "by cells ÷ global", "windows ÷ global"]
    head += [f"error, {name}" for name in INPUTS]
    rows = []
    for record in records.values():
        about = record["about"]
        rows.append(
            [
                f"{about['channels']}, {about['heads']}",
                *(str(about[key]) for key in ("map", "window", "batch", "dtype", "run")),
                milliseconds(record["seconds"]["clone"]),
                times(ratio(record, "global", "clone")),
                times(ratio(record, "local", "global")),
                times(ratio(record, "windows", "global")),
                *(errors(record["error"][name], ["local", "windows"]) for name in INPUTS),
            ]
        )
    return table(head, rows)
