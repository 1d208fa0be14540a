"""Many items through three stages that overlap: read ahead, compute, write behind.

Knows neither files nor networks. Threads read and write while the calling thread computes, so
the stages overlap where reading and writing release Python's lock. What is held at once is
bounded by a count and by bytes, whichever stage is the slow one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from glocal.runs.stages import Done, Finished, Item, Limits, Loaded, Made, Outcome, Stages, Usage

__all__ = ["run"]

Result = TypeVar("Result")


def run(
    items: Sequence[Item],
    stages: Stages[Item, Loaded, Made, Done],
    limits: Limits | None = None,
    usage: Usage | None = None,
) -> Generator[Outcome[Item, Done], None, None]:
    """Take items through the stages; each fails alone, unless its error is ``fatal``.

    The next item is computed with others of its lot that lie within the limits. Which ones
    depends on the items alone, not on how fast they are read, so that a run can be repeated.

    >>> stages = Stages(read=int, compute=lambda xs: [x * x for x in xs],
    ...                 write=lambda item, loaded, made: f"{item}² = {made}")
    >>> [outcome.done or str(outcome.error) for outcome in run(["2", "x", "3"], stages)]
    ['2² = 4', "invalid literal for int() with base 10: 'x'", '3² = 9']

    Closing the iterator, or an exception that goes through it (Ctrl-C), ends the threads:
    what a stage is at work on is finished, what waits is dropped.

    Args:
        items: in the order of the results.
        stages: what to do with them.
        limits: how far to run ahead.
        usage: is kept up to date while the run goes on.

    Yields:
        An outcome for each item, in order, as soon as it is there and nothing is at work in the
        calling thread.

    Raises:
        Exception: one of ``stages.fatal``, after the outcomes of the items before it; later
            items may be done by then.
    """
    limits = limits or Limits()
    usage = usage or Usage()
    began = time.perf_counter()
    outcomes = (
        _Overlapped(items, stages, limits, usage).outcomes()
        if limits.count
        else _in_turn(items, stages, usage)
    )
    with closing(outcomes):
        for outcome in outcomes:
            usage.elapsed_s = time.perf_counter() - began
            error = outcome.error
            if isinstance(error, stages.fatal) or not isinstance(error, Exception | None):
                raise error
            yield outcome
    usage.elapsed_s = time.perf_counter() - began


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def _tried(call: Callable[[], Result]) -> tuple[Result | _Failed, float]:
    """The result or the error of a call, and its seconds."""
    began = time.perf_counter()
    result: Result | _Failed
    try:
        result = call()
    except BaseException as error:  # of a thread's, too: what ends a run is raised by `run`
        result = _Failed(error)
    return result, time.perf_counter() - began


def _in_turn(
    items: Sequence[Item], stages: Stages[Item, Loaded, Made, Done], usage: Usage
) -> Generator[Outcome[Item, Done], None, None]:
    for item in items:
        loaded, elapsed_s = _tried(partial(stages.read, item))
        usage.input_s += elapsed_s
        if isinstance(loaded, _Failed):
            yield Outcome(item, None, loaded.error, elapsed_s)
            continue
        if isinstance(loaded, Finished):
            yield Outcome(item, loaded.done, None, elapsed_s)
            continue
        made, spent_s = _tried(partial(stages.compute, [loaded]))
        usage.computing_s += spent_s
        elapsed_s += spent_s
        if isinstance(made, _Failed):
            yield Outcome(item, None, made.error, elapsed_s)
            continue
        done, spent_s = _tried(partial(stages.write, item, loaded, made[0]))
        usage.output_s += spent_s
        yield _outcome(item, done, elapsed_s + spent_s)


def _outcome(item: Item, done: Done | _Failed, elapsed_s: float) -> Outcome[Item, Done]:
    if isinstance(done, _Failed):
        return Outcome(item, None, done.error, elapsed_s)
    return Outcome(item, done, None, elapsed_s)


@dataclass
class _Work(Generic[Item, Loaded]):
    """An item on its way, and the seconds that it took until now."""

    index: int
    item: Item
    loaded: Loaded
    elapsed_s: float


class _Overlapped(Generic[Item, Loaded, Made, Done]):
    """One run with threads. All that they share changes under one condition."""

    def __init__(
        self,
        items: Sequence[Item],
        stages: Stages[Item, Loaded, Made, Done],
        limits: Limits,
        usage: Usage,
    ) -> None:
        self._items, self._stages, self._limits, self._usage = items, stages, limits, usage
        self._changed = threading.Condition()
        self._stopped = False
        self._taken = 0  # items that a reader has begun with
        self._arrived = 0  # items that were read and put where the calling thread sees them
        self._largest = 0  # bytes of one of them
        self._ahead: dict[int, _Work[Item, Loaded]] = {}
        self._made: deque[tuple[_Work[Item, Loaded], Made]] = deque()
        self._behind: dict[int, int] = {}  # computed and not yet written: bytes by index
        self._outcomes: dict[int, Outcome[Item, Done]] = {}

    def outcomes(self) -> Generator[Outcome[Item, Done], None, None]:
        """Of all items; the threads live as long as this generator."""
        threads = [
            threading.Thread(target=work, name=f"glocal-{work.__name__.strip('_')}", daemon=True)
            for work in (self._read, self._write)
            for _ in range(self._limits.workers)
        ]
        try:
            for thread in threads:
                thread.start()
            for index in range(len(self._items)):
                while (outcome := self._outcome_or_lot(index)) is None:
                    pass
                yield outcome
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _outcome_or_lot(self, index: int) -> Outcome[Item, Done] | None:
        """The outcome of an item if it is there, or None after one lot was computed instead."""
        with self._changed:
            while index not in self._outcomes:
                lot = self._lot()
                if lot and self._is_room_behind():
                    break
                began = time.perf_counter()
                self._changed.wait()
                waited_s = time.perf_counter() - began
                if lot or self._arrived == len(self._items):
                    self._usage.output_s += waited_s
                else:
                    self._usage.input_s += waited_s
            else:
                return self._outcomes.pop(index)
            for work in lot:
                del self._ahead[work.index]
            self._changed.notify_all()
        self._compute(lot)
        return None

    def _lot(self) -> list[_Work[Item, Loaded]]:
        """What to compute next: the oldest item and its like; empty while more may come."""
        if not self._ahead:
            return []
        # by index: readers put items down in order
        first = next(iter(self._ahead.values()))
        key, most = self._stages.lot(first.loaded)
        like = [w for w in self._ahead.values() if self._stages.lot(w.loaded)[0] == key]
        complete = (
            len(like) >= most or not self._is_room_ahead() or self._arrived == len(self._items)
        )
        return like[: max(1, most)] if complete else []

    def _held_ahead(self) -> int:
        return sum(self._stages.nbytes(work.loaded) for work in self._ahead.values())

    def _is_room_ahead(self) -> bool:
        return len(self._ahead) < self._limits.count and self._held_ahead() < self._limits.nbytes

    def _may_read(self) -> bool:
        """Whether one item more may be read; how large it is shows only then."""
        reading = self._taken - self._arrived
        if reading == 0:
            return self._is_room_ahead()
        expected = self._held_ahead() + (reading + 1) * self._largest
        return (
            self._largest > 0
            and len(self._ahead) + reading < self._limits.count
            and expected <= self._limits.nbytes
        )

    def _is_room_behind(self) -> bool:
        held = sum(self._behind.values())
        return len(self._behind) < self._limits.count and held < self._limits.nbytes

    def _compute(self, lot: list[_Work[Item, Loaded]]) -> None:
        results, spent_s = _tried(partial(self._stages.compute, [work.loaded for work in lot]))
        self._usage.computing_s += spent_s
        for work in lot:
            work.elapsed_s += spent_s / len(lot)
        if isinstance(results, _Failed):
            if not isinstance(results.error, Exception):
                raise results.error
            if len(lot) == 1:
                failed = Outcome[Item, Done](lot[0].item, None, results.error, lot[0].elapsed_s)
                self._settle(lot[0].index, failed)
                return
            del results  # the error's traceback keeps what the call held in memory
            for work in lot:
                self._compute([work])
            return
        nbytes = self._stages.nbytes
        with self._changed:
            for work, made in zip(lot, results, strict=True):
                self._made.append((work, made))
                self._behind[work.index] = nbytes(work.loaded) + nbytes(made)
            self._changed.notify_all()

    def _settle(self, index: int, outcome: Outcome[Item, Done]) -> None:
        with self._changed:
            self._outcomes[index] = outcome
            self._behind.pop(index, None)
            self._changed.notify_all()

    def _read(self) -> None:
        while self._read_one():
            pass

    def _read_one(self) -> bool:
        """False at the end; no variable keeps an item in memory while the next is read."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or self._taken == len(self._items) or self._may_read()
            )
            index = self._taken
            if self._stopped or index == len(self._items):
                return False
            self._taken += 1
        self._put_ahead(index, *_tried(partial(self._stages.read, self._items[index])))
        return True

    def _put_ahead(
        self, index: int, loaded: Loaded | Finished[Done] | _Failed, elapsed_s: float
    ) -> None:
        """In the order of the items, whichever was read first, and when there is room."""
        item = self._items[index]
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._arrived == index)
            if isinstance(loaded, _Failed):
                self._outcomes[index] = Outcome(item, None, loaded.error, elapsed_s)
            elif isinstance(loaded, Finished):
                self._outcomes[index] = Outcome(item, loaded.done, None, elapsed_s)
            else:
                self._changed.wait_for(lambda: self._stopped or self._is_room_ahead())
                self._ahead[index] = _Work(index, item, loaded, elapsed_s)
                self._largest = max(self._largest, self._stages.nbytes(loaded))
            self._arrived += 1
            self._changed.notify_all()

    def _write(self) -> None:
        while self._write_one():
            pass

    def _write_one(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or bool(self._made))
            if self._stopped:
                return False
            work, made = self._made.popleft()
        done, spent_s = _tried(partial(self._stages.write, work.item, work.loaded, made))
        self._settle(work.index, _outcome(work.item, done, work.elapsed_s + spent_s))
        return True
