"""A process that does a part of the work of a run for another process."""

import os
import pickle
import secrets
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Generic, Self, TextIO, TypeVar

import torch

from glocal.errors import GlocalError, GlocalWarning
from glocal.runs.executors.work import Opened, Work, done_here
from glocal.runs.stages import Item, Result
from glocal.texts import one_line

__all__ = ["Done", "Place", "Worker", "loaded", "run_name", "units", "worker_name"]

UNITS_EACH = 4
"""Least units for each worker, so that the last ones end at about the same time."""

T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What a worker made of a unit.

    Attributes:
        results: of the items, by their numbers.
        warnings: that were given meanwhile.
        fatal: an error that concerns every item, or None.
    """

    results: list[tuple[int, Result]]
    warnings: tuple[str, ...] = ()
    fatal: Exception | None = None


@dataclass(frozen=True)
class Place:
    """Where the process of the command finds files and modules.

    Attributes:
        folder: its working folder, to which relative paths refer.
        modules: folders of modules.
    """

    folder: str
    modules: tuple[str, ...]

    @classmethod
    def here(cls) -> Self:
        """Return the place of this process."""
        return cls(os.getcwd(), tuple(sys.path))

    def take(self) -> None:
        """Let this process find what the other one finds, as far as its machine has it."""
        with suppress(OSError):
            os.chdir(self.folder)
        # a network that is named package.module:factory may lie in the working folder
        sys.path += [each for each in (*self.modules, self.folder) if each not in sys.path]


def loaded(pickled: bytes) -> Work[Any, Any]:
    """Return the work that another process sent.

    Raises:
        GlocalError: the code of its network cannot be imported.
    """
    try:
        work: Work[Any, Any] = pickle.loads(pickled)
    except (ImportError, AttributeError) as error:
        raise GlocalError(
            f"the code of the network cannot be imported on {socket.gethostname()} "
            f"({one_line(error)}); install it on all machines"
        ) from None
    return work


class Worker(Generic[Item, Result]):
    """Does units of a work, which it opens once."""

    def __init__(self, work: Work[Item, Result], threads: int) -> None:
        """Open the work; an error is kept for the first unit.

        Args:
            work: for this worker.
            threads: of torch. As many as where the whole run is done in one process: their number
                changes the rounding of sums.
        """
        torch.set_num_threads(threads)
        self._work, self._stack = work, ExitStack()
        self._warnings: list[str] = []
        self._opened: Opened[Item] | None = None
        self._fatal: Exception | None = None
        warnings.simplefilter("always", GlocalWarning)
        warnings.showwarning = self._note
        try:
            self._opened = self._stack.enter_context(work.opened())
        except Exception as error:
            self._fatal = error

    def do(self, unit: Sequence[tuple[int, Item]]) -> Done[Result]:
        """Do numbered items."""
        results: list[tuple[int, Result]] = []
        if self._opened is not None:
            try:
                found = done_here(self._work, self._opened, [item for _, item in unit])
                for (number, _), result in zip(unit, found, strict=True):
                    results.append((number, result))
            except Exception as error:
                self._fatal = error
        said, self._warnings = tuple(dict.fromkeys(self._warnings)), []
        return Done(results, said, self._fatal)

    def close(self) -> None:
        """Give back what the work holds."""
        self._stack.close()

    def _note(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, GlocalWarning):
            self._warnings.append(str(message))


def units(items: Sequence[T], workers: int, most: int) -> list[list[T]]:
    """Divide items into units of neighbours for workers.

    >>> [len(each) for each in units(range(100), 2, most=16)]
    [13, 13, 13, 13, 13, 13, 13, 9]
    """
    length = max(1, min(most, -(-len(items) // (UNITS_EACH * workers))))
    return [list(items[start : start + length]) for start in range(0, len(items), length)]


def run_name() -> str:
    """Return a name for a run, with which the names of its workers begin."""
    return f"run-{secrets.token_hex(4)}"


def worker_name(run: str) -> str:
    """Return a name for a worker of a run."""
    return f"{run}-{secrets.token_hex(4)}"
