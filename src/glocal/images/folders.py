"""The image files of a folder."""

import os
import warnings
from collections.abc import Callable, Container
from pathlib import Path

from glocal.errors import GlocalWarning, ImageError
from glocal.images.limits import SUFFIXES, UNREADABLE
from glocal.texts import few_names

__all__ = ["list_images", "list_unreadable"]


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> list[Path]:
    """The image files in a folder, sorted; selected by suffix, hidden ones excluded.

    Warns of subfolders that cannot be read.

    Raises:
        ImageError: the folder does not exist, or cannot be read.
    """
    closed: list[OSError] = []
    found = _files(folder, SUFFIXES, recursive, closed.append)
    if closed:
        names = few_names(sorted(str(each.filename) for each in closed))
        warnings.warn(
            f"{len(closed)} subfolder{'s' * (len(closed) > 1)} cannot be read "
            f"({closed[0].strerror}): {names}",
            GlocalWarning,
            stacklevel=2,
        )
    return found


def list_unreadable(
    folder: str | os.PathLike[str],
    *,
    recursive: bool = False,
    suffixes: Container[str] = UNREADABLE,
) -> list[Path]:
    """The pictures in a folder whose formats cannot be read, sorted; as :func:`list_images`.

    Args:
        folder: to list.
        recursive: list its subfolders too.
        suffixes: of other files to list instead, in lower case.

    Raises:
        ImageError: the folder does not exist, or cannot be read.
    """
    return _files(folder, suffixes, recursive, lambda problem: None)


def _files(
    folder: str | os.PathLike[str],
    suffixes: Container[str],
    recursive: bool,
    on_error: Callable[[OSError], object],
) -> list[Path]:
    """The files with one of the suffixes; hidden files and folders are skipped.

    Args:
        folder: to list.
        suffixes: in lower case.
        recursive: list its subfolders too.
        on_error: called with the error of each subfolder that cannot be listed.

    Raises:
        ImageError: the folder does not exist, or cannot be listed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder")

    def failed(problem: OSError) -> None:
        if problem.filename == str(root):
            raise ImageError(f"{root}: cannot be read ({problem.strerror})") from None
        on_error(problem)

    found: list[Path] = []
    for here, folders, names in os.walk(root, onerror=failed):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [
            path
            for path in (Path(here, name) for name in names if not name.startswith("."))
            if path.suffix.lower() in suffixes and path.is_file()
        ]
    return sorted(found)
