"""Cost against the number of pixels at one window, and against the window at one size.

*slope* is the least-squares slope of log time over log pixels: 1 means proportional to the pixels;
it also exceeds 1 where small maps fit the processor's cache and large ones do not. *slowest ÷
fastest* compares windows: 1 means that the window does not change the cost.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from case import Case, Record, Settings, Size
from inputs import noise
from models import network
from precision import laid_out, localized, operations
from tables import table
from timing import take_turns

from glocal.ops import local_channel_attention
from glocal.texts import size_text

Run = Callable[[Size, int], Callable[[], object]]
"""A function that makes the call for a map size and a window."""


@dataclass(frozen=True)
class Subject:
    """An operation or network with its map sizes and windows; windows use the last size."""

    run: Callable[[Settings], Run]
    sides: tuple[int, ...]
    window: int
    windows: tuple[int, ...]
    ns_a_pixel: float
    """Estimated seconds, for the remaining time."""


def statistic(settings: Settings, operation: str, channels: int) -> Run:
    """An exact operation on a map of noise."""
    local = laid_out(operations(operation)["exact"])
    return lambda size, window: partial(
        local, noise((1, channels, *size), settings.device, "float32"), (window, window)
    )


def attention(settings: Settings) -> Run:
    """Transposed attention with 48 channels and 1 head."""

    def run(size: Size, window: int) -> Callable[[], object]:
        q, k, v = noise((3, 1, 1, 48, *size), settings.device, "float32").unbind()
        return partial(local_channel_attention, q, k, v, 1.0, (window, window))

    return run


def whole(settings: Settings, name: str) -> Run:
    """A converted network."""

    def run(size: Size, window: int) -> Callable[[], object]:
        local = localized(network(name).to(settings.device, torch.float32), window, "exact")
        return partial(local, noise((1, 3, *size), settings.device, "float32"))

    return run


MAPS = {"sides": (256, 512, 1024, 2048), "window": 192, "windows": (48, 96, 192, 384, 768, 1536)}
SUBJECTS = {
    "local mean, 16 channels": Subject(
        partial(statistic, operation="mean", channels=16), ns_a_pixel=80, **MAPS
    ),
    "local moments, 4 channels": Subject(
        partial(statistic, operation="moments", channels=4), ns_a_pixel=80, **MAPS
    ),
    "transposed attention, 48 channels": Subject(
        attention, (128, 256, 512, 1024), 96, (48, 96, 192, 384, 768), 200
    ),
    "NAFNet-w32": Subject(
        partial(whole, name="NAFNet-w32"), (128, 192, 256, 384), 96, (48, 96, 192, 288), 12_000
    ),
}
QUICK = {
    "local mean": Subject(
        partial(statistic, operation="mean", channels=2), (16, 32), 8, (8, 16), 80
    ),
    "NAFNet-w4": Subject(partial(whole, name="NAFNet-w4"), (32, 48), 24, (24, 36), 1000),
}


def cases(settings: Settings) -> list[Case]:
    """Cases: each subject over pixels and over windows."""
    found = []
    for name, subject in (QUICK if settings.quick else SUBJECTS).items():
        pixels = [((side, side), subject.window) for side in subject.sides]
        windows = [(pixels[-1][0], window) for window in subject.windows]
        for axis, places in (("pixels", pixels), ("window", windows)):
            area = sum(math.prod(size) for size, _ in places)
            found.append(
                Case(
                    f"{name} by {axis}",
                    1e-9 * subject.ns_a_pixel * area * (settings.repeats + 1),
                    partial(measure, settings, name, subject, axis, places),
                )
            )
    return found


def measure(
    settings: Settings,
    name: str,
    subject: Subject,
    axis: str,
    places: list[tuple[Size, int]],
    earlier: Mapping[str, Record],
) -> Record:
    """Measure all points alternately."""
    run = subject.run(settings)
    calls = {
        size_text(size) if axis == "pixels" else str(window): run(size, window)
        for size, window in places
    }
    with torch.inference_mode():
        seconds = take_turns(calls, settings.repeats, device=settings.device)
    fixed = subject.window if axis == "pixels" else size_text(places[0][0])
    return {"about": {"subject": name, "axis": axis, "fixed": fixed}, "seconds": seconds}


def slope(record: Record) -> float:
    """Slope of log time over log pixels."""
    logs = [
        (math.log(math.prod(map(int, size.split("x")))), math.log(median(seconds)))
        for size, seconds in record["seconds"].items()
    ]
    x, y = (sum(axis) / len(logs) for axis in zip(*logs, strict=True))
    return sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs)


def unevenness(record: Record) -> float:
    """The largest median ÷ the smallest."""
    medians = [median(seconds) for seconds in record["seconds"].values()]
    return max(medians) / min(medians)


def tables(records: Mapping[str, Record]) -> str:
    """One table over pixels, one over windows."""
    found = []
    for axis, fixed, figure, title in (
        ("pixels", "window", slope, "slope"),
        ("window", "map", unevenness, "slowest ÷ fastest"),
    ):
        rows = [
            [
                record["about"]["subject"],
                str(record["about"]["fixed"]),
                f"{figure(record):.2f}",
                ", ".join(f"{at}: {1e3 * median(s):.3g}" for at, s in record["seconds"].items()),
            ]
            for record in records.values()
            if record["about"]["axis"] == axis
        ]
        found.append(table(["what", fixed, title, f"milliseconds by {axis}"], rows))
    return "\n\n".join(found)
