"""Shortages of the machine: memory, open files, disk space, whatever library reports them."""

import errno
import mmap
import os
import re
from importlib.util import find_spec

from glocal.texts import one_line

__all__ = [
    "check_can_allocate",
    "is_out_of_memory",
    "raise_shortage",
    "raise_shortage_of",
    "shortage_text",
]

_MEMORY_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "could not create a primitive",  # oneDNN, which says so of every failure to allocate
    "failed to allocate",
    "insufficient memory",
    "memory allocation fail",
    "not enough memory",
    "out of memory",
    "alloc_failed",  # cuBLAS, cuDNN
    "bad alloc",
    "bad_alloc",
)
_DECODER_WORDS = ("vips_tracked: out of memory", "cannot allocate memory", "insufficient memory")
"""In messages about image files. libtiff also fails to allocate what a damaged file asks for."""

_ERRNOS = {
    "too many open files": errno.EMFILE,
    "no space left on device": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG,
}
"""Errors of the system, by the text that libraries put into their messages."""

_WANTED = re.compile(r"allocate (\d+) bytes")
"""In the long message of torch's allocator."""

_SPARE = 2**26
"""Bytes that stay free beside a large allocation, for the small ones of decoders."""

_MOST = 200
"""Characters of a message that are shown."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory is exhausted; each library raises its own."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):  # torch's
        return True
    return isinstance(error, RuntimeError) and _has(str(error), _MEMORY_WORDS)


def shortage_text(error: BaseException) -> str | None:
    """Say in a line what the machine is short of; None if the error is another.

    >>> shortage_text(MemoryError("288 MB are needed")), shortage_text(ValueError("no"))
    ('not enough memory (288 MB are needed)', None)
    """
    if is_out_of_memory(error):
        said = one_line(error)
        if wanted := _WANTED.search(said):
            said = f"{-(-int(wanted[1]) // 10**6)} MB more are needed"
        known = said == type(error).__name__ or said.startswith("not enough memory")
        return "not enough memory" if known else f"not enough memory ({said[:_MOST]})"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files; allow more (ulimit -n), or close other programs"
    return None


def raise_shortage(message: str) -> None:
    """Raise what Python would if a decoder's message means a shortage; else do nothing.

    Raises:
        MemoryError: memory is exhausted.
        OSError: no more files may be opened, or the disk is full.
    """
    if _has(message, _DECODER_WORDS):
        raise MemoryError(" ".join(message.split())[:_MOST])
    for words, number in _ERRNOS.items():
        if _has(message, (words,)):
            raise OSError(number, os.strerror(number))


def raise_shortage_of(error: BaseException) -> None:
    """Raise a MemoryError if an error means that memory is exhausted; else do nothing.

    Where any other error means that a network does not run in some way.

    Raises:
        MemoryError: memory is exhausted.
    """
    if is_out_of_memory(error):
        raise MemoryError(one_line(error)[:_MOST]) from error


def check_can_allocate(nbytes: int, what: str) -> None:
    """Check that the process may allocate memory; takes microseconds, and keeps none.

    Libraries in C end the process where it may not: glib aborts.

    Args:
        nbytes: to allocate.
        what: needs them, for the message.

    Raises:
        MemoryError: it may not, by a limit of the process (``ulimit -v``) or of the machine.
    """
    if find_spec("resource") is None:  # Windows, which has no such limits
        return
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        mmap.mmap(-1, nbytes + _SPARE, flags=private).close()
    except (OSError, ValueError, OverflowError):
        raise MemoryError(f"{-(-nbytes // 10**6)} MB are needed for {what}") from None


def _has(text: str, words: tuple[str, ...]) -> bool:
    lower = text.lower()
    return any(each in lower for each in words)
