"""Run items through three overlapping stages: read ahead, compute, write behind.

The pipeline knows neither files nor networks. One pool of threads reads and another writes while
the calling thread computes; stages overlap where reading and writing release the GIL.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from glocal.runs.stages import Computed, Item, Limits, Loaded, Outcome, Result, Skip, Stages, Usage

__all__ = ["run"]

_Stages: TypeAlias = Stages[Any, Any, Any, Any]
_Outcome: TypeAlias = Outcome[Any, Any]


def run(
    items: Iterable[Item],
    stages: Stages[Item, Loaded, Computed, Result],
    limits: Limits | None = None,
    usage: Usage | None = None,
) -> Generator[Outcome[Item, Result], None, None]:
    """Run items through the stages; an error ends its item only, unless it is fatal.

    Batches depend on the items and limits only, not on timing, so runs are reproducible.

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
    usage = usage or Usage()
    began = time.perf_counter()
    with closing(_Run(items, stages, limits or Limits(), usage).outcomes()) as outcomes:
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


class _InTurn(Executor):
    """Runs a call when it is submitted: the executor of a run without threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Run:
    """One run; the calling thread owns its state, threads fill in their `_Work`."""

    def __init__(self, items: Iterable[Any], stages: _Stages, limits: Limits, usage: Usage) -> None:
        self._stages, self._limits, self._usage = stages, limits, usage
        self._unread = deque(map(_Work, items))
        self._pending = deque[_Work]()  # outcomes not yielded yet, in order
        self._reading = deque[_Work]()  # in order, some of them finished
        self._loaded: list[_Work] = []  # in order, waiting for a batch
        self._writing: list[_Work] = []
        self._largest = 0  # bytes of a loaded item so far

    def outcomes(self) -> Generator[_Outcome, None, None]:
        """The outcomes in order. The threads live as long as this generator."""
        with ExitStack() as pools:
            self._readers, self._writers = (
                pools.enter_context(_executor(self._limits, f"glocal-{what}"))
                for what in ("read", "write")
            )
            self._start_reads()
            while self._reading or self._loaded:
                batch = self._next_batch()
                if self._limits.count:  # the next reads overlap with the computation
                    self._start_reads()
                while batch and not self._has_room(self._writing):
                    with self._spent("output_s"):
                        self._writing.pop(0).future.result()
                if batch:
                    self._compute(batch)
                yield from self._finished()
                self._start_reads()
            yield from self._finished(wait=True)

    def _start_reads(self) -> None:
        """Start as many reads as the limits allow."""
        while self._unread and self._has_room([*self._loaded, *self._reading]):
            work = self._unread.popleft()
            with self._spent("input_s"):
                work.future = self._readers.submit(work.read, self._stages)
            self._reading.append(work)
            self._pending.append(work)

    def _has_room(self, works: list[_Work]) -> bool:
        """True if one more item may follow; a read counts as the largest item so far."""
        assumed = self._largest or self._limits.nbytes
        nbytes = sum(assumed if work.nbytes is None else work.nbytes for work in works)
        return len(works) < max(1, self._limits.count) and nbytes < self._limits.nbytes

    def _next_batch(self) -> list[_Work]:
        """Return the oldest loaded items of one group; none after a skipped item.

        Waits for reads in order, and for no more than the batch needs or the limits allow: it
        depends on the items only, however long each read takes.
        """
        while True:
            batch, most = [], 1
            if self._loaded:
                key, most = self._stages.group(self._loaded[0].loaded)
                batch = [w for w in self._loaded if self._stages.group(w.loaded)[0] == key]
            if len(batch) >= most or not self._reading or not self._has_room(self._loaded):
                batch = batch[: max(1, most)]
                self._loaded = [work for work in self._loaded if work not in batch]
                return batch
            work = self._reading.popleft()
            with self._spent("input_s"):
                work.future.result()  # raises errors of this module; those of items are outcomes
            self._largest = max(self._largest, work.nbytes or 0)
            if work.outcome is None:
                self._loaded.append(work)
            elif not self._loaded:
                return []
            self._start_reads()

    def _compute(self, batch: list[_Work]) -> None:
        _compute(self._stages, batch, self._usage)
        for work in batch:
            if work.outcome is None:
                work.nbytes = (work.nbytes or 0) + self._stages.nbytes(work.computed)
                with self._spent("output_s"):
                    work.future = self._writers.submit(work.write, self._stages)
                self._writing.append(work)
        self._writing = [work for work in self._writing if work.outcome is None]

    def _finished(self, wait: bool = False) -> Iterator[_Outcome]:
        """Yield the outcomes that come next in order and are known."""
        while self._pending and (wait or self._pending[0].outcome is not None):
            work = self._pending.popleft()
            with self._spent("output_s"):
                work.future.result()
            assert work.outcome is not None
            yield work.outcome

    @contextmanager
    def _spent(self, what: str) -> Iterator[None]:
        """Add the time in the `with` to a figure of the usage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent_s = time.perf_counter() - began
            setattr(self._usage, what, getattr(self._usage, what) + spent_s)


@contextmanager
def _executor(limits: Limits, name: str) -> Iterator[Executor]:
    """Yield a pool of threads whose queued calls are dropped in the end.

    Without threads, calls run when they are submitted.
    """
    pool = ThreadPoolExecutor(limits.workers, name) if limits.count else _InTurn()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(call: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None, float]:
    """Return the value of a call, its error, and its duration in seconds."""
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
