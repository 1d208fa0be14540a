"""Write a restored stream and the other streams of its source into a file."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from glocal.errors import VideoError
from glocal.texts import few_names
from glocal.video.encoder import Encoding, PacketRecord
from glocal.video.formats import CODECS
from glocal.video.pyav import library, named
from glocal.video.source import Clip, opened

__all__ = ["Streams", "decode_times", "lost_metadata", "mux", "packet_count", "streams_for"]

_OF_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Metadata that describes the file of the source, not its content."""

_OF_STREAM = ("encoder", "duration", "bps", "number_of_bytes", "number_of_frames")
"""Metadata that describes the coded stream of the source."""


@dataclass(frozen=True)
class Streams:
    """What becomes of the streams beside the restored one.

    Attributes:
        copied: indices of those that are copied.
        covers: indices of those that are copied as attached files: cover pictures.
        names: of both, in words.
        notes: what is left out, one sentence each.
    """

    copied: tuple[int, ...]
    covers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def streams_for(clip: Clip, container: str) -> Streams:
    """Find out which streams of a source a container can hold.

    Raises:
        VideoError: the source cannot be read.
    """
    copied, covers = list[int](), list[int]()
    names, notes = list[str](), list[str]()
    flags = library().stream.Disposition
    with opened(clip.path) as source:
        has_chapters = bool(source.chapters())
        for stream in source.streams:
            if stream.index == clip.index:
                continue
            is_cover = stream.type == "video" and bool(stream.disposition & flags.attached_pic)
            if stream.type == "data" and stream.name == "bin_data" and has_chapters:
                continue  # the track of the chapters, which are copied
            name = f"{stream.index} ({stream.name or 'unknown'})"
            if is_cover and container == "matroska":
                covers.append(stream.index)
                names.append(f"cover {name}")
            elif stream.type == "video" and not is_cover:
                notes.append(
                    f"video stream {stream.index} is left out: the default one is restored"
                )
            elif why := _refusal(stream, container):
                notes.append(f"{stream.type} stream {name} is left out: {why}")
            else:
                copied.append(stream.index)
                names.append(f"{'cover' if is_cover else stream.type} {name}")
    return Streams(tuple(copied), tuple(covers), tuple(names), tuple(notes))


def _refusal(stream: Any, container: str) -> str:
    """Why a container refuses a stream, in words; empty if it takes it."""
    av = library()
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, **_opaque(stream))
            trial.start_encoding()
    except ValueError:  # its list of codecs has not this one
        return f"{container} cannot hold it"
    except av.FFmpegError as error:
        return f"{container} cannot hold it ({error.strerror})"
    return ""


def _opaque(stream: Any) -> dict[str, bool]:
    return {"opaque": True} if stream.type == "video" else {}


def decode_times(times: Sequence[int]) -> list[int]:
    """When packets are decoded: rising, and never after they are shown.

    >>> decode_times([0, 30, 10, 20, 40])
    [-1, 0, 10, 20, 30]

    Args:
        times: when their frames are shown, in the order in which they are decoded.
    """
    rising = sorted(times)
    place = {time: n for n, time in enumerate(rising)}
    delay = max((n - place[time] for n, time in enumerate(times)), default=0)
    early = [rising[0] - delay + n for n in range(delay)] if rising else []
    return [*early, *rising][: len(times)]


