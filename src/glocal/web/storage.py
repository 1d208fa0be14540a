"""Where a server keeps photographs and results.

Photographs lie under the SHA-256 of their content, so that several jobs share one::

    FOLDER/jobs.sqlite                 the queue
    FOLDER/photos/DIGEST               a photograph, as it came
    FOLDER/photos/DIGEST.preview       its preview
    FOLDER/jobs/ID/result.tif          a result
    FOLDER/jobs/ID/result.preview      its preview
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from glocal.errors import ArgumentError
from glocal.images.files import make_private_folder
from glocal.images.previews import Preview
from glocal.web.errors import TooLargeError

__all__ = ["Storage"]

_CHUNK = 2**20


@dataclass(frozen=True)
class Storage:
    """A folder of photographs and results.

    Attributes:
        folder: that only the user may write to.
    """

    folder: Path

    def create(self) -> None:
        """Create the folders that are missing, and delete half-written uploads.

        Raises:
            ArgumentError: one cannot be created, or others may write to it.
        """
        for each in (self.folder, self.folder / "photos", self.folder / "jobs"):
            make_private_folder(each, ArgumentError)
        for pattern in ("*.upload", ".*.part"):
            for left in (self.folder / "photos").glob(pattern):
                left.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other servers from the folder in the block.

        Raises:
            ArgumentError: one uses it.
        """
        try:
            with FileLock(self.folder / "server.lock", timeout=0):
                yield
        except Timeout:
            raise ArgumentError(
                f"{self.folder}: another glocal serve uses this folder; stop it, or choose another "
                "with --jobs-folder"
            ) from None

    @property
    def queue(self) -> Path:
        """The file of the queue."""
        return self.folder / "jobs.sqlite"

    def photo(self, digest: str) -> Path:
        """The file of a photograph."""
        return self.folder / "photos" / digest

    def photo_preview(self, digest: str) -> Preview:
        """The preview of a photograph, which may not exist yet."""
        return Preview(self.photo(digest).with_suffix(".preview"))

    def job(self, id: str) -> Path:
        """The folder of a job's results."""
        return self.folder / "jobs" / id

    def result(self, id: str, suffix: str) -> Path:
        """The file of a job's result."""
        return self.job(id) / f"result{suffix}"

    def result_preview(self, id: str) -> Preview:
        """The preview of a job's result, which may not exist yet."""
        return Preview(self.job(id) / "result.preview")

    def receive(self, source: BinaryIO, most: int) -> tuple[Path, str]:
        """Copy a photograph to a temporary file; return it, and its digest.

        Raises:
            TooLargeError: it has more than `most` bytes.
        """
        digest, nbytes = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(".upload", dir=self.folder / "photos")
        path = Path(name)
        try:
            with open(handle, "wb") as file:
                while chunk := source.read(_CHUNK):
                    nbytes += len(chunk)
                    if nbytes > most:
                        raise TooLargeError(
                            f"the photograph has more than {most} bytes, which is the limit"
                        )
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise
        return path, digest.hexdigest()

    def forget_photo(self, digest: str) -> None:
        """Delete a photograph and its preview."""
        self.photo(digest).unlink(missing_ok=True)
        self.photo_preview(digest).path.unlink(missing_ok=True)

    def forget_job(self, id: str) -> None:
        """Delete the results of a job."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.job(id))
