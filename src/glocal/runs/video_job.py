"""A video to restore: what is known and checked before a network is loaded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glocal.errors import ArgumentError, VideoError
from glocal.images.image_files import Image, write
from glocal.runs.jobs import is_same_file
from glocal.video.encoder import Encoding, chosen_encoding, encoder_formats
from glocal.video.formats import CODECS, CodecChoice, container_of
from glocal.video.muxing import Streams, streams_for
from glocal.video.source import Clip, clip_of, frames_of

__all__ = ["VideoJob", "first_picture", "video_job"]


@dataclass(frozen=True)
class VideoJob:
    """A video, and how its result is written.

    Attributes:
        clip: the stream to restore.
        destination: file to write.
        container: its format.
        encoding: of the frames, at their own size.
        streams: what becomes of the others.
    """

    clip: Clip
    destination: Path
    container: str
    encoding: Encoding
    streams: Streams

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        return (*self.clip.notes, *self.streams.notes)


def video_job(
    source: Path,
    destination: Path,
    *,
    codec: CodecChoice = "auto",
    quality: int = 95,
    lossless: bool = False,
) -> VideoJob:
    """Check that a video can be restored into a file.

    Args:
        source: file to read.
        destination: file to write.
        codec: of the result; "auto" keeps that of the source where possible.
        quality: 1 to 100.
        lossless: encode without loss.

    Raises:
        ArgumentError: the destination is the source.
        VideoError: the source cannot be read, or the destination cannot hold its frames.
    """
    if is_same_file(source, destination):
        raise ArgumentError(f"{destination} is the input file; choose another output name")
    container = container_of(destination)
    choices = [codec] if codec != "auto" else list(CODECS)
    clip = clip_of(source, frozenset().union(*(encoder_formats(each) for each in choices)))
    _ = clip.conversion  # its colours are known
    try:
        encoding = chosen_encoding(
            clip, codec, quality=quality, lossless=lossless, container=container
        )
    except VideoError as error:
        raise VideoError(f"{destination}: {error}") from None
    return VideoJob(clip, destination, container, encoding, streams_for(clip, container))


def first_picture(clip: Clip, path: Path) -> None:
    """Write the first frame as a PNG file of 16 bits, as networks see it.

    Raises:
        VideoError: it cannot be decoded.
        ImageError: the file cannot be written.
    """
    frame = next(frames_of(clip, strict=False), None)
    if frame is None:
        raise VideoError(f"{clip.path}: not a single frame of it can be decoded")
    seen = clip.conversion.seen(frame.planes).permute(1, 2, 0).numpy()
    write(path, Image(np.ascontiguousarray((seen * 65535).round().astype(np.uint16))))
