"""Settings of glibc's allocator: keep freed memory, or return it to the system.

By default glibc returns large freed blocks at once, and every layer's output then costs a page
fault for each 4 KiB: a third to two thirds of the time of a network on a photograph on a CPU.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_freed_memory", "kept_memory", "trim_heap"]

# parameters of glibc's mallopt(3)
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
_NEVER = 2**31 - 1

# What glibc itself comes to after a block of 32 MiB, the largest that it adapts to, was freed.
_ADAPTED = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _MMAP_MAX: 65536}

_lock = threading.Lock()
_users = 0  # of `kept_memory`; the command line is one that never ends


def keep_freed_memory() -> bool:
    """Make this process keep freed memory for later use, until the process ends.

    The command line calls this before it restores anything. The size of the process stays at its
    peak, which a process with other work to do may not want; see `kept_memory`.

    Returns:
        True if it took effect, which it does on Linux with the GNU C library only.
    """
    global _users
    with _lock:
        _users += 1
        return _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER})


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory inside the ``with``; return it to the system at the end."""
    global _users
    keep_freed_memory()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            is_last = _users == 0
            if is_last:
                _set(_ADAPTED)
        if is_last:
            trim_heap()


def _set(values: dict[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (AttributeError, OSError):  # another system or C library
        return False
    results = [mallopt(name, value) for name, value in values.items()]
    return all(results)


def trim_heap() -> None:
    """Return freed memory to the system; no effect without glibc.

    A process that keeps freed memory grows beyond its peak need, since new blocks do not fit into
    freed ones of other sizes. Freed memory that is used again is also invisible to `peak_memory`.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