def mux(
    clip: Clip,
    encoding: Encoding,
    parameters: bytes,
    segments: Iterable[tuple[Path, Sequence[PacketRecord]]],
    streams: Streams,
    path: Path,
    container: str,
    *,
    strip: Literal["gps", "all"] | None = None,
) -> None:
    """Write the packets of all segments, and the copied streams.

    Args:
        clip: the source.
        encoding: of the segments.
        parameters: of the encoder, which wrote the segments.
        segments: file and packets of each, in order.
        streams: to copy.
        path: to write.
        container: format to write.
        strip: metadata of the file to leave out: the place, or all.

    Raises:
        VideoError: a file cannot be read or written, or this encoder writes other parameters.
    """
    av = library()
    parts = list(segments)
    options = {"movflags": "+faststart"}
    with opened(clip.path) as source, named(path, "cannot be written"):
        if any(key.startswith("com.apple.quicktime") for key in source.metadata):
            options["movflags"] += "+use_metadata_tags"
        if container == "matroska":
            options = {}
        with av.open(str(path), "w", format=container, container_options=options) as target:
            target.flags |= av.container.Flags.bitexact.value  # no random numbers in the file
            video = _add_video(target, clip, encoding, source.streams[clip.index])
            copies = {n: _add_copy(target, source.streams[n]) for n in streams.copied}
            target.metadata.update(_kept(source.metadata, _OF_FILE, strip))
            target.set_chapters(source.chapters())
            for n in streams.covers:
                _attach(target, clip.path, n)
            target.start_encoding()
            if bytes(video.codec_context.extradata or b"") != parameters:
                raise VideoError(f"{path}: the encoder has other parameters than for the segments")
            packets = _packets(parts, video, encoding.time_base)
            waiting = next(packets, None)
            for packet in source.demux([source.streams[n] for n in copies] or None):
                if packet.stream_index not in copies or packet.size == 0:
                    continue
                while waiting is not None and _when(waiting) <= _when(packet):
                    target.mux_one(waiting)
                    waiting = next(packets, None)
                packet.stream = copies[packet.stream_index]
                target.mux_one(packet)
            while waiting is not None:
                target.mux_one(waiting)
                waiting = next(packets, None)


def packet_count(path: Path) -> int:
    """Number of packets of the video stream of a file that `mux` wrote."""
    with opened(path) as container:
        stream = container.streams.video[0]
        return sum(packet.size > 0 for packet in container.demux(stream))


def lost_metadata(
    clip: Clip, path: Path, container: str, strip: Literal["gps", "all"] | None
) -> tuple[str, ...]:
    """Notes on the metadata of a source that its result does not hold."""
    with opened(clip.path) as source, opened(path) as result:
        there = {key.lower() for key in result.metadata}
        kept = _kept(source.metadata, _OF_FILE, strip)
        lost = [key for key in kept if key.lower() not in there]
    return (f"{container} does not hold some metadata: {few_names(lost)}",) if lost else ()


def _add_video(target: Any, clip: Clip, encoding: Encoding, source: Any) -> Any:
    stream = target.add_stream(CODECS[encoding.codec], rate=encoding.rate)
    encoding.configure(stream.codec_context)
    stream.time_base = encoding.time_base
    if clip.matrix is not None:
        stream.set_display_matrix(clip.matrix)
    stream.metadata.update(_kept(source.metadata, _OF_STREAM, None))
    stream.disposition = source.disposition
    return stream


def _add_copy(target: Any, stream: Any) -> Any:
    copy = target.add_stream_from_template(stream, **_opaque(stream))
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _attach(target: Any, path: Path, index: int) -> None:
    """Attach the cover picture of a source."""
    with opened(path) as source:
        stream = source.streams[index]
        data = next((bytes(packet) for packet in source.demux(stream) if packet.size), b"")
        kind = "png" if stream.name == "png" else "jpeg"
        target.add_attachment(
            stream.metadata.get("filename", f"cover.{kind}"), f"image/{kind}", data
        )


def _packets(
    parts: Sequence[tuple[Path, Sequence[PacketRecord]]], stream: Any, time_base: Fraction
) -> Iterator[Any]:
    """The packets of all segments, as those of a stream."""
    av = library()
    decoded = iter(decode_times([time for _, records in parts for time, *_ in records]))
    for path, records in parts:
        with open(path, "rb") as file:
            for time, duration, size, is_key in records:
                packet = av.Packet(file.read(size))
                packet.stream, packet.time_base = stream, time_base
                packet.pts, packet.dts = time, next(decoded)
                packet.duration, packet.is_keyframe = duration, is_key
                yield packet


def _when(packet: Any) -> Fraction:
    time = packet.dts if packet.dts is not None else packet.pts
    return Fraction(0) if time is None else time * packet.time_base


def _kept(
    metadata: Mapping[str, str], without: Sequence[str], strip: Literal["gps", "all"] | None
) -> dict[str, str]:
    if strip == "all":
        return {}
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in without
        and not key.startswith("_STATISTICS")
        and not (strip == "gps" and ("location" in key.lower() or "gps" in key.lower()))
    }
