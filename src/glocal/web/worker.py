"""A worker: a process of its own that does the jobs of a queue on one device.

``python -m glocal.web.worker FOLDER DEVICE [MEMORY]``. The server starts it, watches it, and kills
it if it uses too much. It ends when its standard input closes, that is, when the server ends.
"""

import os
import sys
import threading
import time
from pathlib import Path

from glocal.errors import GlocalError
from glocal.web.queue import Job, Queue
from glocal.web.storage import Storage

__all__ = ["reason", "work"]

_IDLE_S = 0.1
"""Seconds between two looks at an empty queue."""

_REPORT_S = 0.2
"""Least seconds between two reports of progress."""


class _Cancelled(BaseException):  # no error; a BaseException, which nothing handles
    """The job that runs was cancelled."""


def work(folder: Path, device: str, memory: int | None) -> None:
    """Do the jobs of a server's folder, one after the other, without end."""
    from glocal.inference.allocator import keep_freed_memory
    from glocal.web.tasks import Context, do

    keep_freed_memory()
    storage = Storage(folder)
    queue, context = Queue(storage.queue), Context(storage, device, memory)
    while True:
        job = queue.claim(os.getpid())
        if job is None:
            time.sleep(_IDLE_S)
            continue
        try:
            queue.finish(job.id, do(job, context, _Teller(queue, job)))
        except _Cancelled:
            pass
        except Exception as error:
            queue.fail(job.id, reason(error, storage, job))
        queue.leave(job.id)


class _Teller:
    """Reports progress to the queue now and then; raises if the job was cancelled."""

    def __init__(self, queue: Queue, job: Job) -> None:
        self._queue, self._job = queue, job
        self._stage, self._told = "", 0.0

    def __call__(self, stage: str, share: float, left_s: float | None) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._told < _REPORT_S:
            return
        self._stage, self._told = stage, now
        if not self._queue.report(self._job.id, stage, share, left_s):
            raise _Cancelled


def reason(error: Exception, storage: Storage, job: Job) -> str:
    """Return why a job failed, in words for its client: without paths of the server."""
    from glocal.scanning.user_code import failure, full_traceback
    from glocal.shortages import is_out_of_memory

    if isinstance(error, GlocalError):
        text = str(error)
        if job.photo is not None:
            text = text.replace(str(storage.photo(job.photo)), job.request["photo"]["name"])
        return text.replace(f"{storage.job(job.id)}{os.sep}", "")
    print(full_traceback(error), file=sys.stderr, flush=True)
    if is_out_of_memory(error):
        return "the memory of the server is too small for this photograph and network"
    return f"unexpected {failure(error)}; the server's log has the calls"


def _end_with_server() -> None:
    """End the process when the server closes the pipe, or is killed."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_server, daemon=True).start()
    folder, device, *rest = sys.argv[1:]
    work(Path(folder), device, int(rest[0]) if rest else None)
