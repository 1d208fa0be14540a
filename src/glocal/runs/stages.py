"""What a pipeline does with its items, within which limits, and what becomes of them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Done", "Finished", "Item", "Limits", "Loaded", "Made", "Outcome", "Stages", "Usage"]

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Made = TypeVar("Made")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Finished(Generic[Done]):
    """Returned by the read stage: nothing is to be computed, ``done`` is the result."""

    done: Done


@dataclass(frozen=True)
class Stages(Generic[Item, Loaded, Made, Done]):
    """What is done with an item.

    Attributes:
        read: an item to what is computed with, or to its result. Runs in a thread.
        compute: several that :attr:`lot` lets share a call, to one result each. Runs in the
            calling thread. Where it fails for several, it is called again with each alone.
        write: item, loaded and computed to the result. Runs in a thread.
        lot: which may share a call: those of the same key, and how many of it at most.
        nbytes: memory that one loaded or one computed thing takes.
        fatal: errors that hold for every item, and so end the run.
    """

    read: Callable[[Item], Loaded | Finished[Done]]
    compute: Callable[[list[Loaded]], list[Made]]
    write: Callable[[Item, Loaded, Made], Done]
    lot: Callable[[Loaded], tuple[Hashable, int]] = lambda loaded: (None, 1)
    nbytes: Callable[[Loaded | Made], int] = lambda thing: 1
    fatal: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class Limits:
    """How far the threads may run ahead of the compute stage, and behind it.

    Attributes:
        count: items that are being read or are read and wait, and as many that are computed
            and wait or are being written; 0 for no threads: the stages take turns.
        nbytes: the same in memory, the last one excepted: one goes through however large.
        workers: threads that read, and as many that write.
    """

    count: int = 4
    nbytes: int = 2**27
    workers: int = 1


@dataclass(frozen=True)
class Outcome(Generic[Item, Done]):
    """What became of one item.

    Attributes:
        item: as it was given.
        done: what the write stage returned, or a :class:`Finished` of the read stage held.
        error: what was raised instead, by whichever stage.
        elapsed_s: seconds in the stages, without the waits between them; of a call for
            several items, an equal share.
    """

    item: Item
    done: Done | None = None
    error: BaseException | None = None
    elapsed_s: float = 0.0


@dataclass
class Usage:
    """What the compute stage did with its time until now, in seconds.

    Attributes:
        computing_s: it computed.
        input_s: it waited for something to compute with.
        output_s: it waited for room to put results, or for the last of them to be written.
        elapsed_s: wall time since the beginning, the caller's own between results included.
    """

    computing_s: float = 0.0
    input_s: float = 0.0
    output_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def busy(self) -> float:
        """Share of the wall time that the compute stage computed, 0 to 1."""
        return self.computing_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def waiting(self) -> float:
        """Share of the wall time that the compute stage waited, 0 to 1.

        >>> Usage(computing_s=9, input_s=0.75, output_s=0.25, elapsed_s=10).waiting
        0.1
        """
        return (self.input_s + self.output_s) / self.elapsed_s if self.elapsed_s else 0.0
