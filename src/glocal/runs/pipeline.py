"""Run items through three overlapping stages: read ahead, compute, write behind.

The pipeline knows neither files nor networks. One pool of threads reads and another writes while
the calling thread computes; stages overlap where reading and writing release the GIL.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from glocal.runs.stages import Computed, Item, Limits, Loaded, Outcome, Result, Skip, Stages, Usage

__all__ = ["run"]

_Stages: TypeAlias = Stages[Any, Any, Any, Any]
_Outcome: TypeAlias = Outcome[Any, Any]


def run(
    items: Sequence[Item],
    stages: Stages[Item, Loaded, Computed, Result],
    limits: Limits | None = None,
    usage: Usage | None = None,
) -> Generator[Outcome[Item, Result], None, None]:
    """Run items through the stages; an error concerns its item only, unless it is `fatal`.

    Batches depend on the items and limits only, not on timing, so that a run can be repeated.

    >>> stages = Stages(read=int, compute=lambda xs: [x * x for x in xs],
    ...                 write=lambda item, loaded, computed: f"{item}² = {computed}")
    >>> [outcome.result or str(outcome.error) for outcome in run(["2", "x", "3"], stages)]
    ['2² = 4', "invalid literal for int() with base 10: 'x'", '3² = 9']

    Closing the generator, or an exception raised in it (Ctrl-C), ends the threads: reads and
    writes in progress are completed, queued ones are dropped.

    Args:
        items: the items.
        stages: what to do with each.
        limits: how many items to hold in memory.
        usage: updated during the run.

    Yields:
        One outcome per item, in the order of the items.

    Raises:
        Exception: one of `stages.fatal`, after the outcomes of all earlier items; later items may
            have been written by then.
    """
    limits, usage = limits or Limits(), usage or Usage()
    began = time.perf_counter()
    if limits.count:
        outcomes = _Overlapped(items, stages, limits, usage).outcomes()
    else:
        outcomes = _in_turn(items, stages, usage)
    with closing(outcomes):
        for outcome in outcomes:
            usage.elapsed_s = time.perf_counter() - began
            error = outcome.error
            if isinstance(error, stages.fatal) or not isinstance(error, Exception | None):
                raise error
            yield outcome
    usage.elapsed_s = time.perf_counter() - began


@dataclass(eq=False)
class _Work:
    """An item on its way through the stages; `outcome` is set when it leaves them."""

    item: Any
    loaded: Any = None
    computed: Any = None
    outcome: _Outcome | None = None
    elapsed_s: float = 0.0
    nbytes: int | None = None  # None until it is read
    future: Future[None] = field(init=False)  # of its read, then of its write

    def read(self, stages: _Stages) -> None:
        self.loaded, error, self.elapsed_s = _timed(stages.read, self.item)
        if error is not None or isinstance(self.loaded, Skip):
            self.nbytes = 0
            self.end(getattr(self.loaded, "result", None), error)
        else:
            self.nbytes = stages.nbytes(self.loaded)

    def write(self, stages: _Stages) -> None:
        result, error, spent_s = _timed(stages.write, self.item, self.loaded, self.computed)
        self.elapsed_s += spent_s
        self.end(result, error)

    def end(self, result: Any, error: BaseException | None) -> None:
        self.loaded = self.computed = None
        self.outcome = Outcome(self.item, result, error, self.elapsed_s)


def _timed(call: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None, float]:
    """The value of a call, its error, and its duration in seconds."""
    began = time.perf_counter()
    try:
        return call(*args), None, time.perf_counter() - began
    except BaseException as error:  # a thread's KeyboardInterrupt as well: `run` raises it
        return None, error, time.perf_counter() - began


def _compute(stages: _Stages, batch: list[_Work], usage: Usage) -> None:
    """Compute a batch; if that fails, its items one by one."""
    values, error, spent_s = _timed(stages.compute, [work.loaded for work in batch])
    usage.computing_s += spent_s
    for work in batch:
        work.elapsed_s += spent_s / len(batch)
    if error is None:
        for work, computed in zip(batch, values, strict=True):
            work.computed = computed
    elif not isinstance(error, Exception):
        raise error
    elif len(batch) == 1:
        batch[0].end(None, error)
    else:
        del error  # its traceback holds the memory of the call
        for work in batch:
            _compute(stages, [work], usage)


def _in_turn(
    items: Iterable[Any], stages: _Stages, usage: Usage
) -> Generator[_Outcome, None, None]:
    for work in map(_Work, items):
        work.read(stages)
        usage.input_s += work.elapsed_s
        if work.outcome is None:
            _compute(stages, [work], usage)
        if work.outcome is None:
            before_s = work.elapsed_s
            work.write(stages)
            usage.output_s += work.elapsed_s - before_s
        assert work.outcome is not None
        yield work.outcome


class _Overlapped:
    """One run with threads. The lock guards what the reading threads change."""

    def __init__(self, items: Iterable[Any], stages: _Stages, limits: Limits, usage: Usage) -> None:
        self._stages, self._limits, self._usage = stages, limits, usage
        self._lock = threading.Lock()
        self._unread = deque(map(_Work, items))
        self._reading = deque[_Work]()  # in order, some of them finished
        self._loaded: list[_Work] = []  # in order, waiting for a batch
        self._writing: list[_Work] = []
        self._largest = 0  # bytes of a loaded item so far

    def outcomes(self) -> Generator[_Outcome, None, None]:
        """The outcomes in order. The threads live as long as this generator."""
        self._readers = ThreadPoolExecutor(self._limits.workers, "glocal-read")
        self._writers = ThreadPoolExecutor(self._limits.workers, "glocal-write")
        works = self._unread.copy()
        try:
            while works:
                work = works.popleft()
                while work.outcome is None:
                    self._advance()
                yield work.outcome
        finally:
            with self._lock:
                self._unread.clear()
            self._readers.shutdown(wait=False, cancel_futures=True)
            self._writers.shutdown(cancel_futures=True)
            self._readers.shutdown()

    def _advance(self) -> None:
        """Compute a batch, or wait for a read or a write to finish."""
        self._writing = [work for work in self._writing if work.outcome is None]
        with self._lock:
            batch = self._next_batch()
            reads = [work.future for work in self._reading][:1]
        if batch and self._is_room_after(self._writing):
            self._compute(batch)
            return
        writes = [work.future for work in self._writing]
        began = time.perf_counter()
        finished, _ = wait(writes if batch else writes + reads, return_when=FIRST_COMPLETED)
        waited_s = time.perf_counter() - began
        for future in finished:
            future.result()  # raises errors of this module, which are no item's outcome
        if batch or not reads:
            self._usage.output_s += waited_s
        else:
            self._usage.input_s += waited_s

    def _start_reads(self) -> None:
        """Start as many reads as the limits allow. The caller holds the lock."""
        while self._unread and self._is_room_after([*self._loaded, *self._reading]):
            work = self._unread.popleft()
            work.future = self._readers.submit(self._read, work)
            self._reading.append(work)

    def _is_room_after(self, works: list[_Work]) -> bool:
        """True if one more item may follow. An item being read counts as the largest so far."""
        assumed = self._largest or self._limits.nbytes
        nbytes = sum(assumed if work.nbytes is None else work.nbytes for work in works)
        return len(works) < self._limits.count and nbytes < self._limits.nbytes

    def _read(self, work: _Work) -> None:
        work.read(self._stages)
        with self._lock:
            self._largest = max(self._largest, work.nbytes or 0)
            self._start_reads()

    def _next_batch(self) -> list[_Work]:
        """The oldest loaded item with others of its group; empty while more of them may come.

        Takes finished reads in order, and no more than the batch needs: it depends on the items
        only, however long each read takes. The caller holds the lock.
        """
        while True:
            self._start_reads()
            batch, most = [], 1
            if self._loaded:
                key, most = self._stages.group(self._loaded[0].loaded)
                batch = [w for w in self._loaded if self._stages.group(w.loaded)[0] == key]
            if len(batch) >= most or not self._reading or not self._is_room_after(self._loaded):
                return batch[: max(1, most)]
            if not self._reading[0].future.done():
                return []
            work = self._reading.popleft()
            work.future.result()  # as in `_advance`
            if work.outcome is None:
                self._loaded.append(work)

    def _compute(self, batch: list[_Work]) -> None:
        with self._lock:
            self._loaded = [work for work in self._loaded if work not in batch]
            self._start_reads()
        _compute(self._stages, batch, self._usage)
        for work in batch:
            if work.outcome is None:
                work.nbytes = (work.nbytes or 0) + self._stages.nbytes(work.computed)
                work.future = self._writers.submit(work.write, self._stages)
                self._writing.append(work)
