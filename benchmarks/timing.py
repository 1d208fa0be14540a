"""Alternating timing of variants, so that a slow phase affects all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

T = TypeVar("T")

SHORTEST_S = 20e-3
"""Minimum duration of a sample in seconds; shorter calls are repeated."""


def take_turns(
    variants: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    device: str = "cpu",
    shortest_s: float = SHORTEST_S,
) -> dict[str, list[float]]:
    """Seconds per call of each variant, `repeats` times, after one warm-up round.

    The time includes freeing the result.
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
    """Seconds per call, over `times` consecutive calls."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        call()
    _wait(device)
    return float(f"{(time.perf_counter() - started) / times:.4g}")


def add_turns(taken: dict[str, list[T]], more: Mapping[str, list[T]]) -> None:
    """Append the figures of another process to those of the same variants."""
    for variant, figures in more.items():
        taken.setdefault(variant, []).extend(figures)


def ratio(record: Mapping[str, object], top: str, bottom: str, what: str = "seconds") -> float:
    """Ratio of the medians of two variants; NaN if one was not measured."""
    values = record.get(what) or {}
    assert isinstance(values, dict)
    try:
        return statistics.median(values[top]) / statistics.median(values[bottom])
    except (KeyError, TypeError, ZeroDivisionError):  # not measured
        return math.nan


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
