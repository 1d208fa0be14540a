"""Keeps one worker for each device: starts it, watches it, and replaces it."""

import contextlib
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glocal.texts import duration_text, memory_text
from glocal.web.queue import Job
from glocal.web.service import Service

__all__ = ["Supervisor", "resident_bytes"]

_LOOK_S = 0.2
"""Seconds between two looks at the workers."""

_GRACE_S = 2.0
"""Seconds that a worker has to leave a cancelled job by itself."""

_PAUSE_S = 1.0
"""Seconds before a worker is replaced that ended without a job."""

_CLEAN_S = 60.0
"""Seconds between two looks for old jobs."""


@dataclass
class _Worker:
    device: str
    process: "subprocess.Popen[bytes] | None" = None
    restarts: int = -1
    not_before: float = 0.0

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid


def resident_bytes(pid: int) -> int | None:
    """Bytes of memory of a process, those of mapped files included; None where unknown."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Supervisor:
    """The workers of a server; a context manager."""

    def __init__(self, service: Service, devices: Sequence[str]) -> None:
        self._service = service
        self._workers = [_Worker(device) for device in devices]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self._cleaned = -_CLEAN_S

    def __enter__(self) -> "Supervisor":
        """Let unfinished jobs wait again, and start the workers."""
        for job in self._service.queue.requeue():
            self._service.clean(job)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Kill the workers; their jobs wait for the next server."""
        self._ended.set()
        self._thread.join()
        for worker in self._workers:
            self._kill(worker)
        self._service.queue.requeue()

    def workers(self) -> list[tuple[str, int | None, int]]:
        """Device, process and number of restarts of each worker."""
        return [(each.device, each.pid, max(0, each.restarts)) for each in self._workers]

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                for worker in self._workers:
                    self._look_at(worker)
                self._clean()
            except Exception:  # a full disk, say, must not end the watch
                traceback.print_exc()
            self._ended.wait(_LOOK_S)

    def _clean(self) -> None:
        """Forget cancelled jobs that their workers have left, and old ones."""
        queue = self._service.queue
        left = [job for job in queue.with_state("cancelled") if job.pid is None]
        if time.monotonic() - self._cleaned > _CLEAN_S:
            self._cleaned = time.monotonic()
            left += queue.finished_before(time.time() - self._service.limits.keep_s)
        for job in left:
            self._service.clean(job)

    def _look_at(self, worker: _Worker) -> None:
        """Start a worker that is missing, or end one that must not go on."""
        if worker.process is None:
            if time.monotonic() >= worker.not_before:
                self._start(worker)
            return
        code, job = worker.process.poll(), self._job_of(worker)
        if code is not None:
            reason = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
            self._replace(worker, job, f"the worker process died ({reason}); the queue goes on")
        elif job is not None and (reason := self._excess(worker, job)):
            self._replace(worker, job, reason)

    def _job_of(self, worker: _Worker) -> Job | None:
        jobs = self._service.queue.with_state("running", "cancelled")
        return next((job for job in jobs if job.pid == worker.pid), None)

    def _excess(self, worker: _Worker, job: Job) -> str:
        """Why a worker must not go on with its job; empty if it may."""
        limits, now = self._service.limits, time.time()
        if job.state == "cancelled":
            return "cancelled" if now - (job.finished or now) > _GRACE_S else ""
        if now - (job.started or now) > limits.seconds:
            return (
                f"took longer than {duration_text(limits.seconds)}, which is the limit; try a "
                "smaller photograph"
            )
        assert worker.pid is not None
        used = resident_bytes(worker.pid) if limits.memory else None
        if limits.memory and used and used > limits.memory:
            return (
                f"needed more memory than {memory_text(limits.memory)}, which is the limit; try a "
                "smaller photograph, or crop-and-stitch"
            )
        return ""

    def _start(self, worker: _Worker) -> None:
        memory = self._service.limits.memory
        arguments = [str(self._service.storage.folder), worker.device]
        arguments += [str(memory)] if memory else []
        worker.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "glocal.web.worker", *arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server, which closes the pipe
        )
        worker.restarts += 1

    def _replace(self, worker: _Worker, job: Job | None, reason: str) -> None:
        self._kill(worker)
        if job is None:
            worker.not_before = time.monotonic() + _PAUSE_S
        elif job.state == "cancelled" or not self._service.queue.fail(job.id, reason):
            self._service.clean(job)
        else:
            self._service.storage.forget_job(job.id)

    def _kill(self, worker: _Worker) -> None:
        if worker.process is not None:
            worker.process.kill()
            worker.process.wait()
            if worker.process.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.process.stdin.close()
            worker.process = None
