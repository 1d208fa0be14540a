"""A log of results as JSON lines, from which an interrupted run continues.

The first line records everything that determines the results. A run continues only if its own
header is equal, so a file never mixes results of different runs.
"""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from glocal.errors import ArgumentError, GlocalError
from glocal.json_files import JsonError, parsed
from glocal.texts import one_line

__all__ = ["Journal"]

_SHOWN, _BEFORE = 60, 10
"""Characters of a value shown in an error, and how many of them before the first difference."""


class Journal:
    """A file of JSON lines; use it as a context manager, in one process at a time.

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
        path: path of the file.
        lines: the lines of an earlier run, without the header.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        *,
        overwrite: bool = False,
        error: type[GlocalError] = ArgumentError,
    ) -> None:
        """Read an existing file; write nothing yet.

        Args:
            path: path of the file. Its folder is created if missing.
            header: everything that determines the results, as JSON values.
            overwrite: ignore the content of an existing file.
            error: type of the error raised if the file cannot be read or written.

        Raises:
            ArgumentError: the file has another header, or is not a journal.
            GlocalError: the file cannot be read; raised as `error`.
        """
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._error = error
        self._header = json.loads(json.dumps(header))
        self._file: IO[bytes] | None = None
        self._valid_bytes = 0
        if path.exists() and not overwrite:
            self._read()

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError as problem:
            raise self._error(f"{self.path}: cannot be read ({problem.strerror})") from None
        self._valid_bytes = data.rfind(b"\n") + 1  # a killed process may leave half a line
        try:
            text = data[: self._valid_bytes]
            lines = [parsed(line, dict[str, Any]) for line in text.splitlines()]
        except JsonError as problem:
            raise self._not_a_log(str(problem)) from None
        if not lines:
            return
        others = list(_differences("", lines[0], self._header))
        if others:
            raise ArgumentError(
                f"{self.path}: was made with {'; '.join(others[:3])}; choose another file, or "
                "overwrite it (--overwrite)"
            )
        self.lines = lines[1:]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise an ArgumentError that names the file where its lines are of another form."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError) as problem:
            raise self._not_a_log(one_line(problem)) from None

    def _not_a_log(self, why: str) -> ArgumentError:
        return ArgumentError(
            f"{self.path}: is not a log of results ({why[:200]}); choose another file, or "
            "overwrite it (--overwrite)"
        )

    def __enter__(self) -> Self:
        """Open the file for appending.

        Raises:
            GlocalError: the file cannot be written; raised as `error`.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab")
            self._file.truncate(self._valid_bytes)
        except OSError as problem:
            raise self._error(f"{self.path}: cannot be written ({problem.strerror})") from None
        if self._valid_bytes == 0:
            self.append(self._header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line and flush it to disk."""
        assert self._file is not None, "use the journal in a with statement"
        # ASCII: names may hold bytes that are no UTF-8
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """Return the entries in which two headers differ, as text."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            yield from _differences(f"{name} {key}".strip(), there.get(key), here.get(key))
    elif there != here:
        there, here = (v if isinstance(v, str) else json.dumps(v) for v in (there, here))
        alike = (a == b for a, b in zip(there, here, strict=False))
        same = sum(1 for _ in itertools.takewhile(bool, alike))
        start = same - _BEFORE if same > _SHOWN // 2 else 0  # else the shown parts may be equal
        yield f"{name} {_short(there, start)}, not {_short(here, start)}"


def _short(text: str, start: int) -> str:
    text = f"...{text[start:]}" if start else text
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
