"""A file of JSON lines that grows while work is done, and from which the work goes on.

The first line says what decides the results. A later run goes on only where that is the same: two
kinds of results never end up in one file.
"""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from glocal.errors import ArgumentError, GlocalError

__all__ = ["Journal"]

_SHOWN, _BEFORE = 60, 10
"""Characters of a value in an error, and how many of them before the first difference."""


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

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        *,
        overwrite: bool = False,
        error: type[GlocalError] = ArgumentError,
    ) -> None:
        """Read what is there; nothing is written yet.

        Args:
            path: of the file, whose folder is made where it is missing.
            header: whatever decides the results; its values are JSON's.
            overwrite: begin anew, whatever is there.
            error: what is raised where the disk refuses the file; by default the path is to blame.

        Raises:
            ArgumentError: the file was begun with another header, or is none of a journal's.
            GlocalError: the disk refuses it; of the type that is given.
        """
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._error = error
        self._header = json.loads(json.dumps(header))
        self._file: IO[bytes] | None = None
        self._kept = 0
        if path.exists() and not overwrite:
            self._read()

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError as problem:
            raise self._error(f"{self.path}: cannot be read ({problem.strerror})") from None
        self._kept = data.rfind(b"\n") + 1  # a run that was cut short may leave half a line
        try:
            lines = [json.loads(line) for line in data[: self._kept].splitlines()]
        except ValueError:
            lines = [None]
        if not all(isinstance(line, dict) for line in lines):
            raise ArgumentError(
                f"{self.path}: is no file of results; name another or overwrite it (--overwrite)"
            )
        if not lines:
            return
        others = list(_differences("", lines[0], self._header))
        if others:
            raise ArgumentError(
                f"{self.path}: was made with {'; '.join(others[:3])}; name another file or "
                "overwrite it (--overwrite)"
            )
        self.lines = lines[1:]

    def __enter__(self) -> Self:
        """Open the file for appending.

        Raises:
            GlocalError: the disk refuses it; of the type that was given.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab")
            self._file.truncate(self._kept)
        except OSError as problem:
            raise self._error(f"{self.path}: cannot be written ({problem.strerror})") from None
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


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """Where two headers differ, entry by entry."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            yield from _differences(f"{name} {key}".strip(), there.get(key), here.get(key))
    elif there != here:
        there, here = (v if isinstance(v, str) else json.dumps(v) for v in (there, here))
        alike = (a == b for a, b in zip(there, here, strict=False))
        same = sum(1 for _ in itertools.takewhile(bool, alike))
        start = same - _BEFORE if same > _SHOWN // 2 else 0  # else both might be shown alike
        yield f"{name} {_short(there, start)}, not {_short(here, start)}"


def _short(text: str, start: int) -> str:
    text = f"...{text[start:]}" if start else text
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
