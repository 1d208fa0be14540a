"""How each result of a folder was made, so that a later run keeps only what it would make itself.

A hidden file of JSON lines in the folder of results: one line for each result, the last one counts.
Without it, nothing tells a result from a file of the user, and neither is replaced.

Where several processes share the work of a run, on machines whose appends to one file may mix, each
has a file of its own. All files are read.
"""

import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

from torch import nn

from glocal.conversion.identity import network_sha256
from glocal.errors import GlocalError, GlocalWarning
from glocal.images.files import write_whole
from glocal.inference.inputs import digests
from glocal.inference.options import as_tiles
from glocal.json_files import JsonError, converted, parsed
from glocal.runs.inputs import InputSource, input_files
from glocal.runs.jobs import Job

__all__ = ["RECORDS", "Found", "Records", "how_made", "lines_of", "made_otherwise"]

RECORDS = ".glocal.jsonl"
"""Name of the file; those of single writers have their name before the suffix."""

_COUNTED = ("dtype", "output", "channels", "grey", "runtime", "strength", "ensemble", "strip")
"""Options that change the result, beside tiles, inputs and quality."""

_SPARE = 100
"""Lines of replaced results beyond which the file is written afresh."""


@dataclass(frozen=True)
class Found:
    """What is in the place of a result.

    Attributes:
        kind: "nothing"; "same", a result that this run would make again; "other", a result of
            glocal that was made otherwise; "foreign", a file that glocal did not make, or that
            was changed since.
        why: how an "other" result was made.
    """

    kind: Literal["nothing", "same", "other", "foreign"]
    why: str = ""


def how_made(model: nn.Module, options: Mapping[str, Any], quality: int) -> dict[str, Any]:
    """Return what the results of a run depend on beside the photographs, as JSON values."""
    given = {name: options.get(name) for name in _COUNTED}
    defaults = {"grey": "channels", "runtime": "torch", "strength": 1.0, "ensemble": 1}
    given |= {name: value for name, value in defaults.items() if given[name] is None}
    made = {name: str(value) for name, value in given.items() if value is not None}
    if options.get("fallback") is not None:  # the network of `model` before its conversion
        made["fallback"] = "full image"
    made |= {"tiles": str(as_tiles(options.get("tiles", "auto"))), "quality": str(quality)}
    return {"network": network_sha256(model), "options": made}


@dataclass(frozen=True)
class _Line:
    """What is looked up in a line; other keys are compared as they are."""

    result: str
    source: dict[str, object] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    sha256: str = ""


