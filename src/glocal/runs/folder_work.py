"""The work of a folder run: one image file after the other through a network."""

import dataclasses
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from torch import nn

from glocal.conversion.identity import network_sha256
from glocal.errors import ArgumentError, GlocalError
from glocal.images.metadata import Strip
from glocal.inference.allocator import kept_memory
from glocal.runs.batches import Batches
from glocal.runs.executors.work import Opened, Work
from glocal.runs.file_stages import file_stages
from glocal.runs.jobs import FileResult, Job
from glocal.runs.locks import Locks
from glocal.runs.records import Records, how_made
from glocal.runs.stages import Limits, Outcome
from glocal.scanning.user_code import failure, full_traceback

__all__ = ["FolderWork"]

WORKERS_WAIT_S = 60.0
"""Seconds that a worker waits for a file which another one writes: that may be of a worker whose
node is lost, and which ends soon."""


@dataclass(frozen=True)
class FolderWork(Work[Job, FileResult]):
    """Restores files into one folder; arguments are those of `glocal.runs.folder.restore_jobs`.

    Attributes:
        writer: name of the process in the names of records, see `Records`; empty for one that
            does the whole run.
        wait_s: seconds to wait for a file that another process writes, before it is skipped.
        network_sha256: that the network must have, where it was sent from another process.
    """

    model: nn.Module
    destination: Path
    resume: bool = True
    overwrite: bool = False
    quality: int = 95
    batch: int | Literal["auto"] = "auto"
    ahead: int | None = None
    strip: Strip | None = None
    accept_damaged: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    writer: str = ""
    wait_s: float = 0.0
    network_sha256: str | None = None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ArgumentError: one is invalid.
        """
        if self.ahead is not None and self.ahead < 0:
            raise ArgumentError(f"ahead must be 0 or more images, got {self.ahead}")
        self._batches()

    def _batches(self) -> Batches:
        return Batches(self.model, self.batch, self.options)

    def made(self) -> dict[str, Any]:
        """Return what the results depend on beside the photographs."""
        return how_made(self.model, {**self.options, "strip": self.strip}, self.quality)

    def records(self) -> Records:
        """Return the records of the folder."""
        inputs = self.options.get("inputs")
        return Records(
            self.destination,
            self.made(),
            inputs,
            accept_damaged=self.accept_damaged,
            writer=self.writer,
        )

    @contextmanager
    def opened(self, records: Records | None = None) -> Iterator[Opened[Job]]:
        """Yield the stages with records, by default those of the folder, and locks.

        Raises:
            GlocalError: the code of the network differs from that of the process that sent it.
        """
        if self.network_sha256 not in (None, network_sha256(self.model)):
            raise GlocalError(
                f"the code of the network on {socket.gethostname()} differs from that on the "
                "machine of the command; install the same packages on all of them"
            )
        batches = self._batches()
        limits = Limits(
            count=max(4, 2 * batches.images) if self.ahead is None else self.ahead,
            workers=min(4, os.cpu_count() or 1),
        )
        # freed memory is kept from one image to the next: returning it takes milliseconds each time
        with Locks(self.wait_s) as locks, kept_memory():
            stages = file_stages(
                batches, self.quality, records or self.records(), locks, resume=self.resume,
                overwrite=self.overwrite, strip=self.strip, accept_damaged=self.accept_damaged,
            )  # fmt: skip
            yield Opened(stages, limits, lambda job: locks.release(job.destination))

    def result(self, outcome: Outcome[Job, FileResult]) -> FileResult:
        """Return the result of a file with its time, or its failure."""
        if outcome.result is None:
            error = outcome.error or RuntimeError()
            return FileResult(
                *outcome.item,
                "failed",
                elapsed_s=outcome.elapsed_s,
                error=failure(error),
                trace=full_traceback(error),
            )
        if outcome.result.status in ("skipped", "left"):
            return outcome.result
        return dataclasses.replace(outcome.result, elapsed_s=outcome.elapsed_s)

    def is_failed(self, result: FileResult) -> bool:
        """True if the file was not restored."""
        return result.status == "failed"

    def for_worker(self, name: str, device: str | None) -> Self:
        """Return the work of one process, which waits for files of others and has own records.

        It runs images one by one unless the user chose a batch: what a batch holds, and with it the
        rounding, would depend on the number of processes.
        """
        options = self.options if device is None else {**self.options, "device": device}
        return dataclasses.replace(
            self, options=options, batch=1 if self.batch == "auto" else self.batch,
            writer=self.writer_of(name), wait_s=WORKERS_WAIT_S,
            network_sha256=self.network_sha256 or network_sha256(self.model),
        )  # fmt: skip

    def gather(self, names: str) -> None:
        """Bring the records of workers into that of the run."""
        if names:
            self.records().gather(self.writer_of(names))

    def writer_of(self, worker: str) -> str:
        """Return the name of a worker in the names of records."""
        return f"{self.writer}.{worker}" if self.writer else worker
