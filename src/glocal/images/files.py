"""Write a file whole or not at all, into a folder that is made where it is missing."""

import contextlib
import os
import secrets
from pathlib import Path

from glocal.errors import GlocalError

__all__ = ["make_folder", "shortened", "write_whole"]


def make_folder(path: Path, error: type[GlocalError]) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        GlocalError: the disk refuses it; of the type that is given.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"{path}: cannot be made ({problem.strerror})") from None


def shortened(name: str, most: int) -> str:
    """A file's name cut to so many bytes, which is what file systems count.

    >>> shortened("üü.png", 3)
    'ü'
    """
    return os.fsencode(name)[:most].decode(errors="ignore")


def write_whole(path: Path, data: bytes | str, error: type[GlocalError]) -> None:
    """Write a file under a temporary name in its folder, and rename it; text as UTF-8.

    An existing file is replaced; one that an interrupted process left behind is hidden and ends
    in no suffix that is ever read.

    Raises:
        GlocalError: the disk refuses it; of the type that is given.
    """
    partial = path.with_name(f".{shortened(path.name, 100)}.{secrets.token_hex(4)}.part")
    try:
        with open(partial, "xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror})") from None
    finally:
        with contextlib.suppress(OSError):  # it is gone, or never was there
            partial.unlink()
