"""Files of a streamed run: decoded samples, restored samples, journal of tiles.

They are in one hidden folder beside the destination, from which an interrupted run continues.
"""

import errno
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.images.files import shortened
from glocal.images.sample_files import Header, SampleFile
from glocal.runs.journal import Journal

__all__ = ["WorkFolder", "work_folder"]


def work_folder(destination: Path) -> Path:
    """The folder that a streamed run uses until `destination` is complete."""
    return destination.with_name(f".{shortened(destination.name, 200)}.part")


class WorkFolder:
    """The files of one streamed run, and its progress.

    Attributes:
        path: the folder.
        journal: JSON lines: source decoded, layout of tiles, output scale, finished tiles.
        colour: samples of the source.
        alpha: its opacity, or None.
        is_decoded: whether `colour` and `alpha` are complete.
        notes: on decoding, one sentence each.
        result: restored samples; None until their scale is known.
        done: numbers of the finished tiles.
        total: number of tiles.
    """

    def __init__(
        self, path: Path, header: Header, identity: Mapping[str, Any], *, resume: bool
    ) -> None:
        """Read the state of an interrupted run; write nothing yet.

        Args:
            path: the folder.
            header: of the source.
            identity: source, network and options. A run with another identity starts afresh.
            resume: continue an interrupted run.
        """
        self.path, self._header = path, header
        self.colour = SampleFile(path / "source.raw", header.size, header.channels, header.dtype)
        self.alpha = (
            SampleFile(path / "alpha.raw", header.size, 1, header.dtype)
            if header.has_alpha
            else None
        )
        log = path / "tiles.jsonl"
        try:
            self.journal = Journal(log, identity, overwrite=not resume, error=GlocalError)
        except ArgumentError:
            warnings.warn(
                f"{path} belongs to another source, network, version of glocal or other options; "
                "starting afresh",
                GlocalWarning,
                stacklevel=3,
            )
            self.journal = Journal(log, identity, overwrite=True, error=GlocalError)
        lines = self.journal.lines
        complete = all(file is None or file.is_complete for file in (self.colour, self.alpha))
        self.is_decoded = complete and any("decoded" in line for line in lines)
        self.notes = tuple(note for line in lines for note in line.get("decoded", ()))
        self.done = {line["tile"] for line in lines if "tile" in line}
        self.total = 0
        self.result: SampleFile | None = None
        for line in lines:
            if "scale" in line:
                self.result = self._result_file(line["scale"], line["channels"])

    def create_result(self, scale: int, channels: int) -> SampleFile:
        """The file of restored samples; allocated at the first call."""
        if self.result is None:
            self.result = self._result_file(scale, channels)
            self.result.create()
            self.journal.append({"scale": scale, "channels": channels})
        return self.result

    def error(self, problem: OSError) -> GlocalError:
        """The error for a failed write; states the needed space if the disk is full."""
        text = f"{self.path}: cannot be written ({problem.strerror})"
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return GlocalError(text)
        result = self.result or self._header  # same size, as long as the scale is unknown
        megabytes = -(-(self._header.nbytes + result.nbytes) // 10**6)
        return GlocalError(
            f"{text}; {megabytes} MB are needed: free some space, or choose an output on another "
            "disk"
        )

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _result_file(self, scale: int, channels: int) -> SampleFile:
        height, width = self._header.size
        size = height * scale, width * scale
        return SampleFile(self.path / "result.raw", size, channels, self._header.dtype)
