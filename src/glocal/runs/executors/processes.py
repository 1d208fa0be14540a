"""The executor of several processes of this machine, one for each device.

Processes, not threads: Python runs one thread at a time, and the calls of a network on a GPU come
from Python. They are started afresh (spawn), since a GPU cannot be used in a forked process.
"""

import multiprocessing
import pickle
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

import torch

from glocal.errors import GlocalError, GlocalWarning
from glocal.runs.executors.work import Work
from glocal.runs.executors.worker import Done, Place, Worker, loaded, run_name, units, worker_name
from glocal.runs.stages import Item, Outcome, Result, Usage

__all__ = ["ProcessesExecutor"]

ENDING_S = 10.0
"""Seconds in which a process may complete what it writes, before it is ended."""


@dataclass(frozen=True)
class ProcessesExecutor:
    """Does the work in several processes.

    Attributes:
        devices: of torch; each has one process. One that is named twice has two.
    """

    devices: tuple[str, ...]

    def run(
        self, work: Work[Item, Result], items: Sequence[Item], usage: Usage | None = None
    ) -> Generator[Result, None, None]:
        """Do all items, see `Executor`; yields results as they come."""
        run = run_name()
        todo = deque(units(list(enumerate(items)), len(self.devices), work.unit))
        busy = dict[Connection, _Process]()

        def start(device: str) -> None:
            process = _Process.started(work.for_worker(worker_name(run), device), device)
            process.send(todo.popleft())
            busy[process.connection] = process

        try:
            for device in self.devices[: len(todo)]:
                start(device)
            while busy:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    process = busy[connection]
                    done: Done[Any] | None = process.received()
                    if done is None:  # it died; one item that ends it takes no other along
                        busy.pop(connection).end()
                        if len(process.unit) == 1:
                            lost = GlocalError(f"its process died (exit code {process.exit_code})")
                            yield work.result(Outcome(process.unit[0][1], error=lost))
                        else:
                            todo.extend([each] for each in process.unit)
                        if todo:
                            start(process.device)
                        continue
                    if todo and done.fatal is None:
                        process.send(todo.popleft())
                    else:
                        busy.pop(connection).end()
                    for text in done.warnings:
                        warnings.warn(text, GlocalWarning, stacklevel=2)
                    yield from (result for _, result in done.results)
                    if done.fatal is not None:
                        raise done.fatal
        finally:
            for process in busy.values():
                process.end()
        work.gather(run)


@dataclass
class _Process:
    """A process that does units.

    Attributes:
        device: where its networks run.
        process: of the system.
        connection: to it.
        unit: that it does.
    """

    device: str
    process: SpawnProcess
    connection: Connection
    unit: list[tuple[int, Any]] = field(default_factory=list)

    @classmethod
    def started(cls, work: Work[Any, Any], device: str) -> Self:
        """Start a process for a work."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_serve, args=(there, torch.get_num_threads(), Place.here()), daemon=True
        )
        process.start()
        there.close()
        found = cls(device, process, here)
        found._write(work)
        return found

    def send(self, unit: list[tuple[int, Any]]) -> None:
        """Give the process its next unit."""
        self.unit = unit
        self._write(unit)

    def received(self) -> Done[Any] | None:
        """Return what it made of its unit; None if it died."""
        try:
            return pickle.loads(self.connection.recv_bytes())  # type: ignore[no-any-return]
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        """Let the process complete what it writes, and end."""
        self.connection.close()
        self.process.join(ENDING_S)
        self.process.kill()
        self.process.join()

    @property
    def exit_code(self) -> int | None:
        """Of a process that has ended."""
        return self.process.exitcode

    def _write(self, values: object) -> None:
        with suppress(OSError):  # it died, which `received` tells
            self.connection.send_bytes(pickle.dumps(values))


def _serve(connection: Connection, threads: int, place: Place) -> None:
    """Do units until no more come."""
    with suppress(EOFError, OSError, KeyboardInterrupt):  # the command has ended, or Ctrl-C
        place.take()
        worker: Worker[Any, Any] = Worker(loaded(connection.recv_bytes()), threads)
        with closing(worker):
            while True:
                unit = pickle.loads(connection.recv_bytes())
                connection.send_bytes(pickle.dumps(worker.do(unit)))
