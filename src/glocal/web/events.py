"""Server-sent events: how far a job is, whenever that changes."""

import asyncio
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from glocal.web.queue import Queue
from glocal.web.schemas import Progress
from glocal.web.views import progress

__all__ = ["events"]

_LOOK_S = 0.2
"""Seconds between two looks at the job."""

_ALIVE_S = 15.0
"""Seconds after which a silent connection gets a comment, so that proxies keep it."""

_CANCELLED = Progress(state="cancelled", stage="", share=0.0, left_s=None, ahead=0, error="")


async def events(queue: Queue, id: str) -> AsyncIterator[str]:
    """Yield an event for each change of a job; the last one says how it ended."""
    said, silent_s = "", 0.0
    while True:
        now = await run_in_threadpool(_progress, queue, id)
        text = now.model_dump_json()
        if text != said:
            said, silent_s = text, 0.0
            yield f"event: progress\ndata: {text}\n\n"
        if now.state in ("done", "failed", "cancelled"):
            return
        await asyncio.sleep(_LOOK_S)
        silent_s += _LOOK_S
        if silent_s >= _ALIVE_S:
            silent_s = 0.0
            yield ": alive\n\n"


def _progress(queue: Queue, id: str) -> Progress:
    job = queue.get(id)
    return _CANCELLED if job is None or job.state == "cancelled" else progress(job, queue)
