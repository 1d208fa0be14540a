"""Small videos that tests make, and a network that halts."""

import os
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

SIZE = (48, 64)
RATE = 24
BASE = Fraction(1, 12288)  # of mp4 at 24 frames per second
ROTATION = 90


class Halting(nn.Module):
    """Returns its input; after HALT_AFTER calls (not frames: batches differ) it never returns."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > int(os.environ.get("HALT_AFTER", "1000000")):
            threading.Event().wait()
        return x.clone()


def times(count: int, *, varying: bool = False) -> list[int]:
    """When frames are shown, in units of `BASE`."""
    steps = [512 * (1 + (n % 3 if varying else 0)) for n in range(count)]
    return [sum(steps[:n]) for n in range(count)]


def planes(pixels: str, number: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Samples of a frame: a pale gradient with texture, brighter from frame to frame."""
    import av

    frame, random = av.VideoFrame(size[1], size[0], pixels), np.random.default_rng(number)
    deep = frame.format.components[0].bits - 8
    dtype = np.uint16 if deep else np.uint8
    made = []
    for place, plane in enumerate(frame.planes):
        low, high = (118, 122) if place and pixels.startswith("yuv") else (40, 180)
        ramp = np.linspace(low, high, plane.width)[None] + number / 4
        noise = random.integers(0, 20, (plane.height, plane.width))
        made.append(((ramp + noise).astype(int) << deep).astype(dtype))
    return made


def add_frame(stream: Any, samples: list[np.ndarray], time: int, base: Fraction = BASE) -> Any:
    """Encode planes; return the packets."""
    import av

    context = stream.codec_context
    frame = av.VideoFrame(context.width, context.height, context.pix_fmt)
    for plane, values in zip(frame.planes, samples, strict=True):
        lines = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        lines[:, : plane.width] = values
        plane.update(lines.tobytes())
    frame.pts, frame.time_base = int(time * BASE / base), base
    return stream.encode(frame)


def make_video(
    path: Path,
    *,
    pixels: str = "yuv420p",
    codec: str = "libx264",
    count: int = 18,
    size: tuple[int, int] = SIZE,
    varying: bool = False,
    base: Fraction = BASE,
    colours: tuple[int, int, int, int] = (1, 1, 1, 1),
    sound: bool = True,
    subtitles: bool = True,
    chapters: bool = True,
    rotated: bool = False,
    interlaced: bool = False,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> list[int]:
    """Write a video with B-frames, perhaps sound and subtitles; return the times of its frames."""
    import av

    shown = times(count, varying=varying)
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=RATE, options={**quiet, **(options or {})})
        video.height, video.width = size
        video.pix_fmt = pixels
        video.time_base = video.codec_context.time_base = base
        context = video.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = (
            colours
        )
        if rotated:
            video.set_display_rotation(ROTATION)
        if interlaced:
            context.options = {"x264-params": "tff=1"}
        file.metadata.update(metadata or {})
        audio = file.add_stream("aac", rate=48000) if sound else None
        text = None
        if audio is not None:
            audio.metadata["language"] = "deu"
        if subtitles:
            text = file.add_mux_stream("subrip" if path.suffix == ".mkv" else "mov_text")
            text.time_base = Fraction(1, 1000)
            text.metadata["language"] = "fra"
        if chapters:
            file.set_chapters([
                {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000),
                 "metadata": {"title": "first"}},
            ])  # fmt: skip
        for number, time in enumerate(shown):
            file.mux(add_frame(video, planes(pixels, number, size), time, base))
        file.mux(video.encode())
        if audio is not None:
            for start in range(0, 20 * 1024, 1024):
                tone = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(np.stack([tone] * 2), "fltp", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                file.mux(audio.encode(frame))
            file.mux(audio.encode())
        for number in range(2 if text is not None else 0):
            letters = f"line {number}".encode()
            packed = letters if path.suffix == ".mkv" else bytes([0, len(letters)]) + letters
            packet = av.Packet(packed)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 200 * number
            packet.duration = 150
            file.mux(packet)
    return shown


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of the packets of the first stream of a kind, without empty ones."""
    import av

    with av.open(str(path)) as file:
        stream = next(each for each in file.streams if each.type == kind)
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in file.demux(stream)
            if packet.pts is not None and bytes(packet) not in (b"", b"\0\0")
        ]


def pictures(path: Path) -> list[tuple[Fraction, list[np.ndarray]]]:
    """Time and planes of the frames of a video."""
    import av

    with av.open(str(path)) as file:
        return [
            (frame.pts * frame.time_base, [_samples(plane, frame) for plane in frame.planes])
            for frame in file.decode(video=0)
        ]


def _samples(plane: Any, frame: Any) -> np.ndarray:
    dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    lines = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
    return lines[: plane.height, : plane.width].copy()
