"""A progress bar on stderr that is quiet when nobody watches."""

from types import TracebackType
from typing import Self

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

__all__ = ["Bar"]


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
