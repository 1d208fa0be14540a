"""Whole networks: time and peak memory of local ÷ global.

Random weights, one image of noise. Below 720×1280 the window shrinks with the image, so that the
geometry is that of 720p with a window of 384. Sizes that would take more than the limit of time or
than there is memory, judged by the next smaller one, are left out. Peak memory is measured in a
new process for each variant, where nothing that was kept for reuse can hide it: the largest of
several runs, beyond what was there before.
"""

import math
from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from case import Case, NotMeasuredError, Record, Settings, Size
from conditions import available_mib
from fresh import fresh_process
from inputs import noise
from models import network
from precision import localized, precisions
from tables import table, times
from timing import ratio, take_turns

from glocal.memory import peak_memory
from glocal.texts import size_text

NS_A_PIXEL = {  # of one run, on two cores; for the estimate of the time that is left
    "NAFNet-w32": 6_500,
    "NAFNet-w64": 17_000,
    "HINet": 30_000,
    "MPRNet": 240_000,
    "Restormer": 95_000,
}
RUNGS: list[tuple[Size, int]] = [
    ((90, 160), 48),
    ((180, 320), 96),
    ((360, 640), 192),
    ((720, 1280), 384),
    ((1080, 1920), 384),
    ((2160, 3840), 384),
]
"""Images and windows, each judged by the one before it."""
PROMISED = ("NAFNet-w32", (720, 1280))
"""What targets are about: measured however long it takes."""
QUICK = [((32, 48), 24)]
QUICK_NETWORKS = {"NAFNet-w4": 10_000}
MEMORY_RUNS = 2


def case_name(name: str, size: Size, dtype: str) -> str:
    """Of one row."""
    return f"{name} {size_text(size)} {dtype}"


def cases(settings: Settings) -> list[Case]:
    """Every network at every size."""
    found = []
    rungs = settings.pick(RUNGS, QUICK)
    for name, ns in (QUICK_NETWORKS if settings.quick else NS_A_PIXEL).items():
        for dtype in settings.dtypes:
            smaller = None
            for size, window in rungs:
                expected = 1e-9 * ns * math.prod(size) * _runs(settings)
                if settings.device == "cuda":
                    expected /= 100
                found.append(
                    Case(
                        case_name(name, size, dtype),
                        expected if expected < limit_s(settings, name, size) else 0,
                        partial(measure, settings, name, size, window, dtype, smaller),
                    )
                )
                smaller = size
    return found


def measure(
    settings: Settings,
    name: str,
    size: Size,
    window: int,
    dtype: str,
    smaller: Size | None,
    earlier: Mapping[str, Record],
) -> Record:
    """Peak memory of each variant alone, then seconds of all in turn."""
    if smaller is not None and (before := earlier.get(case_name(name, smaller, dtype))):
        growth = math.prod(size) / math.prod(smaller)
        refuse_if_too_much(settings, limit_s(settings, name, size), before, growth)
    variants = ("global", *precisions())
    peaks = {}
    for variant in variants:
        with fresh_process(settings.threads) as call:
            peaks[variant] = call(
                peaks_mib, name, size, window, dtype, settings.device, variant, MEMORY_RUNS
            )
    x = noise((1, 3, *size), settings.device, dtype)
    calls = {
        variant: partial(subject(name, window, dtype, settings.device, variant), x)
        for variant in variants
    }
    with torch.inference_mode():
        seconds = take_turns(calls, settings.repeats, device=settings.device)
    about = {"network": name, "image": size_text(size), "window": window, "dtype": dtype}
    return {"about": about, "seconds": seconds, "peak_mib": peaks}


def limit_s(settings: Settings, name: str, size: Size) -> float:
    """How long a case may take."""
    is_first = size == settings.pick(RUNGS, QUICK)[0][0]
    return math.inf if is_first or (name, size) == PROMISED else settings.limit_s


def refuse_if_too_much(settings: Settings, limit: float, smaller: Record, growth: float) -> None:
    """Judge by the record of a smaller image, of a `growth`-th of the pixels.

    Raises:
        NotMeasuredError: it would take too long, or need more memory than there is.
    """
    if "skipped" in smaller:
        if math.isinf(limit):
            return
        raise NotMeasuredError("as the size before it")
    turn = sum(min(seconds) for seconds in smaller["seconds"].values())
    expected = growth * turn / len(smaller["seconds"]) * _runs(settings)
    if expected > limit:
        raise NotMeasuredError(f"would take about {expected:.0f} s, the limit is {limit:.0f} s")
    peaks = [peak for runs in smaller["peak_mib"].values() for peak in runs if peak is not None]
    available = available_mib(settings.device)
    if peaks and available is not None and growth * max(peaks) > 0.9 * available:
        raise NotMeasuredError(
            f"would need {growth * max(peaks):.0f} MiB, there are {available:.0f} MiB"
        )


def subject(name: str, window: int, dtype: str, device: str, variant: str) -> torch.nn.Module:
    """A network as it is, or converted."""
    made = network(name).to(device, getattr(torch, dtype))
    return made if variant == "global" else localized(made, window, variant)


def peaks_mib(
    name: str, size: Size, window: int, dtype: str, device: str, variant: str, runs: int
) -> list[float | None]:
    """What each of several runs takes at most; for a process of its own."""
    model = subject(name, window, dtype, device, variant)
    found = []
    with torch.inference_mode():
        model(noise((1, 3, 64, 64), device, dtype))  # loads what the first run of all loads
        x = noise((1, 3, *size), device, dtype)
        for _ in range(runs):
            with peak_memory(device) as peak:
                model(x)
            found.append(None if peak.mib is None else round(peak.mib, 1))
    return found


def tables(records: Mapping[str, Record]) -> str:
    """One row a network and size."""
    head = ["network", "image", "window", "dtype", "global, s"]
    head += ["time, exact ÷ global", "time, fast ÷ global", "global, MiB"]
    head += ["memory, exact ÷ global", "memory, fast ÷ global"]
    rows = []
    for name, record in records.items():
        if "skipped" in record:
            model, image, dtype = name.split()
            rows.append([model, image, "–", dtype, record["skipped"], *["–"] * 5])
            continue
        about, peaks = record["about"], largest_peaks(record)
        rows.append(
            [
                *(str(about[key]) for key in ("network", "image", "window", "dtype")),
                f"{median(record['seconds']['global']):.3g}",
                times(ratio(record, "exact", "global")),
                times(ratio(record, "fast", "global")),
                f"{peaks['global'][0]:.0f}" if peaks.get("global") else "–",
                times(ratio({"mib": peaks}, "exact", "global", "mib")),
                times(ratio({"mib": peaks}, "fast", "global", "mib")),
            ]
        )
    return table(head, rows)


def largest_peaks(record: Record) -> dict[str, list[float]]:
    """The largest run of each variant whose memory could be measured."""
    peaks: dict[str, Any] = record["peak_mib"]
    return {v: [max(runs)] for v, runs in peaks.items() if runs and None not in runs}


def _runs(settings: Settings) -> int:
    """Runs of a network that a case takes, one variant's memory and the turns not counted in."""
    return len(("global", *precisions())) * (settings.repeats + 1 + MEMORY_RUNS)
