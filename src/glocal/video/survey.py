"""Decode a video once before it is restored: its frames, damage, and cuts between scenes.

Decoding takes a small part of the time of a network, and nothing else tells reliably how many
frames there are and whether they are whole.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from glocal.errors import VideoError
from glocal.texts import one_line
from glocal.video.pyav import reported_errors
from glocal.video.source import Clip, DamageError, Frame, frames_of, opened

__all__ = ["Survey", "surveyed"]

CUT = 0.3
"""Share of the pixels that have another brightness after a cut, as the histogram shows."""

_BINS = 32
_STEP = 4
"""Every so many pixels count, along both axes."""

_MISSING_FRAMES = 2
"""A file that ends so many frames before the end that it states is truncated."""


@dataclass(frozen=True)
class Survey:
    """What a clip holds.

    Attributes:
        times: of the frames, in units of the clip's time base, rising.
        durations: in the same units, 0 where unknown.
        cuts: numbers of the frames that begin a new scene, without the first.
        damage: what is damaged, and what can be decoded; empty if it is whole.
        notes: one sentence each.
    """

    times: tuple[int, ...]
    durations: tuple[int, ...]
    cuts: frozenset[int] = frozenset()
    damage: str = ""
    notes: tuple[str, ...] = ()


def surveyed(clip: Clip, *, accept_damaged: bool = False) -> Survey:
    """Decode a clip and describe its frames.

    Args:
        clip: to decode.
        accept_damaged: take what can be decoded of a damaged file.

    Raises:
        VideoError: it cannot be read, is interlaced, or is damaged and not accepted.
    """
    frames, damage = _Frames(clip), ""
    try:
        for frame in frames_of(clip, strict=True):
            frames.add(frame)
        damage = _damage_of_file(clip)
    except DamageError as error:
        damage = one_line(error).removeprefix(f"{clip.path}: ")
    if not damage:
        return frames.survey("")
    frames = _Frames(clip)
    for frame in frames_of(clip, strict=False):
        frames.add(frame)
    if not frames.times:
        raise VideoError(f"{clip.path}: not a single frame of it can be decoded ({damage})")
    where = f"{damage}; {len(frames.times)} frames, up to {frames.end_s:.1f} s, can be decoded"
    if not accept_damaged:
        raise VideoError(f"{clip.path}: is damaged: {where}; --accept-damaged restores these")
    return frames.survey(where)


class _Frames:
    """Collects what a survey says of frames."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.times: list[int] = []
        self._durations: list[int] = []
        self._cuts: set[int] = set()
        self._histogram: np.ndarray | None = None
        self._moved = 0
        self._interlaced = 0

    @property
    def end_s(self) -> float:
        """When the last frame is shown, counted from the first."""
        return float((max(self.times) - min(self.times)) * self._clip.time_base)

    def add(self, frame: Frame) -> None:
        """Count a frame.

        Raises:
            VideoError: the first one is interlaced.
        """
        if frame.is_interlaced and not self.times:
            raise VideoError(
                f"{self._clip.path}: is interlaced; deinterlace it first, such as by "
                "ffmpeg -i in.mp4 -vf bwdif out.mp4"
            )
        self._interlaced += frame.is_interlaced
        step = frame.duration or round(1 / (self._clip.rate * self._clip.time_base))
        after = self.times[-1] + max(1, step) if self.times else 0
        self._moved += frame.time is None
        self.times.append(after if frame.time is None else frame.time)
        self._durations.append(frame.duration)
        histogram = _histogram(frame.planes[0], self._clip.pixels.bits)
        if self._histogram is not None and _distance(self._histogram, histogram) > CUT:
            self._cuts.add(len(self.times) - 1)
        self._histogram = histogram

    def survey(self, damage: str) -> Survey:
        """What was found."""
        # frames come in the order in which they are shown; AVI has times in that of decoding
        times = sorted(self.times)
        for n in range(1, len(times)):
            if times[n] <= times[n - 1]:
                times[n] = times[n - 1] + 1
                self._moved += 1
        notes = list(self._clip.notes)
        if self._interlaced:
            notes.append(f"{self._interlaced} of {len(self.times)} frames are interlaced")
        if self._moved:
            notes.append(f"{self._moved} frames had no time of their own and got one")
        return Survey(
            tuple(times), tuple(self._durations), frozenset(self._cuts), damage, tuple(notes)
        )


def _histogram(luma: np.ndarray, bits: int) -> np.ndarray:
    values = luma[::_STEP, ::_STEP] >> (bits - 5)
    counts = np.bincount(values.ravel(), minlength=_BINS)
    return np.asarray(counts / counts.sum())


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the pixels that changed their bin, at least."""
    return float(np.abs(first - second).sum() / 2)


def _damage_of_file(clip: Clip) -> str:
    """What the container shows: errors, or fewer frames than it states; empty if it is whole.

    Raises:
        VideoError: it cannot be read.
    """
    with reported_errors() as errors:
        text = _truncation(clip)
    return text or "; ".join(errors[:1])


def _truncation(clip: Clip) -> str:
    """How a file is shorter than it states; empty if it is not."""
    with opened(clip.path) as container:
        stream = container.streams[clip.index]
        number, is_corrupt = 0, False
        starts, ends = list[Fraction](), [Fraction(0)]
        of_all = [Fraction(0)]
        for packet in container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None:
                continue
            end = (time + (packet.duration or 0)) * packet.time_base
            of_all.append(end)
            if packet.stream_index == clip.index:
                number += 1
                is_corrupt |= packet.is_corrupt
                starts.append(time * packet.time_base)
                ends.append(end)
        if is_corrupt:
            return "a packet is corrupt"
        # AVI counts frames that it only repeats
        if "mp4" in container.format.name and stream.frames > number:
            return f"the file is truncated, and states {stream.frames} frames"
        stated, found = Fraction(0), max(ends)
        if tag := stream.metadata.get("DURATION"):
            stated = _seconds(tag)
        elif stream.duration:
            stated, found = stream.duration * stream.time_base, max(ends) - min(starts)
        elif container.duration:
            stated, found = Fraction(container.duration, 1_000_000), max(of_all)
        if stated - found > _MISSING_FRAMES / clip.rate:
            return f"the file is truncated, and states {float(stated):.1f} s"
    return ""


def _seconds(tag: str) -> Fraction:
    """The seconds of "00:01:30.500000000"; 0 for another text."""
    try:
        hours, minutes, seconds = tag.split(":")
        return 3600 * Fraction(hours) + 60 * Fraction(minutes) + Fraction(seconds)
    except ValueError:
        return Fraction(0)
