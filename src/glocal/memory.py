"""How much memory a call needs at most, beyond what was there before it."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Peak", "peak_memory"]

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"
"""What makes Linux take the present size for the largest, see proc(5), /proc/pid/clear_refs."""


@dataclass
class Peak:
    """The most memory that was taken at any moment.

    Attributes:
        mib: increase over what was there before, in MiB; None until the end, and where it
            cannot be measured.
    """

    mib: float | None = None


@contextmanager
def peak_memory(device: torch.device | str = "cpu") -> Iterator[Peak]:
    """Measure the memory that is taken inside of a `with`, at the moment when it is most.

    On CUDA, what torch's allocator hands out on that device. On the CPU of a Linux machine, the
    memory of the whole process, so that all of its threads count, and what torch and NumPy keep
    for later use. Elsewhere nothing is measured.

    >>> with peak_memory() as peak:
    ...     _ = torch.ones(2**20).sum()
    >>> peak.mib is None or peak.mib < 1000
    True
    """
    device = torch.device(device)
    peak = Peak()
    gc.collect(1)  # what earlier runs left in cycles; all generations would take longer than a run
    before = _begin(device)
    try:
        yield peak
    finally:
        after = None if before is None else _largest(device)
        if before is not None and after is not None:
            peak.mib = max(0, after - before) / 2**20


def _begin(device: torch.device) -> int | None:
    """Bytes in use, from which on the largest number of them is counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    _give_back()
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:  # not Linux, or not allowed in this container
        return None
    return _resident("VmRSS")


def _largest(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident("VmHWM")


def _resident(field: str) -> int | None:
    """A size from the status of the process, in bytes."""
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def _give_back() -> None:
    """Have glibc return freed memory, which would be used again without being seen."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
