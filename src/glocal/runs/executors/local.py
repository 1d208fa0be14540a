"""The executor of this process: threads read ahead and write behind while one item is computed."""

from collections.abc import Generator, Sequence

from glocal.runs.executors.work import Work, done_here
from glocal.runs.stages import Item, Result, Usage

__all__ = ["LocalExecutor"]


class LocalExecutor:
    """Does the work in this process."""

    def run(
        self, work: Work[Item, Result], items: Sequence[Item], usage: Usage | None = None
    ) -> Generator[Result, None, None]:
        """Do all items, see `Executor`; yields their results in order."""
        with work.opened() as opened:
            yield from done_here(work, opened, items, usage)
        work.gather("")
