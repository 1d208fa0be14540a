"""Encode frames into segments: closed groups of pictures that are encoded independently.

All segments of a video have one set of parameters, so that their packets make one stream. The
number of threads is fixed, because the bytes depend on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from glocal.errors import VideoError
from glocal.texts import one_line, size_text
from glocal.video.formats import CODECS, Codec, CodecChoice, crf_of
from glocal.video.pixel_format import PixelFormat
from glocal.video.pyav import library
from glocal.video.source import Clip

__all__ = ["Encoding", "PacketRecord", "SegmentEncoder", "chosen_encoding", "encoder_formats"]

THREADS = 4

_SMALL = 128
"""Pixels a side below which x265 divides a picture into smaller blocks."""

_NAMES: dict[str, Codec] = {"h264": "h264", "hevc": "h265", "ffv1": "ffv1"}
"""Codecs of sources that are kept, as the library names them."""

PacketRecord: TypeAlias = tuple[int, int, int, bool]
"""Time, duration, size in bytes, and whether it is a key frame."""


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
        codec: of the stream.
        pixels: planar format.
        size: (height, width) of the frames.
        rate: frames per second, on average.
        time_base: unit of times, in seconds.
        colours: primaries, transfer, matrix and range, as the library numbers them.
        aspect: width of a pixel by its height.
        crf: constant rate factor of x264 and x265; None for lossless.
    """

    codec: Codec
    pixels: PixelFormat
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    colours: tuple[int, int, int, int]
    aspect: Fraction | None
    crf: int | None

    @property
    def options(self) -> dict[str, str]:
        """Of the encoder."""
        if self.codec == "ffv1":
            return {"level": "3", "slicecrc": "1"}
        if self.codec == "h264":
            # the vector code of x264's macroblock tree reads memory that nothing wrote, so that the
            # bytes of equal frames differ now and then
            rate = {"qp": "0"} if self.crf is None else {"crf": str(self.crf)}
            return {**rate, "mbtree": "0"}
        params = f"log-level=none:frame-threads=1:pools={THREADS}"
        if min(self.size) < _SMALL:  # where one block of 64 holds the picture, bytes are random
            params += ":ctu=32"
        if self.crf is None:
            return {"x265-params": f"{params}:lossless=1"}
        return {"x265-params": params, "crf": str(self.crf)}

    def configure(self, context: Any) -> None:
        """Set up a codec context, or a stream that has one."""
        context.height, context.width = self.size
        context.pix_fmt = self.pixels.name
        context.time_base, context.framerate = self.time_base, self.rate
        primaries, transfer, matrix, range_ = self.colours
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace = 0 if self.pixels.kind == "rgb" else matrix
        context.color_range = range_
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        context.thread_count = THREADS
        context.options = self.options
        if self.codec == "ffv1":
            context.gop_size = 1
        context.flags |= library().codec.context.Flags.global_header

    def describe(self) -> str:
        """In words.

        >>> Encoding("h264", PixelFormat("grey", 8), (48, 64), Fraction(25), Fraction(1, 25),
        ...          (1, 1, 1, 1), None, 16).describe()
        'H.264, 8 bit grey, CRF 16'
        """
        name = {"h264": "H.264", "h265": "H.265", "ffv1": "FFV1"}[self.codec]
        return f"{name}, {self.pixels}, {'lossless' if self.crf is None else f'CRF {self.crf}'}"


def encoder_formats(codec: Codec) -> frozenset[str]:
    """Names of the pixel formats that an encoder takes.

    Raises:
        VideoError: this build of PyAV does not have the encoder.
    """
    av = library()
    try:
        found = av.Codec(CODECS[codec], "w").video_formats
    except av.codec.codec.UnknownCodecError:
        raise VideoError(
            f"this build of PyAV has no {CODECS[codec]}; choose another --codec"
        ) from None
    return frozenset(each.name for each in found or ())


