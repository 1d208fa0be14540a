import threading
from pathlib import Path

import pytest

from glocal.web.errors import TooManyError
from glocal.web.limits import Limits
from glocal.web.queue import Job, Queue


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "jobs.sqlite")


def add(queue: Queue, client: str = "a", limits: Limits | None = None) -> Job:
    return queue.add("restore", "p", {"options": {}}, client, limits or Limits())


def test_jobs_are_taken_in_order_and_once(queue: Queue) -> None:
    jobs = [add(queue) for _ in range(20)]
    assert queue.ahead(jobs[3]) == 3
    taken: list[Job] = []

    def take() -> None:
        while (job := queue.claim(1)) is not None:
            taken.append(job)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.number for job in taken) == [job.number for job in jobs]


def test_a_job_goes_through_its_states(queue: Queue) -> None:
    job = add(queue)
    assert not queue.report(job.id, "Restoring", 0.5, 3.0)
    assert queue.claim(7) is not None
    assert queue.report(job.id, "Restoring", 0.5, 3.0)
    now = queue.get(job.id)
    assert now is not None
    assert (now.state, now.pid, now.stage, now.share, now.left_s) == (
        "running", 7, "Restoring", 0.5, 3.0,
    )  # fmt: skip
    assert not queue.remove(job.id)
    assert queue.finish(job.id, {"bits": 16})
    assert not queue.fail(job.id, "too late")
    done = queue.get(job.id)
    assert done is not None
    assert (done.state, done.outcome, done.is_finished) == ("done", {"bits": 16}, True)
    assert queue.remove(job.id)
    assert queue.get(job.id) is None


def test_a_cancelled_job_is_left_and_removed(queue: Queue) -> None:
    job = add(queue)
    assert not queue.cancel(job.id)  # it waits: it is removed at once
    queue.claim(7)
    assert queue.cancel(job.id)
    assert not queue.report(job.id, "Restoring", 0.5, None)
    assert not queue.finish(job.id, {})
    assert queue.of_photo("p") == []
    queue.leave(job.id)
    assert [each.pid for each in queue.with_state("cancelled")] == [None]
    assert queue.remove(job.id)


def test_running_jobs_wait_again_after_a_restart(tmp_path: Path, queue: Queue) -> None:
    first, second, third = (add(queue) for _ in range(3))
    queue.claim(1)
    queue.claim(2)
    queue.cancel(second.id)
    again = Queue(tmp_path / "jobs.sqlite")
    assert [job.id for job in again.requeue()] == [second.id]
    claimed = [again.claim(3), again.claim(3)]
    assert [job.id for job in claimed if job] == [first.id, third.id]


def test_the_queue_and_each_client_have_limits(queue: Queue) -> None:
    add(queue, "a")
    with pytest.raises(TooManyError, match="1 jobs of yours wait already"):
        add(queue, "a", Limits(jobs_per_client=1))
    add(queue, "b", Limits(jobs_per_client=1))
    with pytest.raises(TooManyError, match="2 jobs wait already"):
        add(queue, "c", Limits(queue=2))


def test_old_jobs_are_found(queue: Queue) -> None:
    job = add(queue)
    queue.claim(1)
    queue.fail(job.id, "why")
    failed = queue.get(job.id)
    assert failed is not None
    assert failed.finished is not None
    assert queue.finished_before(failed.finished) == []
    assert [each.id for each in queue.finished_before(failed.finished + 1)] == [job.id]
