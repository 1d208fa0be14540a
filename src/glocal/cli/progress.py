"""A progress bar on stderr that is quiet when nobody watches."""

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

from glocal.cli.reporting import say

__all__ = ["Bar", "run_through"]


class Outcome(Protocol):
    """What became of one file; ends in an error where the status is "failed"."""

    @property
    def source(self) -> Path:
        """The file."""

    @property
    def status(self) -> str:
        """What became of it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What its format could not hold."""

    @property
    def error(self) -> str | None:
        """Why it failed."""


class _Rate(ProgressColumn):
    """Seconds a step, or steps a second, whichever is above 1."""

    def render(self, task: Task) -> Text:
        """The rate of a task, nothing until there is one."""
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}")


class Bar:
    """Files done of all, and the tiles of the file at work; use it as a context manager."""

    def __init__(self, name: str, files: int, console: Console | None = None) -> None:
        """Of ``files`` files, called ``name`` in the bar."""
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
        """Begin to show it, on a terminal."""
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take it off the screen."""
        self._progress.__exit__(kind, error, traceback)

    def tiles(self, done: int, total: int) -> None:
        """Show how many tiles of the image at work are done."""
        if done == 0:
            self._progress.reset(
                self._tile_task,
                total=total if total > 1 else None,  # a whole image: busy, no telling how far
                visible=self._files == 1 or total > 1,
                unit="tile",  # a reset takes all fields anew
                count=f"0/{total}" if total > 1 else "",
            )
        elif total > 1:
            self._progress.update(self._tile_task, completed=done, count=f"{done}/{total}")

    def file_done(self, *, skipped: bool = False) -> None:
        """One file is done; one that was not restored leaves the count, and so the rate, alone."""
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
    """Go through the files of a folder while a bar shows it, then say notes and failures.

    Those that were met are said, too, where the run ends early.

    Args:
        results: of the files, as they are made.
        bar: not begun yet.
        statuses: in which order they are told; the first is that of a file that was worked on.
        count: how many files there are.

    Returns:
        How many files have which status, in words, and whether one failed.
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
    finally:  # whoever interrupts a run wants to know them, too
        for note, times in notes.items():
            say(f"{note} (in {times} of {count} files)", "yellow", "note")
        for failure in failures:
            # most errors begin with the path already
            text = (failure.error or "").removeprefix(f"{failure.source}: ")
            say(f"{failure.source}: {text}", "bold red", "failed")
    told = ", ".join(f"{tally[status]} {status}" for status in statuses if tally[status])
    return told, bool(failures)
