"""What every benchmark shares: variants that take turns, and the machine they ran on."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def medians(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each variant; they take turns so that a slow minute slows all."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(t[1:]) for name, t in times.items()}


def machine(threads: int, repeats: int) -> str:
    """One line that says where and how figures were measured."""
    return (
        f"{_processor()}, {threads} threads, torch {torch.__version__}, float32, "
        f"median of {repeats}, variants in turn"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
