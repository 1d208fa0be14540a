"""A video file: what it holds, and its frames in order."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from glocal.errors import VideoError
from glocal.video.colour import Conversion, conversion_for
from glocal.video.pixel_format import PixelFormat
from glocal.video.pyav import library, named

__all__ = ["Clip", "DamageError", "Frame", "clip_of", "frames_of", "opened"]

_CENTRED = ("mjpeg", "mpeg1video", "theora")
"""Codecs whose chroma lies in the middle of its pixels; it lies at the left in those of H.26x."""

_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Clip:
    """The stream of a file that is restored.

    Attributes:
        path: of the file.
        index: of the stream.
        size: (height, width) of a frame.
        pixels: planar format of the planes, that of the source or one that loses nothing.
        codec: of the source, as the library names it.
        rate: frames per second, on average.
        time_base: unit of times, in seconds.
        colours: primaries, transfer, matrix and range, as the library numbers them.
        aspect: width of a pixel by its height.
        matrix: nine numbers that turn or mirror the picture for display, or None.
        has_alpha: whether the frames have opacity, which is left out.
    """

    path: Path
    index: int
    size: tuple[int, int]
    pixels: PixelFormat
    codec: str
    rate: Fraction
    time_base: Fraction
    colours: tuple[int, int, int, int]
    aspect: Fraction | None = None
    matrix: tuple[int, ...] | None = None
    has_alpha: bool = False

    @property
    def conversion(self) -> Conversion:
        """Between planes and RGB.

        Raises:
            VideoError: the colour matrix is not known.
        """
        try:
            return conversion_for(
                self.pixels,
                self.colours[2],
                self.colours[3],
                self.size[0],
                centred=self.codec in _CENTRED,
            )
        except VideoError as error:
            raise VideoError(f"{self.path}: {error}") from None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        found = []
        if self.has_alpha:
            found.append("the opacity of the video is left out")
        if transfer := _HDR.get(self.colours[1]):
            found.append(
                f"HDR ({transfer}) is restored as it is coded, by a network that has seen SDR; "
                "metadata of the mastering display is left out"
            )
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame.

    Attributes:
        planes: samples, (height, width) each.
        time: when it is shown, in units of the stream's time base; None if the file does not say.
        duration: in the same units, 0 if unknown.
        is_interlaced: two pictures share its lines.
    """

    planes: tuple[np.ndarray, ...]
    time: int | None
    duration: int
    is_interlaced: bool


class DamageError(VideoError):
    """A part of a video cannot be decoded."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a video file for reading.

    Raises:
        VideoError: it cannot be read.
    """
    av = library()
    with named(path, "cannot be read as a video"):
        container = av.open(str(path), metadata_errors="replace")
    with container, named(path, "cannot be read"):
        yield container


def _main_stream(container: Any, path: Path) -> Any:
    """The stream to restore: the default one, or the first that is no cover picture.

    Raises:
        VideoError: there is none.
    """
    flags = library().stream.Disposition
    pictures = [s for s in container.streams.video if not s.disposition & flags.attached_pic]
    if not pictures:
        raise VideoError(f"{path}: has no video stream")
    return next((s for s in pictures if s.disposition & flags.default), pictures[0])


def clip_of(path: Path, encoder_formats: frozenset[str]) -> Clip:
    """Describe the stream of a file that is restored.

    Args:
        path: of the file.
        encoder_formats: names of the pixel formats that encoders take.

    Raises:
        VideoError: it cannot be read, or holds nothing that can be restored.
    """
    with opened(path) as container:
        stream = _main_stream(container, path)
        context = stream.codec_context
        if context is None or not context.pix_fmt:
            raise VideoError(f"{path}: nothing decodes its video ({stream.codec_tag or 'unknown'})")
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise VideoError(f"{path}: not a single frame of it can be decoded")
        name = first.format.name.replace("yuvj", "yuv")
        kept = PixelFormat.of(name).within(encoder_formats)
        if kept is None:
            raise VideoError(f"{path}: no encoder takes its pixel format, {name}")
        side = {each.type.name: bytes(each) for each in first.side_data}
        turned = side.get("DISPLAYMATRIX")
        full = first.format.name.startswith("yuvj")
        return Clip(
            path=path,
            index=stream.index,
            size=(first.height, first.width),
            pixels=kept,
            codec=context.codec.canonical_name,
            rate=stream.average_rate or stream.guessed_rate or Fraction(25),
            time_base=stream.time_base,
            colours=(
                int(first.color_primaries),
                int(first.color_trc),
                int(first.colorspace),
                2 if full else int(first.color_range),
            ),
            aspect=stream.sample_aspect_ratio or None,
            matrix=tuple(map(int, np.frombuffer(turned, np.int32))) if turned else None,
            has_alpha=name.startswith(("yuva", "gbrap", "ya", "rgba", "bgra", "argb", "abgr")),
        )


def frames_of(clip: Clip, *, strict: bool) -> Generator[Frame, None, None]:
    """Yield the frames of a clip in the order in which they are shown.

    Args:
        clip: see `clip_of`.
        strict: raise at the first damage; else go on with what can be decoded.

    Raises:
        VideoError: the file cannot be read, or a frame has another size.
        DamageError: a part is damaged, and `strict`.
    """
    av = library()
    with opened(clip.path) as container:
        stream = container.streams[clip.index]
        stream.thread_type = "AUTO"
        if strict:
            stream.codec_context.options = {"err_detect": "explode"}
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:
                if strict:
                    raise DamageError(f"{clip.path}: {error.strerror}{_place(packet)}") from None
                continue
            for each in decoded:
                if strict and each.is_corrupt:
                    raise DamageError(f"{clip.path}: a frame is corrupt{_place(packet)}")
                yield _frame(clip, each)


def _place(packet: Any) -> str:
    """About where in a file a packet is; threads of the decoder tell of damage somewhat later."""
    time = packet.pts if packet.pts is not None else packet.dts
    return "" if time is None else f" near {float(time * packet.time_base):.1f} s"


def _frame(clip: Clip, frame: Any) -> Frame:
    if (frame.height, frame.width) != clip.size:
        raise VideoError(
            f"{clip.path}: the size of its frames changes to {frame.width} × {frame.height}; cut "
            "it into parts of one size"
        )
    kept = frame if clip.pixels.matches(frame) else frame.reformat(format=clip.pixels.name)
    return Frame(
        tuple(_samples(plane, clip.pixels.bits) for plane in kept.planes),
        frame.pts if frame.pts is not None else frame.dts,
        int(frame.duration or 0),
        bool(frame.interlaced_frame),
    )


def _samples(plane: Any, bits: int) -> np.ndarray:
    dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
    lines = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return lines[: plane.height, : plane.width].copy()
