"""The two manners in which networks and operations are run.

*Called* is under the allocator's default settings. *Restored* is as `glocal restore` runs them on a
CPU: glibc keeps freed memory.
"""

from collections.abc import Callable

from glocal.inference.allocator import keep_freed_memory

CALLED, RESTORED = "called", "restore"
HOW = {RESTORED: "as `glocal restore` runs it", CALLED: "called"}
"""In a sentence."""


def manners(device: str) -> tuple[str, ...]:
    """Those that differ on a device."""
    return (RESTORED, CALLED) if device == "cpu" else (CALLED,)


def preparation(manner: str) -> Callable[[], object] | None:
    """What a fresh process does first."""
    return keep_freed_memory if manner == RESTORED else None
