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
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from glocal.errors import ArgumentError, GlocalWarning, VideoError
from glocal.images.files import temporary_beside
from glocal.images.metadata import Strip
from glocal.inference.areas import Areas
from glocal.inference.fallback import Fallback
from glocal.inference.inputs import digests
from glocal.inference.smoothing import Smoothing
from glocal.provenance import versions
from glocal.runs.inputs import InputSource, read_inputs
from glocal.runs.locks import Locks
from glocal.runs.private_folder import work_folder
from glocal.runs.records import how_made
from glocal.runs.segments import SegmentFolder
from glocal.runs.video_job import VideoJob
from glocal.runs.video_stages import VideoStages
from glocal.video.muxing import lost_metadata, mux, packet_count
from glocal.video.pyav import library_versions
from glocal.video.survey import Survey

__all__ = ["VideoResult", "restore_video"]

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
        if work.lost:
            warnings.warn(
                f"{work.lost} saved segments of {job.clip.path} are damaged, or follow one that "
                "is, and are done again",
                GlocalWarning,
                stacklevel=2,
            )
        run = VideoStages(model, job, survey, work, smooth, batch, options)
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


def _fallback_text(found: Sequence[Areas | None]) -> str:
    frames = sum(areas is not None and areas.share > 0 for areas in found)
    return f"areas of {frames} of {len(found)} frames as the full-image result" if frames else ""
