"""Whole networks: time and peak memory of local ÷ global.

Random weights, one image of noise. Below 720×1280 the window shrinks with the image, which keeps
the geometry of 720p with a window of 384. Sizes that would exceed the time limit or the memory,
estimated from the next smaller size, are skipped. Networks are *called* with a contiguous tensor
and the allocator's default settings, and on a CPU also run as in `glocal restore`: channels-last,
with glibc retaining freed memory. Peak memory is the median of several runs in a new process for
each variant, beyond the memory in use before. Retained memory fragments differently in every run,
and peaks vary: by up to 1.4 times between two runs of one variant (all are in `results.json`),
with default settings by 1.2 from 180×320 on. Times of one variant vary by a tenth, more than the
target for NAFNet-w32 at 720×1280 allows, so that case runs in five processes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median

import torch
from case import Case, NotMeasuredError, Record, Settings, Size
from conditions import available_mib
from fresh import PROCESSES, fresh_process
from inputs import noise
from manners import CALLED, RESTORED, manners, preparation
from models import network
from precision import localized, precisions
from tables import table, times
from timing import add_turns, ratio, take_turns
from torch import Tensor, nn

from glocal.inference.memory import peak_memory
from glocal.texts import size_text

NS_A_PIXEL = {  # of one run on two cores, for the estimate of the remaining time
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
"""Image and window sizes; the cost of each is estimated from the one before."""
PROMISED = ("NAFNet-w32", (720, 1280))
"""The case of the targets: always measured, in several processes."""
QUICK = [((32, 48), 24)]
QUICK_NETWORKS = {"NAFNet-w4": 10_000}
MEMORY_RUNS = 2


def case_name(name: str, size: Size, dtype: str, manner: str = CALLED) -> str:
    """Name of the case of one row."""
    return f"{name} {size_text(size)} {dtype}, {manner}"


def cases(settings: Settings) -> list[Case]:
    """Cases: every network at every size."""
    found = []
    rungs = settings.pick(RUNGS, QUICK)
    for name, ns in (QUICK_NETWORKS if settings.quick else NS_A_PIXEL).items():
        for dtype, manner in product(settings.dtypes, manners(settings.device)):
            smaller = None
            for size, window in rungs:
                expected = 1e-9 * ns * math.prod(size) * _runs(settings, processes(name, size))
                expected /= 100 if settings.device == "cuda" else 1 + (manner == RESTORED)
                found.append(
                    Case(
                        case_name(name, size, dtype, manner),
                        expected if expected < limit_s(settings, name, size) else 0,
                        partial(measure, settings, manner, name, size, window, dtype, smaller),
                    )
                )
                smaller = size
    return found


def measure(
    settings: Settings,
    manner: str,
    name: str,
    size: Size,
    window: int,
    dtype: str,
    smaller: Size | None,
    earlier: Mapping[str, Record],
) -> Record:
    """Measure the peak memory of each variant alone, then all times alternately."""
    if smaller is not None and (before := earlier.get(case_name(name, smaller, dtype, manner))):
        growth = math.prod(size) / math.prod(smaller)
        refuse_if_too_much(settings, limit_s(settings, name, size), before, growth)
    prepare = preparation(manner)
    run = Run(name, size, window, dtype, settings.device, manner)
    peaks: dict[str, list[float | None]] = {}
    seconds: dict[str, list[float]] = {}
    for _ in range(processes(name, size)):
        for variant in ("global", *precisions()):
            with fresh_process(settings.threads, prepare) as call:
                add_turns(peaks, {variant: call(peaks_mib, run, variant, MEMORY_RUNS)})
        with fresh_process(settings.threads, prepare) as call:
            add_turns(seconds, call(seconds_in_turn, run, settings.repeats))
    about = {"network": name, "image": size_text(size), "window": window, "dtype": dtype}
    return {"about": {**about, "run": manner}, "seconds": seconds, "peak_mib": peaks}


def limit_s(settings: Settings, name: str, size: Size) -> float:
    """Time limit of a case in seconds."""
    is_first = size == settings.pick(RUNGS, QUICK)[0][0]
    return math.inf if is_first or (name, size) == PROMISED else settings.limit_s


def processes(name: str, size: Size) -> int:
    """Number of processes in which each variant is measured."""
    return PROCESSES if (name, size) == PROMISED else 1


def refuse_if_too_much(settings: Settings, limit: float, smaller: Record, growth: float) -> None:
    """Estimate from the record of an image with `growth` times fewer pixels.

    Raises:
        NotMeasuredError: the case would exceed the memory or the time limit.
    """
    if "skipped" in smaller:
        if math.isinf(limit):
            return
        raise NotMeasuredError("skipped like the next smaller size")
    peaks = [peak for runs in smaller["peak_mib"].values() for peak in runs if peak is not None]
    available = available_mib(settings.device)
    if peaks and available is not None and growth * max(peaks) > 0.9 * available:
        raise NotMeasuredError(f"would need {growth * max(peaks):.0f} of {available:.0f} MiB")
    turn = sum(min(seconds) for seconds in smaller["seconds"].values())
    expected = growth * turn / len(smaller["seconds"]) * _runs(settings)
    if expected > limit:
        raise NotMeasuredError(f"would take about {expected:.0f} s, the limit is {limit:.0f} s")


@dataclass(frozen=True)
class Run:
    """One variant of a network and how it runs."""

    name: str
    size: Size
    window: int
    dtype: str
    device: str
    manner: str

    def subject(self, variant: str) -> nn.Module:
        """The original or the converted network."""
        made = network(self.name).to(self.device, getattr(torch, self.dtype))
        return made if variant == "global" else localized(made, self.window, variant)

    def image(self, size: Size) -> Tensor:
        """Noise in the memory format of the variant."""
        x = noise((1, 3, *size), self.device, self.dtype)
        if self.manner == CALLED:
            return x
        return x.contiguous(memory_format=torch.channels_last)


def seconds_in_turn(run: Run, repeats: int) -> dict[str, list[float]]:
    """Time every variant; runs in its own process."""
    x = run.image(run.size)
    calls = {variant: partial(run.subject(variant), x) for variant in ("global", *precisions())}
    with torch.inference_mode():
        return take_turns(calls, repeats, device=run.device)


def peaks_mib(run: Run, variant: str, runs: int) -> list[float | None]:
    """Peak memory of several runs; runs in its own process."""
    model, found = run.subject(variant), []
    with torch.inference_mode():
        model(run.image((64, 64)))  # allocations of the very first run
        x = run.image(run.size)
        for _ in range(runs):
            with peak_memory(run.device) as peak:
                model(x)
            found.append(None if peak.mib is None else round(peak.mib, 1))
    return found


def tables(records: Mapping[str, Record]) -> str:
    """One row per network and size."""
    head = ["network", "image", "window", "dtype", "run", "global, s"]
    head += ["time, exact ÷ global", "time, fast ÷ global", "global, MiB"]
    head += ["memory, exact ÷ global", "memory, fast ÷ global"]
    rows = []
    for name, record in records.items():
        if "skipped" in record:
            subject, _, manner = name.partition(", ")
            model, image, dtype = subject.split()
            rows.append([model, image, "–", dtype, manner, record["skipped"], *["–"] * 5])
            continue
        about, peaks = record["about"], record["peak_mib"]["global"]
        rows.append(
            [
                *(str(about[key]) for key in ("network", "image", "window", "dtype", "run")),
                f"{median(record['seconds']['global']):.3g}",
                times(ratio(record, "exact", "global")),
                times(ratio(record, "fast", "global")),
                "–" if None in peaks else f"{median(peaks):.0f}",
                times(ratio(record, "exact", "global", "peak_mib")),
                times(ratio(record, "fast", "global", "peak_mib")),
            ]
        )
    return table(head, rows)


def _runs(settings: Settings, count: int = 1) -> int:
    """Number of network runs of a case, for the time estimate."""
    return count * len(("global", *precisions())) * (settings.repeats + 1 + MEMORY_RUNS)
