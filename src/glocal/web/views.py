"""Jobs and networks as answers show them."""

from typing import Any

from glocal.web.queue import Job, Queue
from glocal.web.schemas import JobOptions, JobView, PhotoView, Progress

__all__ = ["job_view", "progress"]


def job_view(job: Job, queue: Queue) -> JobView:
    """Return what a client sees of a job."""
    photo = job.request.get("photo")
    return JobView(
        id=job.id,
        kind=job.kind,
        photo=None if photo is None else PhotoView(**photo),
        options=JobOptions(**job.request["options"]),
        created=job.created,
        started=job.started,
        finished=job.finished,
        outcome=job.outcome,
        **_moving(job, queue),
    )


def progress(job: Job, queue: Queue) -> Progress:
    """Return what changes of a job while it waits and runs."""
    return Progress(**_moving(job, queue))


def _moving(job: Job, queue: Queue) -> dict[str, Any]:
    ahead = queue.ahead(job) if job.state == "queued" else 0
    left_s = None if job.left_s is None else round(job.left_s, 1)
    return {
        "state": job.state,
        "stage": job.stage,
        "share": round(job.share, 4),
        "left_s": left_s,
        "ahead": ahead,
        "error": job.error,
    }
