"""Types of a pipeline: stages, limits, outcomes, and usage of the compute stage."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Computed", "Item", "Limits", "Loaded", "Outcome", "Result", "Skip", "Stages", "Usage"]

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Computed = TypeVar("Computed")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Skip(Generic[Result]):
    """Returned by the read stage to skip the other stages: the result is known."""

    result: Result


@dataclass(frozen=True)
class Stages(Generic[Item, Loaded, Computed, Result]):
    """The three stages of a pipeline.

    Attributes:
        read: item -> loaded, or a :class:`Skip`. Runs in a thread.
        compute: loaded items of one batch -> one value each. Runs in the calling thread. A batch
            that fails is computed again item by item.
        write: (item, loaded, computed) -> result. Runs in a thread.
        group: loaded -> (key, most): items with equal keys share a batch of up to `most` items.
        nbytes: bytes of memory of one loaded or computed value.
        fatal: errors that concern every item and therefore end the run.
    """

    read: Callable[[Item], Loaded | Skip[Result]]
    compute: Callable[[list[Loaded]], list[Computed]]
    write: Callable[[Item, Loaded, Computed], Result]
    group: Callable[[Loaded], tuple[Hashable, int]] = lambda loaded: (None, 1)
    nbytes: Callable[[Loaded | Computed], int] = lambda value: 1
    fatal: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class Limits:
    """Bounds on the items in memory on either side of the compute stage.

    Attributes:
        count: maximum number of items being read or waiting for the compute stage, and of items
            waiting for the write stage or being written. 0 uses no threads: each item passes
            through all stages in turn.
        nbytes: maximum number of bytes on either side. One item may exceed it, so that an item of
            any size is processed.
        workers: number of threads that read, and number of threads that write.
    """

    count: int = 4
    nbytes: int = 2**27
    workers: int = 1


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """The result of one item, or its error.

    Attributes:
        item: the item.
        result: returned by the write stage, or in the `Skip` of the read stage; None after an
            error.
        error: the exception that a stage raised, or None.
        elapsed_s: seconds spent in the stages, without waiting. Items of a batch have equal shares
            of its time.
    """

    item: Item
    result: Result | None = None
    error: BaseException | None = None
    elapsed_s: float = 0.0


@dataclass
class Usage:
    """How the compute stage spent its time so far, in seconds.

    Attributes:
        computing_s: running the compute stage.
        input_s: waiting for input.
        output_s: waiting for the write stage.
        elapsed_s: wall time since the start, including the caller's time between outcomes.
    """

    computing_s: float = 0.0
    input_s: float = 0.0
    output_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def busy(self) -> float:
        """Share of the wall time spent computing, 0 to 1."""
        return self.computing_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def waiting(self) -> float:
        """Share of the wall time spent waiting, 0 to 1.

        >>> Usage(computing_s=9, input_s=0.75, output_s=0.25, elapsed_s=10).waiting
        0.1
        """
        return (self.input_s + self.output_s) / self.elapsed_s if self.elapsed_s else 0.0
