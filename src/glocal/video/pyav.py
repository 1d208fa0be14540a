"""PyAV, of `pip install "glocal[video]"`, imported when a video needs it."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glocal.errors import VideoError
from glocal.texts import one_line

__all__ = ["library", "library_versions", "named", "reported_errors"]


def library() -> Any:
    """Import PyAV.

    Raises:
        VideoError: it is not installed, or does not work here.
    """
    try:
        return importlib.import_module("av")
    except ImportError:
        raise VideoError('videos need PyAV: pip install "glocal[video]"') from None


def library_versions() -> dict[str, str]:
    """Version of PyAV, and of the libraries in it that make the bytes of a video."""
    av = library()
    parts = {name: ".".join(map(str, each)) for name, each in av.library_versions.items()}
    return {"av": av.__version__, **parts}


@contextmanager
def reported_errors() -> Iterator[list[str]]:
    """Collect the errors that the library reports in the block, though it goes on after them.

    Nothing may be decoded in the block: threads of a decoder that report an error wait for the
    interpreter, which may wait for them.
    """
    logging, found = library().logging, list[str]()
    before = logging.get_level()
    logging.set_level(logging.ERROR)
    try:
        with logging.Capture() as logs:
            yield found
    finally:
        logging.set_level(before)
        found += [one_line(text) for level, _, text in logs if level <= logging.ERROR]


@contextmanager
def named(path: Path, what: str) -> Iterator[None]:
    """Raise errors of the library as a VideoError that names the file.

    Args:
        path: of the file.
        what: the library does with it, such as "cannot be read".
    """
    av = library()
    try:
        yield
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {what} ({error.strerror})") from None