class Records:
    """The records of a folder of results; its methods may be called in any thread."""

    def __init__(
        self,
        folder: Path,
        made: Mapping[str, Any],
        inputs: Mapping[str, InputSource] | None = None,
        *,
        accept_damaged: bool = False,
        writer: str = "",
    ) -> None:
        """Read the records; write nothing yet.

        Args:
            folder: of the results.
            made: by this run, see `how_made`.
            inputs: beside the photographs, see `read_inputs`.
            accept_damaged: this run takes the readable parts of damaged photographs.
            writer: name of the process, if it has a file of its own.
        """
        self._accept_damaged = accept_damaged
        self.path = folder / _name_of(writer)
        self._made, self._inputs, self._folder = dict(made), dict(inputs or {}), folder
        self._lock = threading.Lock()
        self._lines: dict[str, dict[str, Any]] = {}
        self._paths: dict[str, Path] = {}  # the files of the lines
        self._replaced = 0
        self._writable: bool | None = None  # until the first line
        self._read_bytes: dict[Path, int] = {}
        self._read()

    def _read(self) -> None:
        """Read the lines that were added since: another process may write into the folder too."""
        others = sorted(self._folder.glob(".glocal.*.jsonl"))
        for path in (self._folder / RECORDS, *others):
            with suppress(OSError):
                before = self._read_bytes.get(path, 0)
                if path.stat().st_size < before:  # written afresh
                    before = 0
                with open(path, "rb") as file:
                    file.seek(before)
                    data = file.read()
                self._read_bytes[path] = before + data.rfind(b"\n") + 1
                for line in lines_of(data):
                    self._take(line, path)

    def _take(self, line: dict[str, Any], path: Path) -> None:
        """Let a line count: the last one of a file, and that of the newest result of several."""
        name = str(line["result"])
        known = self._lines.get(name)
        if known is not None and self._paths[name] != path and _time(known) > _time(line):
            return
        self._replaced += known is not None
        self._lines[name], self._paths[name] = line, path

    def gather(self, writers: str) -> None:
        """Move the lines of writers that have ended into the file of this one.

        Args:
            writers: what their names begin with.
        """
        with self._lock:
            self._read()
            for path in self._folder.glob(_name_of(f"{escape(writers)}*")):
                for name in [name for name, each in self._paths.items() if each == path]:
                    self._paths[name] = self.path
                    self._write(self._lines[name])
                if self._writable is not False:
                    path.unlink(missing_ok=True)

    def line(self, job: Job) -> Mapping[str, Any] | None:
        """Return what is noted of a result; None if nothing is."""
        return self._lines.get(self._name(job))

    def find(self, job: Job) -> Found:
        """Compare what is in the place of a result with what this run would make.

        Raises:
            ArgumentError: there is no file of an input for the photograph.
        """
        if not job.destination.exists():
            return Found("nothing")
        with self._lock:
            if self._name(job) not in self._lines:
                self._read()
            line = self._lines.get(self._name(job))
        if line is None or not _is_unchanged(job.destination, line):
            return Found("foreign")
        if not self._is_source(job, line.get("source")):
            return Found("other", "from another version of the photograph or of its inputs")
        if otherwise := made_otherwise(line, self._made):
            return otherwise
        if line.get("damaged") and not self._accept_damaged:
            return Found("other", "from a damaged photograph")
        return Found("same")

    def add(self, job: Job, *, is_damaged: bool = False) -> None:
        """Note how a result was made that has just been written; warns once if it cannot.

        Args:
            job: source and result.
            is_damaged: the source is damaged, and what could be had of it was restored.
        """
        line = {
            "result": self._name(job),
            **_described(job.destination),
            "source": self._sources(job, _described),
            **self._made,
        }
        if is_damaged:
            line["damaged"] = True
        with self._lock:
            self._replaced += line["result"] in self._lines
            self._lines[line["result"]], self._paths[line["result"]] = line, self.path
            if self._writable is not False:
                self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        try:
            if self._writable is None and self._replaced > len(self._lines) + _SPARE:
                write_whole(self.path, "".join(map(_text, self._lines.values())), GlocalError)
                self._replaced = 0
            else:
                with open(self.path, "a+b") as file:
                    if file.tell() and not self._ends_in_newline():
                        file.write(b"\n")
                    file.write(_text(line).encode())
            self._writable = True
        except (OSError, GlocalError) as problem:
            self._writable = False
            why = problem.strerror if isinstance(problem, OSError) else problem
            warnings.warn(
                f"{self.path}: cannot be written ({why}); a later run will not know these results "
                "for its own",
                GlocalWarning,
                stacklevel=4,
            )

    def _ends_in_newline(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def _name(self, job: Job) -> str:
        return job.destination.relative_to(self._folder).as_posix()

    def _sources(self, job: Job, describe: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """What a result is made from: the photograph, and what is beside it."""
        source = describe(job.source)
        found = input_files(self._inputs, job.source)
        values = {name: each for name, each in found.items() if not isinstance(each, Path)}
        files = {name: describe(each) for name, each in found.items() if isinstance(each, Path)}
        if found:
            source["inputs"] = json.loads(json.dumps({**digests(values), **files}))
        return source

    def _is_source(self, job: Job, noted: Any) -> bool:
        """True if photograph and inputs are those that were noted; reads them if in doubt."""
        if not isinstance(noted, dict):
            return False
        if _without_digests(noted) == self._sources(job, _stat):
            return True
        return bool(_contents(noted) == _contents(self._sources(job, _described)))


def made_otherwise(line: Mapping[str, Any], made: Mapping[str, Any]) -> Found | None:
    """Return how a result was made if a run would make it otherwise, else None."""
    if line.get("network") != made["network"]:
        return Found("other", "with another network")
    before, now = line.get("options") or {}, made["options"]
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return Found("other", f"with other options ({', '.join(changed)})") if changed else None


def _name_of(writer: str) -> str:
    """Name of the file of a writer; of one that does a whole run, without a name."""
    return f".glocal.{writer}.jsonl" if writer else RECORDS


def lines_of(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file, except half a line of a killed process."""
    for text in data.splitlines():
        with suppress(JsonError):
            line = parsed(text, dict[str, object])
            converted(line, _Line, "", ignore_others=True)
            yield line


def _time(line: Mapping[str, Any]) -> int:
    """When a result was written, in nanoseconds."""
    found = line.get("mtime_ns", 0)
    return found if isinstance(found, int) else 0


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line) + "\n"  # ASCII: names may hold bytes that are no UTF-8


_TIMES = ("mtime_ns", "ctime_ns")
"""Where all are equal, so is the content: programs may set the first, but not the second."""


def _stat(path: Path) -> dict[str, Any]:
    about = path.stat()
    return {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "ctime_ns": about.st_ctime_ns}


def _described(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {**_stat(path), "sha256": file_digest(file, "sha256").hexdigest()}


def _without_digests(noted: Any) -> Any:
    """Descriptions, one in the other, without what `_stat` does not tell."""
    return _without(noted, ("sha256",))


def _contents(noted: Any) -> Any:
    """Descriptions, one in the other, without times: those of a copy differ."""
    return _without(noted, _TIMES)


def _without(noted: Any, names: Sequence[str]) -> Any:
    if not isinstance(noted, dict):
        return noted
    return {name: _without(each, names) for name, each in noted.items() if name not in names}


def _is_unchanged(path: Path, line: Mapping[str, Any]) -> bool:
    """True if a result is as it was written; a copy has other times but the same content."""
    if not path.is_file():
        return False
    about = _stat(path)
    if about["size"] != line.get("size"):
        return False
    same_times = all(about[name] == line.get(name) for name in _TIMES)
    return same_times or bool(_described(path)["sha256"] == line.get("sha256"))
