"""Ctrl-C and SIGTERM end the program within a second, even in a long operation of torch.

Python raises KeyboardInterrupt between two operations. A watching thread ends the process where
that takes too long; results are written under temporary names, and journals of tiles line by line,
so that a process that ends anywhere leaves nothing half-written in the place of a result.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

__all__ = [
    "GRACE_S",
    "INTERRUPTED",
    "TERMINATED",
    "TerminatedError",
    "is_termination",
    "leave_at_once",
    "prompt_interruption",
]

GRACE_S = 0.8
"""Seconds in which the program may end by itself."""

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ends."""

TERMINATED = 143
"""Exit code of a program that SIGTERM ends."""


class TerminatedError(KeyboardInterrupt):
    """The process is to end: SIGTERM, as from `kill` or a batch system."""


def is_termination(end: BaseException) -> bool:
    """True if SIGTERM led to an exception, and not Ctrl-C."""
    if isinstance(end, SystemExit) and end.code == TERMINATED:
        return True
    cause: BaseException | None = end
    while cause is not None and not isinstance(cause, TerminatedError):
        cause = cause.__context__
    return cause is not None


def leave_at_once(code: int = INTERRUPTED) -> NoReturn:
    """End the process without freeing its memory, which takes seconds after a large photograph."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a reader that has gone reads nothing
            stream.flush()
    os._exit(code)


@contextmanager
def prompt_interruption() -> Iterator[None]:
    """End the process if it is still in the block `GRACE_S` after the first Ctrl-C or SIGTERM.

    In the block SIGTERM raises `TerminatedError`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    over = threading.Event()
    before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(woken, over), name="ctrl-c", daemon=True)
    watch.start()
    terminate = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, terminate)
        signal.set_wakeup_fd(before)
        waker.close()  # the thread reads the end and ends
        watch.join()
        woken.close()


def _terminate(number: int, frame: object) -> NoReturn:
    raise TerminatedError


def _watch(woken: socket.socket, over: threading.Event) -> None:
    codes = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
    while numbers := woken.recv(64):
        for number in filter(codes.__contains__, numbers):
            if not over.wait(GRACE_S):
                sys.stderr.write(
                    "\ninterrupted: stopped at once; run the same command again to continue\n"
                )
                leave_at_once(codes[signal.Signals(number)])
            return
