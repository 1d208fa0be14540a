"""What is done with each item of a run, apart from who does it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self

from glocal.runs import pipeline
from glocal.runs.stages import Item, Limits, Outcome, Result, Stages, Usage

__all__ = ["Executor", "Opened", "Work", "done_here"]


@dataclass(frozen=True)
class Opened(Generic[Item]):
    """Work in the process that does it.

    Attributes:
        stages: that each item passes through.
        limits: how many items to hold in memory.
        release: called with each item when its outcome is known.
    """

    stages: Stages[Item, Any, Any, Any]
    limits: Limits = field(default_factory=Limits)
    release: Callable[[Item], None] = lambda item: None


class Work(ABC, Generic[Item, Result]):
    """What is done with each item; it can be pickled, to be done in other processes.

    Attributes:
        unit: most items that a worker takes at once: it reads ahead within them.
    """

    unit: ClassVar[int] = 16

    @abstractmethod
    def opened(self) -> AbstractContextManager[Opened[Item]]:
        """Open what the work needs, such as locks, while the items are done."""

    @abstractmethod
    def result(self, outcome: Outcome[Item, Any]) -> Result:
        """Return what is reported of an item; it can be pickled."""

    @abstractmethod
    def is_failed(self, result: Result) -> bool:
        """True if another try may succeed."""

    @abstractmethod
    def for_worker(self, name: str, device: str | None) -> Self:
        """Return the work for one of several processes, which may be on another machine.

        Args:
            name: of the process, which no other one has.
            device: where its networks run; None leaves it.
        """

    def gather(self, names: str) -> None:
        """Bring together what workers left whose names begin so, after all of them have ended.

        Names are empty where this process did the work.
        """


class Executor(Protocol):
    """Does the work of a run."""

    def run(
        self, work: Work[Item, Result], items: Sequence[Item], usage: Usage | None = None
    ) -> Generator[Result, None, None]:
        """Do all items; one that fails ends nothing but itself.

        Closing the generator stops the run: what is being written is completed.

        Args:
            work: what to do with each.
            items: they can be pickled.
            usage: updated during the run, where it can be measured.

        Yields:
            One result for each item: in their order, where this process does them.

        Raises:
            Exception: an error that concerns every item.
        """


def done_here(
    work: Work[Item, Result],
    opened: Opened[Item],
    items: Iterable[Item],
    usage: Usage | None = None,
) -> Generator[Result, None, None]:
    """Do items in this process; yield their results in order."""
    with closing(pipeline.run(items, opened.stages, opened.limits, usage)) as outcomes:
        for outcome in outcomes:
            opened.release(outcome.item)
            yield work.result(outcome)
