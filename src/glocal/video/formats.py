"""Kinds of video files and codecs, by name. Imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from glocal.errors import VideoError

__all__ = [
    "CODECS",
    "CONTAINERS",
    "VIDEO_SUFFIXES",
    "Codec",
    "CodecChoice",
    "container_of",
    "crf_of",
    "is_video",
    "video_suffix",
]

CONTAINERS: Mapping[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
}
"""Formats that are written, by the suffix that names them."""

VIDEO_SUFFIXES = frozenset((*CONTAINERS, ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"))
"""Suffixes of the files that are read, in lower case."""

Codec: TypeAlias = Literal["h264", "h265", "ffv1"]
CodecChoice: TypeAlias = Literal["auto", "h264", "h265", "ffv1"]

CODECS: Mapping[Codec, str] = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
"""The encoder of each codec."""

assert get_args(Codec) == tuple(CODECS)


def is_video(path: Path) -> bool:
    """True if a name is that of a video.

    >>> is_video(Path("clip.MP4")), is_video(Path("photo.jpg"))
    (True, False)
    """
    return path.suffix.lower() in VIDEO_SUFFIXES


def video_suffix(suffix: str) -> str:
    """The suffix of the result of a video: its own, where it can be written.

    >>> video_suffix(".MOV"), video_suffix(".webm")
    ('.MOV', '.mkv')
    """
    return suffix if suffix.lower() in CONTAINERS else ".mkv"


def container_of(path: Path) -> str:
    """The format of a file that is to be written.

    Raises:
        VideoError: none has this suffix.
    """
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        names = ", ".join(CONTAINERS)
        raise VideoError(f"{path}: the name of a video must end in {names}") from None


def crf_of(quality: int) -> int:
    """The constant rate factor of x264 and x265 for a quality of 1 to 100.

    >>> crf_of(95), crf_of(80), crf_of(100), crf_of(1)
    (16, 24, 14, 51)
    """
    return min(51, round(16 + (95 - quality) / 2))
