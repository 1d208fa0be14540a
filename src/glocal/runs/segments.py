"""Segments of a video that are done, in a hidden folder beside the result."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glocal.runs.private_folder import PrivateFolder
from glocal.video.encoder import PacketRecord

__all__ = ["Segment", "SegmentFolder"]


@dataclass(frozen=True)
class Segment:
    """A segment whose packets are in a file.

    Attributes:
        size: (height, width) of its frames.
        parameters: of the encoder, which all segments share.
        packets: what to know of each.
    """

    size: tuple[int, int]
    parameters: bytes
    packets: tuple[PacketRecord, ...]


class SegmentFolder(PrivateFolder):
    """The folder of one video: a file of packets for each segment, and what the next one needs.

    A segment counts once its line is in the journal; the line has the digest of its files.

    Attributes:
        done: the finished segments, from the first one, as far as none is missing or damaged.
        lost: number of segments that were finished and are damaged, or follow one that is.
        layouts: of the tiles, from the first run; None before.
        batch: frames in a call of the network, from the first run; None before.
    """

    names = re.compile(r"(segments\.jsonl|segment-\d{6}\.bin|state-\d{6}\.safetensors)")
    log = "segments.jsonl"

    def __init__(
        self, path: Path, identity: Mapping[str, Any], *, resume: bool, has_state: bool
    ) -> None:
        """Read the state of an interrupted run; write nothing yet.

        Args:
            path: the folder.
            identity: source, network and options. A run with another identity starts afresh.
            resume: continue an interrupted run.
            has_state: a segment needs the state after the one before.

        Raises:
            GlocalError: as `PrivateFolder`.
        """
        super().__init__(path, identity, resume=resume)
        self.layouts: dict[str, Any] | None = None
        self.batch: int | None = None
        lines: dict[int, dict[str, Any]] = {}
        with self.journal.reading():
            for line in self.journal.lines:
                if "segment" in line:
                    lines[int(line["segment"])] = line  # the last one counts
                else:
                    self.layouts, self.batch = dict(line["layouts"]), int(line["batch"])
            self.done: list[Segment] = []
            while (line_ := lines.get(len(self.done))) and self._is_whole(line_):
                self.done.append(_segment(line_))
            if has_state and self.done and not self._has_state(lines[len(self.done) - 1]):
                self.done = []
        self.lost = len(lines) - len(self.done)

    def decided(self, layouts: Mapping[str, Any], batch: int) -> None:
        """Note how frames are divided and batched."""
        self.layouts, self.batch = dict(layouts), batch
        self.journal.append({"layouts": self.layouts, "batch": batch})

    def finished(
        self, segment: Segment, data: bytes, state: Mapping[str, Tensor] | None = None
    ) -> None:
        """Keep a segment.

        Args:
            segment: the next one.
            data: of its packets.
            state: that the segment after it needs.

        Raises:
            OSError: it cannot be written.
        """
        number = len(self.done)
        line: dict[str, Any] = {
            "segment": number,
            "size": segment.size,
            "parameters": segment.parameters.hex(),
            "packets": segment.packets,
        }
        with open(self.file(number), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        line["sha256"] = _sha256(self.file(number))
        if state is not None:
            save_file(
                {name: each.contiguous() for name, each in state.items()}, self._state(number)
            )
            line["state"] = _sha256(self._state(number))
        self.journal.append(line)
        self.done.append(segment)
        if number:
            self._state(number - 1).unlink(missing_ok=True)

    def last_state(self) -> dict[str, Tensor]:
        """The state after the last finished segment."""
        return load_file(self._state(len(self.done) - 1))

    def file(self, number: int) -> Path:
        """The file of a segment."""
        return self.path / f"segment-{number:06}.bin"

    def parts(self) -> list[tuple[Path, Sequence[PacketRecord]]]:
        """File and packets of each finished segment."""
        return [(self.file(n), segment.packets) for n, segment in enumerate(self.done)]

    def _state(self, number: int) -> Path:
        return self.path / f"state-{number:06}.safetensors"

    def _is_whole(self, line: Mapping[str, Any]) -> bool:
        return _is(self.file(int(line["segment"])), line["sha256"])

    def _has_state(self, line: Mapping[str, Any]) -> bool:
        path = self._state(int(line["segment"]))
        if not _is(path, line.get("state")):
            return False
        try:
            load_file(path)
        except (OSError, SafetensorError):
            return False
        return True


def _segment(line: Mapping[str, Any]) -> Segment:
    height, width = line["size"]
    packets = tuple((int(t), int(d), int(n), bool(k)) for t, d, n, k in line["packets"])
    return Segment((int(height), int(width)), bytes.fromhex(line["parameters"]), packets)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _is(path: Path, sha256: Any) -> bool:
    """True if a file has this digest."""
    try:
        return bool(_sha256(path) == sha256)
    except OSError:
        return False
