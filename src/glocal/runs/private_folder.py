"""A hidden folder beside a destination, from whose files an interrupted run continues."""

import errno
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.images.files import check_private, make_private_folder, shortened
from glocal.runs.journal import Journal
from glocal.texts import few_names

__all__ = ["PrivateFolder", "work_folder"]


def work_folder(destination: Path) -> Path:
    """The folder that a run uses until `destination` is complete."""
    return destination.with_name(f".{shortened(destination.name, 200)}.part")


class PrivateFolder:
    """A folder that only the user may write to, with a journal of what is done.

    Attributes:
        path: the folder.
        journal: JSON lines.
    """

    names: re.Pattern[str]
    """The files that runs write into it."""

    log: str
    """Name of the journal."""

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Read the journal of an interrupted run; write nothing yet.

        Args:
            path: the folder.
            identity: source, network and options. A run with another identity starts afresh.
            resume: continue an interrupted run.

        Raises:
            GlocalError: the folder holds something that no run wrote, or others may write to it.
        """
        self.path = path
        self._check_ours()
        log = path / self.log
        try:
            self.journal = Journal(log, identity, overwrite=not resume, error=GlocalError)
        except ArgumentError:
            warnings.warn(
                f"{path} belongs to another source, network, version of glocal or other options; "
                "starting afresh",
                GlocalWarning,
                stacklevel=4,
            )
            self.journal = Journal(log, identity, overwrite=True, error=GlocalError)

    def make(self) -> None:
        """Create the folder, which nobody else may read or write, unless it exists.

        Raises:
            GlocalError: it cannot be created.
        """
        make_private_folder(self.path, GlocalError)

    def full_disk(self, problem: OSError, remedy: str) -> GlocalError:
        """The error for a failed write; with a remedy if the disk is full."""
        text = f"{self.path}: cannot be written ({problem.strerror})"
        if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text += f"; {remedy}"
        return GlocalError(text)

    def remove(self) -> None:
        """Delete the folder and the files that runs write into it."""
        with suppress(OSError):
            for each in self.path.iterdir():
                if self.names.fullmatch(each.name):
                    each.unlink(missing_ok=True)
            self.path.rmdir()

    def _check_ours(self) -> None:
        """Check that a run may use and delete what is in its folder.

        Raises:
            GlocalError: it is no folder, holds something that no run wrote, or others may write to
                it.
        """
        path = self.path
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise GlocalError(
                f"{path}: is in the way of the temporary files of this run; remove it, or choose "
                "another output"
            )
        if not path.exists():
            return
        check_private(path, GlocalError)
        foreign = [
            each.name
            for each in os.scandir(path)
            if not self.names.fullmatch(each.name) or not each.is_file(follow_symlinks=False)
        ]
        if foreign:
            raise GlocalError(
                f"{path}: has {few_names(foreign)}, which glocal did not write; move it away, or "
                "choose another output"
            )
