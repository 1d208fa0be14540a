"""The queue of jobs: a SQLite file, so that a restart of the server loses nothing.

A job is queued, then running, then done or failed. One that is deleted while it runs is cancelled
until its worker has left it. Any process may open the file; every change is one transaction.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glocal.web.errors import TooManyError
from glocal.web.limits import Limits

__all__ = ["FINISHED", "Job", "Kind", "Queue", "State"]

Kind: TypeAlias = Literal["restore", "plan", "shift"]

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]

FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE NOT NULL,
    client TEXT NOT NULL,
    kind TEXT NOT NULL,
    photo TEXT,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    pid INTEGER,
    stage TEXT NOT NULL DEFAULT '',
    share REAL NOT NULL DEFAULT 0,
    left_s REAL,
    error TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS states ON jobs (state, number);
CREATE INDEX IF NOT EXISTS photos ON jobs (photo);
"""

_BUSY_S = 30.0
"""Seconds to wait for another process that writes."""


@dataclass(frozen=True)
class Job:
    """A job as the queue knows it.

    Attributes:
        number: its place in the order of arrival.
        id: random, so that nobody guesses it.
        client: network address of who sent it.
        kind: of work.
        photo: SHA-256 of the photograph; None without one.
        request: the options, as JSON values.
        state: see `State`.
        created, started, finished: seconds since the epoch.
        pid: of the worker that has, or had it.
        stage: what is being done, in words.
        share: of the work that is done, 0 to 1.
        left_s: seconds left, about; None if unknown.
        error: why it failed; empty otherwise.
        outcome: what came out, as JSON values.
    """

    number: int
    id: str
    client: str
    kind: Kind
    photo: str | None
    request: dict[str, Any]
    state: State
    created: float
    started: float | None = None
    finished: float | None = None
    pid: int | None = None
    stage: str = ""
    share: float = 0.0
    left_s: float | None = None
    error: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """True if nothing about it changes any more."""
        return self.state in FINISHED


class Queue:
    """The jobs in a file; its methods may be called in any thread and process.

    >>> import tempfile
    >>> queue = Queue(Path(tempfile.mkdtemp()) / "jobs.sqlite")
    >>> job = queue.add("plan", None, {"model": "a"}, "127.0.0.1", Limits())
    >>> taken = queue.claim(pid=1)
    >>> taken.id == job.id, taken.state, queue.claim(pid=2)
    (True, 'running', None)
    """

    def __init__(self, path: Path) -> None:
        """Open a file, which is created if missing."""
        self._path = path
        with closing(self._connection()) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)

    def add(
        self,
        kind: Kind,
        photo: str | None,
        request: Mapping[str, Any],
        client: str,
        limits: Limits,
    ) -> Job:
        """Append a job.

        Raises:
            TooManyError: the queue is full, or the client has too many jobs in it.
        """
        with self._transaction() as connection:
            waiting = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"
            (count,) = connection.execute(waiting).fetchone()
            if count >= limits.queue:
                raise TooManyError(
                    f"{count} jobs wait already, which is the limit; try again later"
                )
            (own,) = connection.execute(f"{waiting} AND client = ?", (client,)).fetchone()
            if own >= limits.jobs_per_client:
                raise TooManyError(
                    f"{own} jobs of yours wait already, which is the limit; wait for one to end"
                )
            row = connection.execute(
                "INSERT INTO jobs (id, client, kind, photo, request, state, created) "
                "VALUES (?, ?, ?, ?, ?, 'queued', ?) RETURNING *",
                (secrets.token_hex(16), client, kind, photo, json.dumps(request), time.time()),
            ).fetchone()
            return _job(row)

    def get(self, id: str) -> Job | None:
        """Return a job, or None."""
        return next(iter(self._jobs("id = ?", id)), None)

    def of_photo(self, photo: str) -> list[Job]:
        """Return the jobs of a photograph, oldest first, without cancelled ones."""
        return self._jobs("photo = ? AND state != 'cancelled'", photo)

    def ahead(self, job: Job) -> int:
        """Return how many unfinished jobs come before one that waits."""
        return len(self._jobs("state IN ('queued', 'running') AND number < ?", job.number))

    def with_state(self, *states: State) -> list[Job]:
        """Return the jobs in any of these states, oldest first."""
        marks = ", ".join("?" for _ in states)
        return self._jobs(f"state IN ({marks})", *states)

    def finished_before(self, time_s: float) -> list[Job]:
        """Return the done and failed jobs that finished before a time."""
        return self._jobs("state IN ('done', 'failed') AND finished < ?", time_s)

    def claim(self, pid: int) -> Job | None:
        """Take the oldest job that waits; None if there is none."""
        if not self._jobs("state = 'queued'"):  # reading needs no lock
            return None
        with self._transaction() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'running', pid = ?, started = ? WHERE number = ("
                "SELECT min(number) FROM jobs WHERE state = 'queued') RETURNING *",
                (pid, time.time()),
            ).fetchone()
            return None if row is None else _job(row)

    def report(self, id: str, stage: str, share: float, left_s: float | None) -> bool:
        """Note how far a running job is; False if it is to be left."""
        return self._changed(
            "UPDATE jobs SET stage = ?, share = ?, left_s = ? WHERE id = ? AND state = 'running'",
            (stage, share, left_s, id),
        )

    def finish(self, id: str, outcome: Mapping[str, Any]) -> bool:
        """Mark a running job as done; False if it was cancelled meanwhile."""
        return self._changed(
            "UPDATE jobs SET state = 'done', finished = ?, stage = '', share = 1, left_s = 0, "
            "outcome = ? WHERE id = ? AND state = 'running'",
            (time.time(), json.dumps(outcome), id),
        )

    def fail(self, id: str, error: str) -> bool:
        """Mark a running job as failed; False if it was cancelled meanwhile."""
        return self._changed(
            "UPDATE jobs SET state = 'failed', finished = ?, left_s = NULL, error = ? "
            "WHERE id = ? AND state = 'running'",
            (time.time(), error, id),
        )

    def cancel(self, id: str) -> bool:
        """Mark a running job as cancelled, so that its worker leaves it; False if none runs."""
        return self._changed(
            "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state = 'running'",
            (time.time(), id),
        )

    def leave(self, id: str) -> None:
        """Note that a worker has left a cancelled job, which nothing holds any more."""
        self._changed("UPDATE jobs SET pid = NULL WHERE id = ? AND state = 'cancelled'", (id,))

    def remove(self, id: str) -> bool:
        """Forget a job that does not run; False if it runs, or is unknown."""
        return self._changed("DELETE FROM jobs WHERE id = ? AND state != 'running'", (id,))

    def requeue(self) -> list[Job]:
        """Let jobs of workers that are gone wait again; return the cancelled ones among them."""
        self._changed(
            "UPDATE jobs SET state = 'queued', pid = NULL, started = NULL, stage = '', share = 0, "
            "left_s = NULL WHERE state = 'running'",
            (),
        )
        return self.with_state("cancelled")

    def _changed(self, statement: str, values: tuple[Any, ...]) -> bool:
        with self._transaction() as connection:
            return connection.execute(statement, values).rowcount > 0

    def _jobs(self, where: str, *values: Any) -> list[Job]:
        with closing(self._connection()) as connection:
            rows = connection.execute(f"SELECT * FROM jobs WHERE {where} ORDER BY number", values)
            return [_job(row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connection()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  # a Row iterates over values
    values["request"], values["outcome"] = json.loads(row["request"]), json.loads(row["outcome"])
    return Job(**values)
