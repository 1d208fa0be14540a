"""What the routes share: taking photographs, adding and deleting jobs."""

import os
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from glocal.errors import ImageError
from glocal.images.kinds import KINDS, kind_of
from glocal.images.limits import FORMATS, READ_ONLY
from glocal.images.sample_files import read_header
from glocal.web.access import Access
from glocal.web.errors import NoSuchError, TooLargeError, UnreadableError
from glocal.web.limits import Limits
from glocal.web.queue import Job, Kind, Queue
from glocal.web.storage import Storage

__all__ = ["Photo", "Service", "result_suffix"]

_SUFFIXES = {form.kind: suffix for suffix, form in FORMATS.items()}
_READ_ONLY_SUFFIXES = {"netpbm": ".ppm", "raw": ".dng"}
_LONGEST_NAME = 120


def result_suffix(kind: str, wanted: str | None) -> str:
    """Return the suffix of the result of a photograph of this kind.

    >>> result_suffix("jpeg", None), result_suffix("raw", None), result_suffix("jpeg", "png")
    ('.jpg', '.tif', '.png')
    """
    if wanted is not None:
        return f".{wanted}"
    return _SUFFIXES.get(kind) or READ_ONLY[_READ_ONLY_SUFFIXES.get(kind, f".{kind}")]


@dataclass(frozen=True)
class Photo:
    """A photograph that the server has.

    Attributes:
        digest: SHA-256 of its file.
        name: that the client gave it; only for show.
        height, width: in pixels.
        bits: per sample.
        kind: of its format, a key of `KINDS`.
    """

    digest: str
    name: str
    height: int
    width: int
    bits: int
    kind: str


@dataclass(frozen=True)
class Service:
    """The state of a server that its routes use.

    Attributes:
        storage: its files.
        queue: its jobs.
        access: what it allows.
        limits: what it accepts.
    """

    storage: Storage
    queue: Queue
    access: Access
    limits: Limits
    _photos: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _decoding: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add_upload(
        self, file: BinaryIO, name: str, kind: Kind, options: Mapping[str, Any], client: str
    ) -> Job:
        """Keep a photograph, and add a job for it.

        Raises:
            UnreadableError: it is no image that can be read.
            TooLargeError: it has too many bytes or pixels.
            TooManyError: the queue is full.
        """
        path, digest = self.storage.receive(file, self.limits.nbytes)
        try:
            photo = self._described(path, digest, name)
            with self._photos:  # else a job that is deleted could take the file away
                os.replace(path, self.storage.photo(digest))
                return self._added(photo, kind, options, client)
        finally:
            path.unlink(missing_ok=True)

    def add_again(self, id: str, kind: Kind, options: Mapping[str, Any], client: str) -> Job:
        """Add a job for the photograph of another.

        Raises:
            NoSuchError: there is no such job, or it has no photograph.
            TooManyError: the queue is full.
        """
        with self._photos:
            photo = self.job(id).request.get("photo")
            if photo is None:
                raise NoSuchError("the job has no photograph")
            return self._added(Photo(**photo), kind, options, client)

    def add_plain(self, kind: Kind, options: Mapping[str, Any], client: str) -> Job:
        """Add a job without a photograph.

        Raises:
            TooManyError: the queue is full.
        """
        return self.queue.add(kind, None, {"options": dict(options)}, client, self.limits)

    def job(self, id: str) -> Job:
        """Return a job.

        Raises:
            NoSuchError: there is none, or it was deleted.
        """
        job = self.queue.get(id)
        if job is None or job.state == "cancelled":
            raise NoSuchError("there is no such job; it was deleted, or never existed")
        return job

    def delete(self, job: Job) -> None:
        """Cancel a job, and delete all that it left."""
        if not self.queue.cancel(job.id):  # else its worker leaves it, and `clean` follows
            self.clean(job)

    def clean(self, job: Job) -> None:
        """Forget a job that does not run, with its results; its photograph if no other has it."""
        with self._photos:
            if not self.queue.remove(job.id):
                return
            self.storage.forget_job(job.id)
            if job.photo is not None and not self.queue.of_photo(job.photo):
                self.storage.forget_photo(job.photo)

    def _added(self, photo: Photo, kind: Kind, options: Mapping[str, Any], client: str) -> Job:
        request = {"photo": vars(photo), "options": dict(options)}
        try:
            return self.queue.add(kind, photo.digest, request, client, self.limits)
        except BaseException:
            if not self.queue.of_photo(photo.digest):
                self.storage.forget_photo(photo.digest)
            raise

    def _described(self, path: Path, digest: str, name: str) -> Photo:
        try:
            kind = kind_of(path)
            # formats that libvips does not read are decoded whole: one at a time, for memory
            with nullcontext() if KINDS[kind].loader else self._decoding:
                header = read_header(path)
        except ImageError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise UnreadableError(f"{_shown(name)}: {reason}") from None
        height, width = header.size
        if height * width > self.limits.pixels:
            raise TooLargeError(
                f"{_shown(name)}: {width} × {height} pixels are more than {self.limits.pixels}, "
                "which is the limit"
            )
        if header.pages > 1:
            raise UnreadableError(
                f"{_shown(name)}: has {header.pages} pages; split it into single images first"
            )
        bits = 8 * header.dtype.itemsize
        return Photo(digest, _shown(name), height, width, bits, kind)


def _shown(name: str) -> str:
    """The last part of a file name, without what a header or a file system would not hold."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(each for each in last if each.isprintable() and each not in '"<>|:*?')
    return plain.encode(errors="ignore").decode()[:_LONGEST_NAME].strip(". ") or "photograph"
