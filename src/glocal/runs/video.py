"""Restore a video, segment by segment.

One thread decodes, one encodes, and the network runs in between (`pipeline`). Finished segments
lie in a hidden folder beside the result (`segments`); at the end their packets and those of the
other streams of the source are written into one file. An interrupted run goes on at the first
segment that is missing, and decodes what is before it again: that is quick beside the network, and
exact where seeking is not.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError, VideoError
from glocal.images.files import temporary_beside
from glocal.images.metadata import Strip
from glocal.inference.allocator import kept_memory
from glocal.inference.areas import Areas
from glocal.inference.fallback import Fallback
from glocal.inference.inputs import digests
from glocal.inference.placing import device_of
from glocal.inference.prepared import Prepared
from glocal.inference.smoothing import Smoother, Smoothing
from glocal.provenance import versions
from glocal.runs import pipeline
from glocal.runs.batches import Batches
from glocal.runs.inputs import InputSource, read_inputs
from glocal.runs.locks import Locks
from glocal.runs.private_folder import work_folder
from glocal.runs.records import how_made
from glocal.runs.segments import Segment, SegmentFolder
from glocal.runs.stages import Limits, Stages
from glocal.runs.video_job import VideoJob
from glocal.video.encoder import SegmentEncoder
from glocal.video.muxing import lost_metadata, mux, packet_count
from glocal.video.pyav import library_versions
from glocal.video.source import Frame, frames_of
from glocal.video.survey import Survey

__all__ = ["SEGMENT_S", "VideoResult", "restore_video"]

SEGMENT_S = 2.0
"""About so many seconds a segment takes: what a killed run may lose."""

JOURNAL_FORMAT = 1
"""Format of the journal's lines; a run with another format starts afresh."""


@dataclass(frozen=True)
class VideoResult:
    """What became of a video.

    Attributes:
        frames: number of frames.
        done_before: how many of them an interrupted run had restored.
        size: (height, width) of the result.
        elapsed_s: seconds of this run.
        notes: what the user should know, one sentence each.
        fallback: in how many frames areas are as the full-image result, in words; empty if none.
    """

    frames: int
    done_before: int
    size: tuple[int, int]
    elapsed_s: float
    notes: tuple[str, ...] = ()
    fallback: str = ""


def restore_video(
    model: nn.Module,
    job: VideoJob,
    survey: Survey,
    *,
    smooth: Smoothing | None = None,
    resume: bool = True,
    strip: Strip | None = None,
    batch: int | Literal["auto"] = "auto",
    inputs: Mapping[str, InputSource] | None = None,
    fallback: nn.Module | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> VideoResult:
    """Restore a video; an existing destination is replaced.

    Args:
        model: the network, converted or not.
        job: what to read and write.
        survey: of the frames.
        smooth: statistics of crops over time; only for networks that take them from crops.
        resume: continue an interrupted run of the same source, network and options.
        strip: metadata of the file to leave out: "gps" the place, "all" everything.
        batch: most frames in a call of the network, see `Batches`. Smoothed frames come one by one.
        inputs: beside each frame: numbers, maps, or image files.
        fallback: as for `glocal.restore`.
        progress: called with (frames done, number of frames).
        options: others of `glocal.restore`.

    Raises:
        VideoError: a file cannot be read or written.
        ArgumentError: an option is invalid.
        BusyError: another process writes the destination.
        KeyboardInterrupt: the message says how many segments are done and how to resume.
    """
    started = time.perf_counter()
    if smooth is not None and options.get("ensemble", 1) != 1:
        raise ArgumentError("smoothed statistics and flips and turns exclude each other")
    with Locks() as locks:
        locks.acquire(job.destination)
        found: list[Areas | None] = []
        if fallback is not None:
            options["fallback"] = Fallback(fallback, found.append)
        if inputs:
            options["inputs"] = read_inputs(inputs, job.clip.path)
        work = SegmentFolder(
            work_folder(job.destination),
            _identity(model, job, survey, smooth, strip, options),
            resume=resume,
            has_state=smooth is not None,
        )
        run = _VideoRun(model, job, survey, work, smooth, batch, options)
        before = run.first
        finished = False
        try:
            work.make()
            with work.journal:
                run.restore(progress)
            result = work.done[0]
            encoding = dataclasses.replace(job.encoding, size=result.size)
            with temporary_beside(job.destination, VideoError) as partial:
                mux(
                    job.clip, encoding, result.parameters, work.parts(), job.streams, partial,
                    job.container, strip=strip,
                )  # fmt: skip
                if packet_count(partial) != len(survey.times):
                    raise VideoError(f"{job.destination}: not all frames were written; run again")
                lost = lost_metadata(job.clip, partial, job.container, strip)
            finished = True
        except KeyboardInterrupt as interruption:
            if not work.done:
                raise
            raise type(interruption)(
                f"{len(work.done)} of {run.segments} segments are saved in {work.path}; "
                "run the same command again to continue"
            ) from None
        except OSError as problem:
            raise work.full_disk(
                problem, "free some space and run again: what is done is kept"
            ) from None
        finally:
            if finished or not work.done:
                work.remove()
    notes = (*survey.notes, *job.streams.notes, *lost)
    if survey.damage:
        notes = (f"the video is damaged: {survey.damage}", *notes)
    return VideoResult(
        len(survey.times), before, result.size, time.perf_counter() - started, notes,
        _fallback_text(found),
    )  # fmt: skip


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


class _VideoRun:
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


def _identity(
    model: nn.Module,
    job: VideoJob,
    survey: Survey,
    smooth: Smoothing | None,
    strip: Strip | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what must be equal in a resumed run and the interrupted one."""
    with open(job.clip.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "journal": JOURNAL_FORMAT,
        "source": {"size": job.clip.path.stat().st_size, "sha256": digest},
        **how_made(model, {**options, "strip": strip}, 0),
        "inputs": digests(options.get("inputs") or {}),
        "encoding": f"{job.encoding.describe()}, {job.encoding.size}, {job.container}",
        "smoothing": str(smooth),
        "damaged": survey.damage,
        "versions": {"glocal": versions()["glocal"], **library_versions()},
    }


def _nbytes(value: _Loaded | _Computed) -> int:
    if isinstance(value, _Computed):
        return value.restored.nbytes
    return value.seen.nbytes + sum(plane.nbytes for plane in value.frame.planes)


def _fallback_text(found: Sequence[Areas | None]) -> str:
    frames = sum(areas is not None and areas.share > 0 for areas in found)
    return f"areas of {frames} of {len(found)} frames as the full-image result" if frames else ""
