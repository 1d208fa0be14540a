"""The stages of a run over the frames of a video: decode, restore, encode."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from glocal.errors import VideoError
from glocal.inference.allocator import kept_memory
from glocal.inference.placing import device_of
from glocal.inference.prepared import Prepared
from glocal.inference.smoothing import Smoother, Smoothing
from glocal.runs import pipeline
from glocal.runs.batches import Batches
from glocal.runs.segments import Segment, SegmentFolder
from glocal.runs.stages import Limits, Stages
from glocal.runs.video_job import VideoJob
from glocal.video.encoder import SegmentEncoder
from glocal.video.source import Frame, frames_of
from glocal.video.survey import Survey

__all__ = ["SEGMENT_S", "VideoStages"]

SEGMENT_S = 2.0
"""About so many seconds a segment takes: what a killed run may lose."""


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A decoded frame, and as the network sees it: (h, w, c) in [0, 1]."""

    number: int
    frame: Frame
    seen: np.ndarray


@dataclass(frozen=True, eq=False)
class _Computed:
    """A restored frame, and the state after it if it ends a segment."""

    restored: np.ndarray
    state: dict[str, Tensor] | None = None


class VideoStages:
    """The stages of a run over the frames that are not done."""

    def __init__(
        self,
        model: nn.Module,
        job: VideoJob,
        survey: Survey,
        work: SegmentFolder,
        smooth: Smoothing | None,
        batch: int | Literal["auto"],
        options: Mapping[str, Any],
    ) -> None:
        self._job, self._survey, self._work, self._smooth = job, survey, work, smooth
        self._conversion = job.clip.conversion
        self._length = max(1, round(SEGMENT_S * job.clip.rate))
        self.segments = -(-len(survey.times) // self._length)
        self.first = min(len(work.done) * self._length, len(survey.times))
        self._smoother = Smoother()
        self._prepared = Prepared(work.layouts, None if smooth is None else self._smoother)
        if smooth is not None:
            batch = 1
            if work.done:
                device = device_of(model, options.get("device"))
                self._smoother.restore_state(work.last_state(), device)
        kept = batch if work.batch is None else work.batch
        self._batches = Batches(model, kept, {**options, "prepared": self._prepared})
        self._frames: Iterator[Frame] = iter(())
        self._encoder: SegmentEncoder | None = None
        self._next = self.first

    def restore(self, progress: Callable[[int, int], None]) -> None:
        """Restore all frames that are not done."""
        total = len(self._survey.times)
        stages = Stages(
            self._read, self._compute, self._write, self._group, _nbytes, fatal=(Exception,)
        )
        progress(self.first, total)
        if self.first == total:
            return
        limits = Limits(count=max(4, 2 * self._batches.images), workers=1)
        frames = frames_of(self._job.clip, strict=not self._survey.damage)
        outcomes = pipeline.run(range(self.first, total), stages, limits)
        with closing(frames), kept_memory(), closing(outcomes):
            self._frames = frames
            for done, _ in enumerate(outcomes, self.first + 1):
                progress(done, total)

    def _read(self, number: int) -> _Loaded:
        if number == self.first:
            for _ in range(number):
                self._decoded()
        frame = self._decoded()
        seen = self._conversion.seen(frame.planes).permute(1, 2, 0).contiguous().numpy()
        return _Loaded(number, frame, seen)

    def _decoded(self) -> Frame:
        frame = next(self._frames, None)
        if frame is None:
            raise VideoError(f"{self._job.clip.path}: changed while it was read")
        return frame

    def _group(self, loaded: _Loaded) -> tuple[Hashable, int]:
        # no batch crosses the border of a segment, from which a later run may begin
        key, most = self._batches.group(loaded.seen)
        return (key, loaded.number // self._length), most

    def _compute(self, batch: list[_Loaded]) -> list[_Computed]:
        if self._smooth is not None:
            self._begin(batch[0].number)
        restored = self._batches.restore([each.seen for each in batch])
        if self._work.layouts is None:
            most = self._batches.group(batch[0].seen)[1]
            self._work.decided(self._prepared.to_dict(), most)
        return [
            _Computed(
                pixels,
                self._smoother.state()
                if self._smooth is not None and self._is_last(each.number)
                else None,
            )
            for each, pixels in zip(batch, restored, strict=True)
        ]

    def _begin(self, number: int) -> None:
        """Begin a frame of which statistics are smoothed."""
        assert self._smooth is not None
        times = self._survey.times
        since = (times[number] - times[max(0, number - 1)]) * self._job.clip.time_base
        self._smoother.begin(
            self._smooth.decay(float(since)), is_cut=number == 0 or number in self._survey.cuts
        )

    def _is_last(self, number: int) -> bool:
        """True if a frame ends a segment."""
        return (number + 1) % self._length == 0 or number + 1 == len(self._survey.times)

    def _write(self, number: int, loaded: _Loaded, computed: _Computed) -> None:
        if number != self._next:
            raise VideoError(f"{self._job.destination}: frame {self._next} is missing")
        seen, restored = (
            torch.from_numpy(each).permute(2, 0, 1) for each in (loaded.seen, computed.restored)
        )
        planes = self._conversion.carried_back(loaded.frame.planes, seen, restored)
        if self._encoder is None:
            size = (restored.shape[-2], restored.shape[-1])
            self._encoder = SegmentEncoder(dataclasses.replace(self._job.encoding, size=size))
        survey = self._survey
        self._encoder.add(planes, survey.times[number], survey.durations[number])
        self._next += 1
        if self._is_last(number):
            data, packets = self._encoder.finish()
            shape = (restored.shape[-2], restored.shape[-1])
            segment = Segment(shape, self._encoder.parameters, tuple(packets))
            self._work.finished(segment, data, computed.state)
            self._encoder = None


def _nbytes(value: _Loaded | _Computed) -> int:
    if isinstance(value, _Computed):
        return value.restored.nbytes
    return value.seen.nbytes + sum(plane.nbytes for plane in value.frame.planes)
