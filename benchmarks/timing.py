"""Seconds of variants that take turns, so that a slow minute slows all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

T = TypeVar("T")

SHORTEST_S = 20e-3
"""A sample lasts this long at least: shorter calls are repeated in it."""


def take_turns(
    variants: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    device: str = "cpu",
    shortest_s: float = SHORTEST_S,
) -> dict[str, list[float]]:
    """Seconds that a call of each variant takes, `repeats` times, after a turn that is not counted.

    What a call returns is freed within its time.
    """
    calls = {
        name: math.ceil(shortest_s / max(seconds_of(call, 1, device), 1e-7))
        for name, call in variants.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, call in variants.items():
            seconds[name].append(seconds_of(call, calls[name], device))
    return seconds


def seconds_of(call: Callable[[], object], times: int = 1, device: str = "cpu") -> float:
    """Seconds of one of `times` calls in a row."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        call()
    _wait(device)
    return float(f"{(time.perf_counter() - started) / times:.4g}")


def add_turns(taken: dict[str, list[T]], more: Mapping[str, list[T]]) -> None:
    """What another process took or needed, to the same variants of the processes before it."""
    for variant, figures in more.items():
        taken.setdefault(variant, []).extend(figures)


def ratio(record: Mapping[str, object], top: str, bottom: str, what: str = "seconds") -> float:
    """Median of one variant ÷ median of another, NaN where one of them was not measured."""
    values = record.get(what) or {}
    assert isinstance(values, dict)
    try:
        return statistics.median(values[top]) / statistics.median(values[bottom])
    except (KeyError, TypeError, ZeroDivisionError):  # absent, or a peak that cannot be measured
        return math.nan


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
