"""Files of a streamed run: decoded samples, restored samples, journal of tiles.

They are in one hidden folder beside the destination, from which an interrupted run continues.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from glocal.errors import GlocalError
from glocal.images.sample_files import Header, SampleFile
from glocal.inference.plan import TilePlan
from glocal.runs.private_folder import PrivateFolder

__all__ = ["WorkFolder"]


class WorkFolder(PrivateFolder):
    """The files of one streamed run, and its progress.

    Attributes:
        path: the folder.
        journal: JSON lines: source decoded, layout of tiles, output scale, finished tiles.
        colour: samples of the source.
        alpha: its opacity, or None.
        is_decoded: whether `colour` and `alpha` are complete, and as they were written.
        notes: on decoding, one sentence each.
        result: restored samples; None until their scale is known.
        done: numbers of the finished tiles.
        total: number of tiles.
    """

    names = re.compile(r"(tiles\.jsonl|(source|alpha|result)\.raw|(encoded|bare)\.[a-z0-9]+)")
    log = "tiles.jsonl"

    def __init__(
        self, path: Path, header: Header, identity: Mapping[str, Any], *, resume: bool
    ) -> None:
        """Read the state of an interrupted run; write nothing yet.

        Args:
            path: the folder.
            header: of the source.
            identity: source, network and options. A run with another identity starts afresh.
            resume: continue an interrupted run.

        Raises:
            GlocalError: the folder holds something that no run wrote, or others may write to it.
        """
        super().__init__(path, identity, resume=resume)
        self._header = header
        self.colour = SampleFile(path / "source.raw", header.size, header.channels, header.dtype)
        self.alpha = (
            SampleFile(path / "alpha.raw", header.size, 1, header.dtype)
            if header.has_alpha
            else None
        )
        self.notes: tuple[str, ...] = ()
        self.is_decoded = False
        self._tiles: dict[int, str] = {}
        self.total, self._scale = 0, 1
        self.result: SampleFile | None = None
        with self.journal.reading():
            for line in self.journal.lines:
                self._read(line)

    def _read(self, line: Mapping[str, Any]) -> None:
        if "decoded" in line:
            self.notes, self.is_decoded = tuple(line["decoded"]), self._holds(line["sha256"])
        elif "tile" in line:
            self._tiles[int(line["tile"])] = line["sha256"]
        elif "scale" in line:
            self._scale = int(line["scale"])
            self.result = self._result_file(self._scale, int(line["channels"]))

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the finished tiles."""
        return frozenset(self._tiles)

    def decoded(self, notes: tuple[str, ...]) -> None:
        """Note that `colour` and `alpha` are complete."""
        self.notes, self.is_decoded = notes, True
        self.journal.append({"decoded": notes, "sha256": [each.sha256() for each in self._sources]})

    def finished(self, number: int, samples: np.ndarray) -> None:
        """Note a tile whose samples were written to `result`."""
        self._tiles[number] = _digest(samples)
        self.journal.append({"tile": number, "sha256": self._tiles[number]})

    def forget_damaged(self, plan: TilePlan) -> int:
        """Forget tiles whose samples are not as they were written; return their number.

        Raises:
            OSError: `result` cannot be read, or not be given its size again.
        """
        before = len(self._tiles)
        if self.result is not None:
            if not self.result.is_complete:
                self.result.regain_size()
            for number, digest in list(self._tiles.items()):
                samples = self.result.read(*plan.tiles[number].core(self._scale))
                if _digest(samples) != digest:
                    del self._tiles[number]
        return before - len(self._tiles)

    def create_result(self, scale: int, channels: int) -> SampleFile:
        """The file of restored samples; allocated at the first call."""
        if self.result is None:
            self.result = self._result_file(scale, channels)
            self.result.create()
            self.journal.append({"scale": scale, "channels": channels})
        return self.result

    def error(self, problem: OSError) -> GlocalError:
        """The error for a failed write; states the needed space if the disk is full."""
        result = self.result or self._header  # same size, as long as the scale is unknown
        megabytes = -(-(self._header.nbytes + result.nbytes) // 10**6)
        kept = f" ({len(self._tiles)} of {self.total} tiles are kept)" if self._tiles else ""
        return self.full_disk(
            problem,
            f"{megabytes} MB are needed: free some space and run again{kept}, or choose an output "
            "on another disk",
        )

    @property
    def _sources(self) -> list[SampleFile]:
        return [each for each in (self.colour, self.alpha) if each is not None]

    def _holds(self, digests: list[str]) -> bool:
        """True if the samples of the source are those that were decoded."""
        try:
            return all(each.is_complete for each in self._sources) and digests == [
                each.sha256() for each in self._sources
            ]
        except OSError:
            return False

    def _result_file(self, scale: int, channels: int) -> SampleFile:
        height, width = self._header.size
        size = height * scale, width * scale
        return SampleFile(self.path / "result.raw", size, channels, self._header.dtype)


def _digest(samples: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(samples).data).hexdigest()
