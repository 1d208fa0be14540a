"""The progress of a video on stderr, in frames."""

import time

from rich.console import Console
from rich.markup import escape

from glocal.cli import progress
from glocal.cli.progress import Shown
from glocal.cli.reporting import say_line
from glocal.texts import duration_text, printable

__all__ = ["FrameBar"]


class FrameBar(Shown):
    """Shows the frames of a video that are done, their rate and the time left; a context manager.

    On a terminal it is a bar. Elsewhere a line appears every `LINES_S` seconds.
    """

    def __init__(self, name: str, console: Console | None = None) -> None:
        """Show the progress under the label ``name``."""
        super().__init__(console)
        self._name = name
        self._task = self._progress.add_task(
            escape(printable(name)), total=None, unit="frame", count="", left=None
        )
        self._first: tuple[float, int] | None = None
        self._printed = time.monotonic()

    def frames(self, done: int, total: int) -> None:
        """Show how many frames are done; the first call tells how many were before this run."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
            self._progress.reset(
                self._task, total=total, completed=done, unit="frame", count=f"{done}/{total}"
            )
            return
        self._progress.update(self._task, completed=done, count=f"{done}/{total}")
        began, before = self._first
        if now - self._printed >= progress.LINES_S and not self._progress.console.is_terminal:
            self._printed = now
            rate = (done - before) / (now - began)
            left = duration_text((total - done) / rate)
            say_line(f"{self._name}: {done}/{total} frames, {rate:.2g} frames/s, {left} left")
