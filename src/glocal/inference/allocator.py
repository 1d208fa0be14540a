"""Settings of glibc's allocator: keep freed memory, or return it to the system.

By default glibc returns large freed blocks at once, and every layer's output then costs a page
fault for each 4 KiB: a third to two thirds of the time of a network on a photograph on a CPU.
"""

import ctypes

__all__ = ["keep_freed_memory", "trim_heap"]

# parameters of glibc's mallopt(3)
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make this process keep freed memory for later use, until the process ends.

    The command line calls this before it restores anything. The size of the process stays at its
    peak, which a process with other work to do may not want.

    Returns:
        True if it took effect, which it does on Linux with the GNU C library only.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (AttributeError, OSError):  # another system or C library
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


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
