"""A progress bar on stderr; silent if stderr is not a terminal."""

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

from glocal.cli.reporting import say, say_failure

__all__ = ["Bar", "run_through"]


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


class _Rate(ProgressColumn):
    """Seconds per step, or steps per second, whichever is above 1."""

    def render(self, task: Task) -> Text:
        """Return the rate of a task, empty before the first step."""
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}")


class Bar:
    """Shows files done and tiles of the current file; a context manager."""

    def __init__(self, name: str, files: int, console: Console | None = None) -> None:
        """Count ``files`` files under the label ``name``."""
        console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._files = files
        self._file_task = None
        if files > 1:
            self._file_task = self._progress.add_task(
                escape(name), total=files, unit="file", count=f"0/{files}"
            )
        self._tile_name = escape(name) if files == 1 else "tiles"
        self._tile_task = self._progress.add_task(
            self._tile_name, total=None, unit="tile", count="", visible=files == 1
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

    def tiles(self, done: int, total: int) -> None:
        """Show how many tiles of the current image are done."""
        if done == 0:
            self._progress.reset(
                self._tile_task,
                total=total if total > 1 else None,  # a whole image: no measure of progress
                visible=self._files == 1 or total > 1,
                unit="tile",  # a reset clears all fields
                count=f"0/{total}" if total > 1 else "",
            )
        elif total > 1:
            self._progress.update(self._tile_task, completed=done, count=f"{done}/{total}")

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
        The number of files of each status as text, and True if one failed.
    """
    tally, notes, failures = Counter[str](), Counter[str](), []
    try:
        with bar:
            for result in results:
                tally[result.status] += 1
                notes.update(result.notes)
                if result.status == "failed":
                    failures.append(result)
                bar.file_done(skipped=result.status != statuses[0])
    finally:
        for note, times in notes.items():
            say(f"{note} (in {times} of {count} files)", "yellow", "note")
        for failure in failures:
            # most errors start with the path
            text = (failure.error or "").removeprefix(f"{failure.source}: ")
            say_failure(failure.source, text, failure.trace)
    tally_text = ", ".join(f"{tally[status]} {status}" for status in statuses if tally[status])
    return tally_text, bool(failures)
