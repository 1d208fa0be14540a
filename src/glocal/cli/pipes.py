"""Photographs from standard input and to standard output."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glocal.cli.targets import PIPE, Request
from glocal.errors import ArgumentError

__all__ = ["through_files"]


@contextmanager
def through_files(request: Request, suffix: str | None) -> Iterator[Request]:
    """Copy standard input to a file, and the result file to standard output at the end.

    The files are in a temporary folder, so that everything that takes files serves pipes too.

    Args:
        request: of the run.
        suffix: format of standard output; by default that of the photograph.

    Raises:
        ArgumentError: nothing comes in, its format is unknown, or standard output is a terminal.
    """
    if not request.piped:
        yield request
        return
    if request.target == PIPE and sys.stdout.isatty():
        raise ArgumentError("standard output is a terminal; redirect it, or name an output file")
    with tempfile.TemporaryDirectory(prefix="glocal-") as name:
        folder, source, target = Path(name), request.sources[0], request.target
        kind = source.suffix
        if source == PIPE:
            data = sys.stdin.buffer.read()
            if not data:
                raise ArgumentError("standard input is empty; pipe a photograph into it")
            kind = _suffix_of(data)
            source = folder / f"standard-input{kind}"
            source.write_bytes(data)
        if target == PIPE:
            target = folder / f"standard-output{suffix or kind}"
        yield Request((source,), target, False)
        if request.target == PIPE:
            with open(target, "rb") as result:
                shutil.copyfileobj(result, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _suffix_of(data: bytes) -> str:
    from glocal.images.kinds import kind_of

    return {"jpeg": ".jpg", "tiff": ".tif"}.get(kind := kind_of(data), f".{kind}")
