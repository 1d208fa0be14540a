"""How much memory a call needs beyond what was there before it, how much is free, and a bound."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = [
    "Need",
    "Peak",
    "allocating",
    "free_memory",
    "give_back",
    "kept_within",
    "peak_memory",
]

_PROCESS = Path("/proc/self")
_MACHINE = Path("/proc/meminfo")
_GROUPS = Path("/sys/fs/cgroup")
_RESET_PEAK = "5"
"""What makes Linux take the present size for the largest, see proc(5), /proc/pid/clear_refs."""

_NEAR = 0.9
"""Share of what a process may have from which on it gives back what it has freed."""
_MORE = 1 / 64
"""Share of that by which it has to grow before it does so again."""
_LOOK_S = 0.02


@dataclass
class Peak:
    """The most memory that was taken at any moment.

    Attributes:
        mib: increase over what was there before, in MiB; None until the end, and where it
            cannot be measured.
    """

    mib: float | None = None


class _Turns:
    """Measurements of the process, and work in other threads that they would see, by turns."""

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
        if self._measuring == threading.get_ident():  # one measurement inside of another
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._measuring is None)
            self._measuring = threading.get_ident()  # no work begins any more
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._working == 0)
            yield
        finally:
            with self._changed:
                self._measuring = None
                self._changed.notify_all()


_turns = _Turns()


def allocating() -> AbstractContextManager[None]:
    """For work beside a network, such as decoding the next image, that takes and frees memory.

    It waits while another thread measures the memory of the process, and that thread for it.
    """
    return _turns.working()


@contextmanager
def peak_memory(device: torch.device | str = "cpu") -> Iterator[Peak]:
    """Measure the memory that is taken inside of a `with`, at the moment when it is most.

    On CUDA, what torch's allocator hands out on that device. On the CPU of a Linux machine, the
    memory of the whole process, so that all of its threads count, and what torch and NumPy keep
    for later use; what runs as `allocating` waits. Elsewhere nothing is measured.

    >>> with peak_memory() as peak:
    ...     _ = torch.ones(2**20).sum()
    >>> peak.mib is None or peak.mib < 1000
    True
    """
    device = torch.device(device)
    peak = Peak()
    gc.collect(1)  # what earlier runs left in cycles; all generations would take longer than a run
    with _turns.measuring() if device.type == "cpu" else nullcontext():
        before = _begin(device)
        try:
            yield peak
        finally:
            after = None if before is None else _largest(device)
            if before is not None and after is not None:
                peak.mib = max(0, after - before) / 2**20


@dataclass(frozen=True)
class Need:
    """Bytes that a network takes, as a straight line over the pixels that it sees at once.

    >>> need = Need.through((1000, 5000), (3000, 9000))
    >>> need, need.pixels(11_000)
    (Need(fixed=3000.0, per_pixel=2.0), 4000.0)
    """

    fixed: float
    per_pixel: float

    @classmethod
    def through(cls, *measured: tuple[int, float]) -> "Need":
        """The line through one or two measured (pixels, bytes); never falling, never below 0."""
        pixels, taken = max(measured)
        fewer, less = min(measured) if len(measured) > 1 else (0, 0.0)
        per_pixel = max(0.0, (taken - less) / (pixels - fewer))
        fixed = taken - per_pixel * pixels
        if fixed < 0 or per_pixel == 0:  # nearly all is for pixels: what is measured best, then
            fixed, per_pixel = 0.0, taken / pixels
        return cls(fixed, per_pixel)

    def pixels(self, room: float) -> float:
        """How many pixels this many bytes are enough for."""
        return max(0.0, room - self.fixed) / max(self.per_pixel, 1e-9)


def free_memory(device: torch.device | str = "cpu", limit: int | None = None) -> int | None:
    """Bytes that may be taken now; None where that is not told.

    On CUDA what the driver has free and torch's allocator keeps unused. On the CPU of a Linux
    machine what is available to new work (MemAvailable, see proc(5)), or less where a control
    group allows less.

    Args:
        device: where they are to be taken.
        limit: bytes that the process may have in all, instead of what is there. On another device
            bytes of its tensors; those that are there already count on CUDA.
    """
    device = torch.device(device)
    if device.type == "cuda":
        used = torch.cuda.memory_allocated(device)
        if limit is not None:
            return max(0, limit - used)
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - used
    if device.type != "cpu":
        return limit
    if limit is not None:
        give_back()
        try:
            return max(0, limit - _size())
        except OSError:
            return limit
    try:
        lines = (line.split() for line in _MACHINE.read_text().splitlines())
        machine = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    except (OSError, StopIteration):
        return None
    return min([machine, *_groups()])


@contextmanager
def kept_within(device: torch.device, limit: int | None = None) -> Iterator[None]:
    """Have the process give freed memory back whenever it nears its limit, inside of a `with`.

    A process that keeps freed memory (`allocator`) keeps it in pieces, of which a network
    may need larger ones, and so grows beyond what it holds at any moment. Nothing is done about
    what is held, nor on other devices and systems, whose memory is not kept like that.

    Args:
        device: where a network runs.
        limit: bytes that the process may have in all, by default what it has and what is free.
    """
    if device.type != "cpu":
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(limit, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(limit: int | None, over: threading.Event) -> None:
    """Give back whenever the process has grown to most of its limit."""
    with suppress(OSError):  # of a system that does not tell sizes
        if over.wait(_LOOK_S):  # before anything is read, so that small images cost nothing
            return
        most = limit
        if most is None:
            free = free_memory()
            if free is None:
                return
            most = _size() + free
        near = at = _NEAR * most
        while not over.wait(_LOOK_S):
            if _size() > at:
                give_back()
                at = max(near, _size() + _MORE * most)


def _groups() -> Iterator[int]:
    """Bytes that the control groups of this process leave, version 2 and 1."""
    try:
        paths = [line.split(":", 2) for line in (_PROCESS / "cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in paths:
        if controllers not in ("", "memory"):
            continue
        top = _GROUPS if controllers == "" else _GROUPS / "memory"
        limit, used = (
            ("memory.max", "memory.current")
            if controllers == ""
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        group = top / path.lstrip("/")
        # a container may show its own group as the topmost one; parents limit their children
        for folder in {top, group, *(each for each in group.parents if each.is_relative_to(top))}:
            try:
                most = int((folder / limit).read_text())
                there = int((folder / used).read_text())
                stat = dict(
                    line.split() for line in (folder / "memory.stat").read_text().splitlines()
                )
            except (OSError, ValueError):  # no such file, or "max"
                continue
            # cached files make room for new work
            yield max(0, most - there + int(stat.get("inactive_file", 0)))


def _begin(device: torch.device) -> int | None:
    """Bytes in use, from which on the largest number of them is counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    give_back()
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:  # not Linux, or not allowed in this container
        return None
    return _resident("VmRSS")


def _largest(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident("VmHWM")


def _size() -> int:
    """Bytes that the process has now."""
    return _resident("VmRSS") or 0


def _resident(field: str) -> int | None:
    """A size from the status of the process, in bytes."""
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def give_back() -> None:
    """Have glibc return freed memory, which would be used again without being seen.

    Pieces of other sizes do not fit where earlier ones were, so that a process that keeps them
    grows beyond what it needs at any moment.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
