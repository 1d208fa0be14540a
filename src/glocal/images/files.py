"""Write files atomically, and create folders."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from glocal.errors import GlocalError

__all__ = [
    "as_file",
    "cache_folder",
    "check_private",
    "check_regular",
    "make_folder",
    "make_private_folder",
    "shortened",
    "temporary_beside",
    "write_whole",
]


def as_file(source: bytes | Path) -> BinaryIO:
    """Open a file, or its bytes as one, for reading.

    Raises:
        OSError: it cannot be opened.
    """
    return BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def check_regular(path: Path, error: type[GlocalError]) -> None:
    """Check that a path is no pipe, device or socket, which may have no end; opens nothing.

    Raises:
        GlocalError: it is one; raised as `error`.
        OSError: it cannot be looked at.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise error("is no regular file, but a pipe, a device or a socket")


def make_folder(path: Path, error: type[GlocalError]) -> None:
    """Create a folder and its parents unless they exist.

    Raises:
        GlocalError: it cannot be created; raised as `error`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"{path}: cannot be created ({problem.strerror})") from None


def cache_folder(name: str) -> Path:
    """The user's folder for results of this kind, by the XDG base directories."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "glocal" / name


def make_private_folder(path: Path, error: type[GlocalError]) -> None:
    """Create a folder that only the user may write to, and its parents, unless it exists.

    Raises:
        GlocalError: it cannot be created, or others may write to it; raised as `error`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise error(f"{path}: cannot be created ({problem.strerror})") from None
    check_private(path, error)


def check_private(path: Path, error: type[GlocalError], *, but_group: bool = False) -> None:
    """Check that only the user, or with `but_group` the user's group too, may write to a folder.

    Raises:
        GlocalError: others may; raised as `error`.
    """
    if hasattr(os, "getuid"):
        about = path.stat()
        others = 0o002 if but_group else 0o022
        if about.st_uid != os.getuid() or about.st_mode & others:
            raise error(f"{path}: other users may write to this folder; make it yours alone")


def shortened(name: str, most: int) -> str:
    """Cut a file name to `most` bytes: file systems limit bytes, not characters.

    >>> shortened("üü.png", 3)
    'ü'
    """
    return os.fsencode(name)[:most].decode(errors="ignore")


@contextlib.contextmanager
def temporary_beside(path: Path, error: type[GlocalError]) -> Iterator[Path]:
    """Yield a temporary name beside a file; what the block writes there becomes the file.

    An existing file is replaced. The temporary file of a process that was killed is hidden and
    has no image suffix.

    Raises:
        GlocalError: the file cannot be written; raised as `error`.
    """
    partial = path.with_name(f".{shortened(path.name, 100)}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror})") from None
    finally:
        with contextlib.suppress(OSError):  # renamed, or never created
            partial.unlink()


def write_whole(path: Path, data: bytes | str, error: type[GlocalError]) -> None:
    """Write a file atomically: under a temporary name in its folder, then renamed.

    Text is written as UTF-8. An existing file is replaced.

    Raises:
        GlocalError: the file cannot be written; raised as `error`.
    """
    with temporary_beside(path, error) as partial, open(partial, "xb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
