"""Folders behind URLs, such as s3://bucket/photos: each file is fetched, restored and stored.

The only module that uses fsspec, which torch brings; s3fs and other packages add protocols to it.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec

from glocal.errors import ArgumentError, ImageError
from glocal.images.limits import SUFFIXES, WRITTEN, written_suffix
from glocal.runs.jobs import Job
from glocal.runs.records import RECORDS, Found, lines_of, made_otherwise
from glocal.texts import few_names, one_line

__all__ = ["RemoteFolder", "RemoteRecords", "UrlPath", "is_url", "local_or_url", "remote_jobs"]

_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "memory"}
"""Protocols under which a file appears as a whole. Under others it is stored under another name
first, and renamed."""

_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
"""What protocols tell of a version of a file, the surest first."""


class UrlPath(type(Path())):  # type: ignore[misc]
    """A URL as a path, whose parts have names and suffixes; nothing of it is on this machine.

    >>> path = UrlPath("s3://bucket/photos") / "a.dng"
    >>> str(path.with_suffix(".tif")), path.name
    ('s3://bucket/photos/a.tif', 'a.dng')
    """

    def __str__(self) -> str:
        text = super().__str__()
        scheme, colon, rest = text.partition(":/")
        return f"{scheme}://{rest}" if colon else text  # a part has no scheme


def is_url(text: str) -> bool:
    """True for the URL of a file or folder.

    >>> is_url("s3://bucket/in"), is_url("photos/in"), is_url("C:/photos")
    (True, False, False)
    """
    return "://" in text


def local_or_url(text: str) -> Path:
    """Return a path; a file:// URL is a path of this machine."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return UrlPath(text) if is_url(text) else Path(text)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder behind a URL, or on this machine.

    Attributes:
        url: of the folder.
    """

    url: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        try:
            found: tuple[Any, str] = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            hint = '; pip install "glocal[s3]"' if "s3fs" in str(error) else ""
            raise ArgumentError(f"{self.url}: cannot be opened ({one_line(error)}){hint}") from None
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Each process opens its own connection."""
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def files(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each file below the folder, by its name there.

        Raises:
            ImageError: the folder cannot be listed.
        """
        fs, root = self._opened
        try:
            fs.invalidate_cache()
            found = fs.find(root, detail=True)
        except Exception as error:  # each protocol has its own
            raise ImageError(f"{self.url}: cannot be listed ({one_line(error)})") from None
        start = len(root.rstrip("/")) + 1
        return {name[start:]: about for name, about in sorted(found.items())}

    def about(self, name: str) -> dict[str, Any] | None:
        """Return size and version of a file, as JSON values; None if there is none."""
        fs = self._opened[0]
        try:
            fs.invalidate_cache(self._path(name))
            info = fs.info(self._path(name))
        except FileNotFoundError:
            return None
        return _described(info)

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to this machine.

        Raises:
            ImageError: that fails.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._opened[0].open(self._path(name), "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 2**22)
        except Exception as error:
            raise ImageError(f"{self.url}/{name}: cannot be read ({one_line(error)})") from None

    def store(self, path: Path, name: str) -> None:
        """Copy a file of this machine to the folder, where it appears as a whole.

        Raises:
            ImageError: that fails.
        """
        self.write(name, path.read_bytes())

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which appears as a whole.

        Raises:
            ImageError: that fails.
        """
        fs, target = self._opened[0], self._path(name)
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        try:
            if protocols & _WHOLE:
                fs.pipe_file(target, data)
            else:
                parent, _, last = target.rpartition("/")
                fs.makedirs(parent, exist_ok=True)
                fs.pipe_file(f"{parent}/.{last}.part", data)
                fs.mv(f"{parent}/.{last}.part", target)
        except Exception as error:
            raise ImageError(f"{self.url}/{name}: cannot be written ({one_line(error)})") from None

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the content of files, by name, without those that are gone by now."""
        fs = self._opened[0]
        found = fs.cat([self._path(name) for name in names], on_error="omit") if names else {}
        by_path = {self._path(name): name for name in names}
        return {by_path[path]: data for path, data in found.items() if path in by_path}

    def remove(self, names: Sequence[str]) -> None:
        """Delete files."""
        if names:
            self._opened[0].rm([self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{name}"


def _described(info: Mapping[str, Any]) -> dict[str, Any]:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), "")
    return {"size": info.get("size"), "version": version}


def remote_jobs(
    source: Path, target: Path, *, recursive: bool = True, suffix: str | None = None
) -> list[Job]:
    """Return the jobs of a folder behind a URL, as `glocal.runs.jobs.folder_jobs`.

    Raises:
        ArgumentError: the format cannot be written, or two results have one name.
        ImageError: the folder has no images, or cannot be listed.
    """
    if suffix is not None and suffix.lower() not in WRITTEN:
        raise ArgumentError(f"cannot write {suffix!r} files; use one of {', '.join(WRITTEN)}")
    jobs: dict[Path, Job] = {}
    for name in RemoteFolder(str(source)).files():
        path = source / name
        hidden = any(part.startswith(".") for part in name.split("/"))
        if hidden or path.suffix.lower() not in SUFFIXES or ("/" in name and not recursive):
            continue
        if path.is_relative_to(target):
            continue  # a result of an earlier run
        output = (target / name).with_suffix(suffix or written_suffix(path.suffix))
        if output in jobs:
            raise ArgumentError(
                f"{path} and {jobs[output].source} would both be written to {output}; "
                "rename one of them"
            )
        jobs[output] = Job(path, output)
    if not jobs:
        kinds = few_names(SUFFIXES, len(WRITTEN))
        raise ImageError(f"{source} has no images (suffixes: {kinds})")
    return list(jobs.values())


@dataclass
class RemoteRecords:
    """How the results in a remote folder were made; lines as those of `Records`.

    Object stores have no appending: each result has a record of its own until the run ends, which
    `gather` brings together.

    Attributes:
        folder: of the results.
        made: by this run, see `how_made`.
        writer: as of `Records`.
    """

    folder: RemoteFolder
    made: Mapping[str, Any]
    writer: str = ""
    _lines: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._lines = self._read("")

    def find(self, source: RemoteFolder, name: str, result: str) -> Found:
        """Compare what is in the place of a result with what this run would make, as `Records`."""
        there = self.folder.about(result)
        if there is None:
            return Found("nothing")
        line = self._lines.get(result) or self._read("").get(result)
        if line is None or line.get("there") != there:
            return Found("foreign")
        if line.get("source_there") != source.about(name):
            return Found("other", "from another version of the photograph or of its inputs")
        return made_otherwise(line, self.made) or Found("same")

    def add(self, line: Mapping[str, Any], source: Mapping[str, Any] | None, result: str) -> None:
        """Note how a result was made that has just been stored."""
        whole = {**line, "result": result, "there": self.folder.about(result)}
        whole["source_there"] = source
        token = sha256(result.encode(errors="surrogateescape")).hexdigest()[:16]
        self.folder.write(f".glocal.{self._prefix}{token}.jsonl", _text(whole))

    def gather(self, names: str) -> None:
        """Bring the records of single results into one file."""
        prefix = f".glocal.{names or self._prefix}"
        found = [name for name in self._names() if name.startswith(prefix)]
        own = f".glocal.{self.writer}.jsonl" if self.writer else RECORDS
        lines = {**self._of(self.folder.read([own])), **self._of(self.folder.read(found))}
        self.folder.write(own, b"".join(map(_text, lines.values())))
        self.folder.remove([name for name in found if name != own])

    @property
    def _prefix(self) -> str:
        return f"{self.writer}-" if self.writer else "one-"

    def _names(self) -> list[str]:
        return [name for name in self.folder.files() if name.startswith(".glocal.")]

    def _read(self, prefix: str) -> dict[str, dict[str, Any]]:
        names = [name for name in self._names() if name.startswith(prefix)]
        return self._of(self.folder.read(names))

    def _of(self, files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for data in files.values():
            for line in lines_of(data):
                found[str(line["result"])] = line
        return found


def _text(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"
