"""Memory: peak of a call, free memory, and the budget of a network."""

import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from glocal.devices import MemoryStatistics
from glocal.inference.allocator import trim_heap

__all__ = [
    "BUDGET_SHARE",
    "MemoryNeed",
    "Peak",
    "allocating",
    "free_memory",
    "memory_budget",
    "peak_memory",
    "process_size",
]

BUDGET_SHARE = 0.6
"""Share of the free memory, or of the rest of a limit, that a network may use: large tiles need up
to 37 % more than small parts show when the process keeps freed memory in blocks, and pages of
mapped files count as well."""

resource: Any = import_module("resource") if find_spec("resource") else None  # not on Windows

_PROCESS = Path("/proc/self")
_MACHINE = Path("/proc/meminfo")
_GROUPS = Path("/sys/fs/cgroup")
_RESET_PEAK = "5"
"""Makes Linux reset the recorded peak to the present size, see proc(5), /proc/pid/clear_refs."""


@dataclass
class Peak:
    """Peak memory use of a call.

    Attributes:
        mib: increase over the memory in use before, in MiB; None until the end, and where it
            cannot be measured.
    """

    mib: float | None = None


class _Measurement:
    """A lock between memory measurements and work that allocates in other threads.

    Any number of threads may allocate at once, but none during a measurement.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._measuring: int | None = None  # the thread

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._measuring is None)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def measuring(self) -> Iterator[None]:
        if self._measuring == threading.get_ident():  # nested in another measurement
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._measuring is None)
            self._measuring = threading.get_ident()  # from here on no work begins
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._working == 0)
            yield
        finally:
            with self._changed:
                self._measuring = None
                self._changed.notify_all()


_measurement = _Measurement()


def allocating() -> AbstractContextManager[None]:
    """Context for work that allocates while a network runs, such as decoding.

    The work waits while another thread measures the memory of the process, and that thread waits
    for the work.
    """
    return _measurement.working()


@contextmanager
def peak_memory(device: torch.device | str = "cpu") -> Iterator[Peak]:
    """Measure the peak of the memory that is allocated inside the ``with``.

    On a GPU, the memory that torch's allocator hands out on that device, where it counts that. On
    the CPU of a Linux machine, the memory of the whole process: all of its threads count, and so
    does freed memory that torch and NumPy keep; `allocating` work waits. Elsewhere nothing is
    measured.

    >>> with peak_memory() as peak:
    ...     _ = torch.ones(2**20).sum()
    >>> peak.mib is None or peak.mib < 1000
    True
    """
    device = torch.device(device)
    peak = Peak()
    gc.collect(1)  # cycles of earlier runs; collecting all generations would take longer than a run
    with _measurement.measuring() if device.type == "cpu" else nullcontext():
        before = _reset_peak(device)
        try:
            yield peak
        finally:
            after = None if before is None else _peak(device)
            if before is not None and after is not None:
                peak.mib = max(0, after - before) / 2**20


@dataclass(frozen=True)
class MemoryNeed:
    """Memory need of a network in bytes, linear in the pixels that it reads at once.

    >>> need = MemoryNeed.through((1000, 5000), (3000, 9000))
    >>> need, need.max_pixels(11_000)
    (MemoryNeed(fixed=3000.0, per_pixel=2.0), 4000.0)

    Attributes:
        fixed: bytes at any size.
        per_pixel: bytes for each pixel.
    """

    fixed: float
    per_pixel: float

    @classmethod
    def through(cls, *measured: tuple[int, float]) -> "MemoryNeed":
        """Return the line through one or two measured (pixels, bytes) pairs."""
        pixels, taken = max(measured)
        fewer, less = min(measured) if len(measured) > 1 else (0, 0.0)
        per_pixel = max(0.0, (taken - less) / (pixels - fewer))
        fixed = taken - per_pixel * pixels
        if fixed < 0 or per_pixel == 0:  # then nearly all is for pixels: trust the larger point
            fixed, per_pixel = 0.0, taken / pixels
        return cls(fixed, per_pixel)

    def max_pixels(self, memory: float) -> float:
        """Return the number of pixels that fit into ``memory`` bytes."""
        return max(0.0, memory - self.fixed) / max(self.per_pixel, 1e-9)


def memory_budget(device: torch.device, memory: int | None, reserved: int) -> float | None:
    """Return the bytes that a network may use; None if the free memory is unknown.

    Args:
        device: where the network runs.
        memory: limit of the process, as for `free_memory`.
        reserved: bytes of the result, which on a CPU come out of the same memory.
    """
    free = free_memory(device, memory)
    if free is None:
        return None
    return max(0.0, free * BUDGET_SHARE - (reserved if device.type == "cpu" else 0))


def free_memory(device: torch.device | str = "cpu", limit: int | None = None) -> int | None:
    """Return the bytes that can be allocated now; None if that is unknown.

    On a GPU, the free memory of the device and the unused memory of torch's allocator. On the CPU
    of a Linux machine, the memory available to new work (MemAvailable, see proc(5)), or less if a
    control group or a limit of the process (``ulimit -v``, ``ulimit -d``) allows less.

    Args:
        device: where to allocate.
        limit: bytes that the process may use in all on the CPU, or its tensors on another device,
            instead of all that is free. On a GPU existing tensors count.
    """
    device = torch.device(device)
    if device.type != "cpu":
        there = MemoryStatistics(device)
        return there.free() if limit is None else max(0, limit - (there.used() or 0))
    if limit is not None:
        trim_heap()
        try:
            return max(0, limit - process_size())
        except OSError:
            return limit
    try:
        lines = (line.split() for line in _MACHINE.read_text().splitlines())
        machine = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    except (OSError, StopIteration):
        return None
    return min([machine, *_groups(), *_process_limits()])


def process_size() -> int:
    """Return the bytes of memory that the process uses now.

    Raises:
        OSError: the system has no /proc.
    """
    return _status("VmRSS") or 0


def _process_limits() -> Iterator[int]:
    """Bytes that each limit of the system on this process leaves."""
    for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield max(0, most - (_status(field) or 0))


def _groups() -> Iterator[int]:
    """Bytes that each control group of this process leaves, in version 2 and 1."""
    try:
        paths = [line.split(":", 2) for line in (_PROCESS / "cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in paths:
        if controllers not in ("", "memory"):
            continue
        top = _GROUPS if controllers == "" else _GROUPS / "memory"
        limit_file, used_file = (
            ("memory.max", "memory.current")
            if controllers == ""
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        group = top / path.lstrip("/")
        # a container may show its own group as the topmost one; parents limit their children
        for folder in {top, group, *(each for each in group.parents if each.is_relative_to(top))}:
            try:
                limit = int((folder / limit_file).read_text())
                used = int((folder / used_file).read_text())
                stat = dict(
                    line.split() for line in (folder / "memory.stat").read_text().splitlines()
                )
            except (OSError, ValueError):  # no such file, or "max"
                continue
            # the system drops cached files to make room for new work
            yield max(0, limit - used + int(stat.get("inactive_file", 0)))


def _reset_peak(device: torch.device) -> int | None:
    """Reset the recorded peak and return the bytes in use, or None without a record."""
    if device.type != "cpu":
        return MemoryStatistics(device).reset_peak()
    trim_heap()
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:  # not Linux, or not allowed in this container
        return None
    return _status("VmRSS")


def _peak(device: torch.device) -> int | None:
    """The recorded peak in bytes."""
    return MemoryStatistics(device).peak() if device.type != "cpu" else _status("VmHWM")


def _status(field: str) -> int | None:
    """A field of the process's status in bytes, such as VmRSS."""
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
