"""One writer for each file: locks that other processes respect, and what dead writers left.

Locks are advisory, one for each result, so that processes may share a folder of results. They lie
in the user's cache folder: nothing is left beside the results.
"""

import json
import os
import socket
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from glocal.errors import GlocalError, GlocalWarning
from glocal.images.files import cache_folder, make_private_folder, shortened
from glocal.json_files import JsonError, read_json

__all__ = ["BusyError", "Locks"]

OLD_S = 7 * 24 * 3600
"""Locks that nobody took for so many seconds are deleted."""


class BusyError(GlocalError):
    """Another process writes the file."""


class Locks:
    """The files that this run writes; its methods may be called in any thread.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.png"
    >>> with Locks() as mine, Locks() as others:
    ...     mine.acquire(target)
    ...     others.acquire(target)
    Traceback (most recent call last):
    glocal.runs.locks.BusyError: ...a.png: process ... is writing it; ...
    """

    def __init__(self, wait_s: float = 0.0) -> None:
        """Hold nothing yet; wait so many seconds for a lock that another process has."""
        self._wait_s = wait_s
        self._held: dict[Path, tuple[FileLock, Path]] = {}
        self._guard = threading.Lock()
        self._folder = _lock_folder()

    def acquire(self, target: Path) -> None:
        """Take the lock of a file, and delete temporary files that dead processes left of it.

        Raises:
            BusyError: another process has it; the message says which.
        """
        if self._folder is None:
            return
        path = target.parent.resolve() / target.name
        key = sha256(os.fsencode(path)).hexdigest()[:40]
        lock = FileLock(self._folder / f"{key}.lock", timeout=self._wait_s, thread_local=False)
        holder = self._folder / f"{key}.json"
        try:
            lock.acquire()
        except OSError as problem:  # a Timeout is one
            if not isinstance(problem, Timeout):
                raise GlocalError(f"{target}: cannot be locked ({problem.strerror})") from None
            raise BusyError(
                f"{target}: {_holder_text(holder)} is writing it; wait for it to end, or choose "
                "another output"
            ) from None
        about = {"pid": os.getpid(), "host": socket.gethostname()}
        with suppress(OSError):  # it is only for the message
            holder.write_text(json.dumps(about))
        with self._guard:
            self._held[path] = lock, holder
        _remove_leftovers(path)

    def release(self, target: Path) -> None:
        """Give the lock of a file back, if this run has it."""
        path = target.parent.resolve() / target.name
        with self._guard:
            held = self._held.pop(path, None)
        if held is not None:
            lock, holder = held
            holder.unlink(missing_ok=True)
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give all locks back."""
        for path in list(self._held):
            self.release(path)


def _lock_folder() -> Path | None:
    """The folder of locks, without old ones; None if there can be none, which is said."""
    folder = cache_folder("locks")
    try:
        make_private_folder(folder, GlocalError)
    except GlocalError as error:
        warnings.warn(
            f"other processes are not kept from writing the same files ({error})",
            GlocalWarning,
            stacklevel=3,
        )
        return None
    for path in folder.glob("*.lock"):
        with suppress(OSError, Timeout):
            if time.time() - path.stat().st_mtime > OLD_S:
                with FileLock(path, timeout=0, thread_local=False):
                    path.unlink()
    return folder


@dataclass(frozen=True)
class _Holder:
    """The process that holds a lock."""

    pid: int
    host: str


def _holder_text(holder: Path) -> str:
    try:
        about = read_json(holder, _Holder, ignore_others=True)
        return f"process {about.pid} on {about.host[:60]}"
    except (OSError, JsonError):
        return "another process"


def _remove_leftovers(path: Path) -> None:
    """Delete temporary files of `write_whole` for this file: its writers are dead."""
    name = escape(shortened(path.name, 100))
    for each in path.parent.glob(f".{name}.{'[0-9a-f]' * 8}.part"):
        if each.is_file() and not each.is_symlink():
            with suppress(OSError):
                each.unlink()
