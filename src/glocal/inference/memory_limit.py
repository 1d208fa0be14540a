"""Keep freed memory while a network runs, below a memory limit."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from glocal.inference.allocator import kept_memory, trim_heap
from glocal.inference.memory import free_memory, process_size

__all__ = ["memory_limit"]

_TRIM_AT = 0.9
"""Share of the limit at which freed memory is first returned to the system."""
_TRIM_STEP = 1 / 64
"""Share of the limit by which the process must grow before memory is returned again."""
_INTERVAL_S = 0.02
"""Seconds between two checks of the size of the process."""


@contextmanager
def memory_limit(device: torch.device, limit: int | None = None) -> Iterator[None]:
    """Keep freed memory inside the ``with``, but return it to the system near the limit.

    Memory that is kept (`glocal.inference.allocator`) saves time, but lies in blocks that may be
    too small for the next layer, so that the process grows beyond what it uses at any moment.
    Memory in use is not touched. No effect on devices other than the CPU, nor where sizes cannot be
    read.

    Args:
        device: where the network runs.
        limit: bytes that the process may use, by default its size plus the free memory.
    """
    if device.type != "cpu":
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(limit, ended), daemon=True)
    watch.start()
    try:
        with kept_memory():
            yield
    finally:
        ended.set()
        watch.join()


def _watch(limit: int | None, ended: threading.Event) -> None:
    """Trim the heap whenever the process has grown to most of its limit."""
    with suppress(OSError):  # a system without /proc
        if ended.wait(_INTERVAL_S):  # before anything is read: small images cost nothing
            return
        if limit is None:
            free = free_memory()
            if free is None:
                return
            limit = process_size() + free
        least = threshold = _TRIM_AT * limit
        while not ended.wait(_INTERVAL_S):
            if process_size() > threshold:
                trim_heap()
                threshold = max(least, process_size() + _TRIM_STEP * limit)