def chosen_encoding(
    clip: Clip,
    codec: CodecChoice,
    *,
    quality: int,
    lossless: bool,
    container: str,
    scale: int = 1,
) -> Encoding:
    """Return how the frames of a clip are encoded.

    "auto" keeps H.264, H.265 and, in Matroska, FFV1. Others become H.264, or H.265 from 9 bits on
    and for RGB.

    Args:
        clip: the source.
        codec: that the user chose.
        quality: 1 to 100.
        lossless: without loss.
        container: of the result.
        scale: of the frames, above 1 for a super-resolution network.

    Raises:
        VideoError: the codec cannot hold the frames, or the container the codec.
    """
    if codec == "ffv1" and container != "matroska":
        raise VideoError("FFV1 needs a Matroska file: let the name of the result end in .mkv")
    order: list[Codec] = ["h264", "h265"] if codec == "auto" else [codec]
    if codec == "auto" and (own := _NAMES.get(clip.codec)):
        order = [own, *order] if own != "ffv1" or container == "matroska" else order
    if codec == "auto" and clip.pixels.bits > 8 and order[0] != _NAMES.get(clip.codec):
        order = ["h265", "ffv1"] if container == "matroska" else ["h265"]
    size = clip.size[0] * scale, clip.size[1] * scale
    fitting = [each for each in order if _takes(each, clip.pixels, size)]
    if not fitting:
        raise VideoError(_refusal(order[0], clip.pixels, size))
    found = fitting[0]
    crf = None if lossless or found == "ffv1" else crf_of(quality)
    return Encoding(
        found, clip.pixels, size, clip.rate, clip.time_base, clip.colours, clip.aspect, crf
    )


def _takes(codec: Codec, pixels: PixelFormat, size: tuple[int, int]) -> bool:
    return pixels.name in encoder_formats(codec) and not _is_odd(codec, pixels, size)


def _is_odd(codec: Codec, pixels: PixelFormat, size: tuple[int, int]) -> bool:
    """True if an encoder wants whole chroma samples, and the size has halves of them."""
    return codec != "ffv1" and any(
        n % 2 and halvings for n, halvings in zip(size, pixels.halvings, strict=True)
    )


def _refusal(codec: Codec, pixels: PixelFormat, size: tuple[int, int]) -> str:
    if _is_odd(codec, pixels, size):
        return (
            f"{codec} does not hold {pixels} frames of an odd size ({size_text(size)}); use "
            "--codec ffv1 with a result that ends in .mkv"
        )
    takers = [other for other in CODECS if _takes(other, pixels, size)]
    return f"{codec} does not hold {pixels}; use --codec {' or '.join(takers) or 'ffv1'}"


class SegmentEncoder:
    """Encodes the frames of one segment."""

    def __init__(self, encoding: Encoding) -> None:
        """Open the encoder.

        Raises:
            VideoError: it refuses the settings.
        """
        av = library()
        self._encoding = encoding
        self._context = av.CodecContext.create(CODECS[encoding.codec], "w")
        encoding.configure(self._context)
        try:
            self._context.open()
        except av.FFmpegError as error:
            raise VideoError(
                f"{CODECS[encoding.codec]} does not take {encoding.describe()} of "
                f"{size_text(encoding.size)} pixels ({one_line(error)})"
            ) from None
        self.parameters = bytes(self._context.extradata or b"")
        self._durations: dict[int, int] = {}
        self._data: list[bytes] = []
        self._packets: list[PacketRecord] = []

    def add(self, planes: Sequence[np.ndarray], time: int, duration: int) -> None:
        """Encode a frame.

        Args:
            planes: samples.
            time: when it is shown, in units of the time base, later than the one before.
            duration: in the same units, 0 if unknown.
        """
        frame = _frame(planes, self._encoding)
        frame.pts, frame.time_base = time, self._encoding.time_base
        self._durations[time] = duration
        self._keep(self._context.encode(frame))

    def finish(self) -> tuple[bytes, list[PacketRecord]]:
        """End the segment; return the bytes of its packets, and what to know of each."""
        self._keep(self._context.encode(None))
        return b"".join(self._data), self._packets

    def _keep(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            data = bytes(packet)
            self._data.append(data)
            record = packet.pts, self._durations[packet.pts], len(data), bool(packet.is_keyframe)
            self._packets.append(record)


def _frame(planes: Sequence[np.ndarray], encoding: Encoding) -> Any:
    """A frame of the library."""
    height, width = encoding.size
    primaries, transfer, matrix, range_ = encoding.colours
    frame = library().VideoFrame(width, height, encoding.pixels.name)
    for plane, samples in zip(frame.planes, planes, strict=True):
        lines = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        lines[:, : plane.width] = samples
        plane.update(lines.tobytes())
    frame.colorspace, frame.color_range = matrix, range_
    frame.color_primaries, frame.color_trc = primaries, transfer
    return frame
