"""Two ways of running networks and operations.

*Called*: with the allocator's default settings. *Restored*: as `glocal restore` runs them on a CPU,
with glibc retaining freed memory.
"""

from collections.abc import Callable

from glocal.inference.allocator import keep_freed_memory

CALLED, RESTORED = "called", "restore"
HOW = {RESTORED: "as `glocal restore` runs it", CALLED: "called"}
"""Each as a phrase for a sentence."""


def manners(device: str) -> tuple[str, ...]:
    """The ways that differ on a device."""
    return (RESTORED, CALLED) if device == "cpu" else (CALLED,)


def preparation(manner: str) -> Callable[[], object] | None:
    """The setup function that a fresh process calls first."""
    return keep_freed_memory if manner == RESTORED else None
