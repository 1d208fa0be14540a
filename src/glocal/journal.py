"""A file of JSON lines that grows while work is done, and from which the work goes on.

The first line says what decides the results. A later run goes on only where that is the same: two
kinds of results never end up in one file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from glocal.errors import ArgumentError

__all__ = ["Journal"]


class Journal:
    """Lines of a file; use it as a context manager, one process at a time.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "results.jsonl"
    >>> with Journal(path, {"seed": 1}) as journal:
    ...     journal.append({"image": "a", "psnr": 30.5})
    >>> Journal(path, {"seed": 1}).lines
    [{'image': 'a', 'psnr': 30.5}]
    >>> Journal(path, {"seed": 2})
    Traceback (most recent call last):
    glocal.errors.ArgumentError: ...results.jsonl: was made with seed 1, not 2; ...

    Attributes:
        path: of the file.
        lines: what it held when it was opened, without its first line.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Read what is there; nothing is written yet.

        Args:
            path: of the file, whose folder is made where it is missing.
            header: whatever decides the results; its values are JSON's.
            overwrite: begin anew, whatever is there.

        Raises:
            ArgumentError: the file was begun with another header, or is none of a journal's.
        """
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._header = json.loads(json.dumps(header))
        self._file: IO[bytes] | None = None
        self._kept = 0
        if path.exists() and not overwrite:
            self._read()

    def _read(self) -> None:
        data = self.path.read_bytes()
        self._kept = data.rfind(b"\n") + 1  # a run that was cut short may leave half a line
        try:
            lines = [json.loads(line) for line in data[: self._kept].splitlines()]
        except ValueError:
            lines = [None]
        if not all(isinstance(line, dict) for line in lines):
            raise ArgumentError(f"{self.path}: is no file of results; name another or overwrite it")
        if not lines:
            return
        others = [
            f"{name} {_short(lines[0].get(name))}, not {_short(self._header.get(name))}"
            for name in {**lines[0], **self._header}
            if lines[0].get(name) != self._header.get(name)
        ]
        if others:
            raise ArgumentError(
                f"{self.path}: was made with {'; '.join(others[:3])}; name another file or "
                "overwrite it"
            )
        self.lines = lines[1:]

    def __enter__(self) -> Self:
        """Open the file for appending.

        Raises:
            ArgumentError: the disk refuses it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab")
            self._file.truncate(self._kept)
        except OSError as problem:
            raise ArgumentError(f"{self.path}: cannot be written ({problem.strerror})") from None
        if self._kept == 0:
            self.append(self._header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, and have it on the disk before anything else happens."""
        assert self._file is not None, "a journal is written inside of a with"
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
