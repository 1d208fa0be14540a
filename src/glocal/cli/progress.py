"""A progress bar on stderr; a few lines, for long work, if stderr is not a terminal."""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from glocal.cli.reporting import say, say_failure, say_line, voice
from glocal.inference.time_left import TimeLeft
from glocal.texts import duration_text, printable

__all__ = ["LINES_S", "Bar", "Shown", "run_through"]


class Outcome(Protocol):
    """The result for one file."""

    @property
    def source(self) -> Path:
        """The file."""

    @property
    def status(self) -> str:
        """Such as "restored", "skipped" or "failed"."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Metadata that its format could not store."""

    @property
    def error(self) -> str | None:
        """Why it failed, None otherwise."""

    @property
    def trace(self) -> str:
        """The traceback of that error; empty otherwise."""


class Rate(ProgressColumn):
    """Seconds per file, or files per second, whichever is above 1."""

    def render(self, task: Task) -> Text:
        """Return the rate of a task, empty before the first step."""
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not speed or not unit:
            return Text("")
        return Text(f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}")


class Left(TimeRemainingColumn):
    """The time that is left, as the bar expects it, or by the rate."""

    max_refresh = 0.0  # else the first time comes late

    def render(self, task: Task) -> Text:
        """Return the time of a task."""
        left = task.fields.get("left")
        if left is None:
            return super().render(task)
        return Text(f"{duration_text(left)} left" if left > 0 else "writing")


LINES_S = 10.0
"""Least seconds between two lines where stderr is no terminal."""


class Shown:
    """A bar on a terminal, and nothing elsewhere; a context manager."""

    def __init__(self, console: Console | None) -> None:
        """Prepare the bar, by default for stderr."""
        console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            Rate(),
            TimeElapsedColumn(),
            Left(),
            console=console,
            transient=True,
            disable=not console.is_terminal or not voice().progress,
        )

    def __enter__(self) -> Self:
        """Show the bar, on a terminal."""
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar from the screen."""
        self._progress.__exit__(kind, error, traceback)


class Bar(Shown):
    """Shows files done and how far the current file is; a context manager.

    On a terminal it is a bar. Elsewhere lines appear for a file whose time is expected
    (`expect`), and nothing for others.
    """

    def __init__(self, name: str, files: int, console: Console | None = None) -> None:
        """Count ``files`` files under the label ``name``."""
        super().__init__(console)
        self._files, self._name = files, name
        self._file_task = None
        if files > 1:
            self._file_task = self._progress.add_task(
                escape(printable(name)), total=files, unit="file", count=f"0/{files}"
            )
        self._tile_name = escape(printable(name)) if files == 1 else "tiles"
        self._tile_task = self._progress.add_task(
            self._tile_name, total=None, unit="tile", count="", visible=files == 1
        )
        self._printed = time.monotonic()
        self._left = TimeLeft()

    def expect(self, seconds: float, calls: int) -> None:
        """Show the progress inside a call of the network, and the time left, from now on.

        Args:
            seconds: that the file will take, about, or the first of several.
            calls: of the network for an image that is no tile.
        """
        self._left = TimeLeft(seconds, calls)
        self._printed = time.monotonic()
        self._progress.update(self._tile_task, left=seconds, unit="")
        if not self._progress.console.is_terminal:
            each = " for the first photograph" if self._files > 1 else ""
            say_line(f"{self._name}: about {duration_text(seconds)}{each}")

    def tiles(self, done: int, total: int) -> None:
        """Show how many tiles of the current image are done."""
        self._left.tiles(done, total)
        if self._left.expected_s is not None:
            if done == 0 and self._files > 1:
                self._left.restart()
                self._progress.update(self._tile_task, visible=True)
            self._show()
        elif done == 0:
            self._progress.reset(
                self._tile_task,
                total=total if total > 1 else None,  # a whole image: no measure of progress
                visible=self._files == 1 or total > 1,
                unit="tile",  # a reset clears all fields
                count=f"0/{total}" if total > 1 else "",
            )
        elif total > 1:
            self._progress.update(self._tile_task, completed=done, count=f"{done}/{total}")

    def step(self, call: int, share: float) -> None:
        """Show how far a call of the network has come.

        Args:
            call: its number in the run; calls before the first tile measure and do not count.
            share: of its time, 0 to 1.
        """
        if self._left.expected_s is not None and self._left.total:
            self._left.step(call, share)
            self._show()

    def _show(self) -> None:
        """Show the share of the file that is done, and the time left."""
        share, left, total = self._left.share, self._left.seconds() or 0.0, self._left.total
        now = time.monotonic()
        tiles = f"tile {min(self._left.done + 1, total)}/{total}, " * (total > 1)
        count = f"{tiles}{100 * share:.0f} %"
        self._progress.update(
            self._tile_task, total=1.0, completed=share, count=count, left=left, unit=""
        )
        is_line = self._files == 1 and not self._progress.console.is_terminal
        if is_line and now - self._printed >= LINES_S:
            self._printed = now
            say_line(f"{self._name}: {count}, {duration_text(left)} left")

    def file_done(self, *, skipped: bool = False) -> None:
        """Count a file as done; a skipped one is left out of count and rate."""
        if self._file_task is None:
            return
        task = self._progress.tasks[0]
        done = task.completed + (not skipped)
        total = (task.total or 0) - skipped
        self._progress.update(
            self._file_task, completed=done, total=total, count=f"{done:.0f}/{total:.0f}"
        )


def run_through(
    results: Iterable[Outcome], bar: Bar, statuses: tuple[str, ...], count: int
) -> tuple[str, bool]:
    """Process files with a progress bar, then print notes and failures.

    Notes and failures are also printed if the run is interrupted.

    Args:
        results: of the files, one by one.
        bar: not yet entered.
        statuses: all statuses in the order to print; the first is that of a processed file.
        count: number of files.

    Returns:
        The number of files of each status as text, and True if one failed or was left.
    """
    tally, notes, failures = Counter[str](), Counter[str](), []
    again = Counter[str]()
    try:
        with bar:
            for result in results:
                tally[result.status] += 1
                notes.update(result.notes)
                if why := getattr(result, "again", ""):
                    again[why] += 1
                if result.status in _UNDONE:
                    failures.append(result)
                elif voice().verbose:
                    say_line(f"{result.status}: {result.source}")
                bar.file_done(skipped=result.status != statuses[0])
    finally:
        for why, times in again.items():
            say(f"{times} done again: made {why}", "yellow", "note")
        for note, times in notes.items():
            say(f"{note} (in {times} of {count} files)", "yellow", "note")
        for failure in failures:
            # most errors start with the path
            text = (failure.error or "").removeprefix(f"{failure.source}: ")
            say_failure(failure.source, text, failure.trace, failure.status)
    tally_text = ", ".join(f"{tally[status]} {status}" for status in statuses if tally[status])
    return tally_text, bool(failures)


_UNDONE = ("failed", "left")
