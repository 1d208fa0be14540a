"""What image files say in places that libvips does not read: comments, texts, frames, colours."""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from glocal.errors import ImageError

__all__ = [
    "is_lossless_webp",
    "jpeg_comments",
    "jpeg_notes",
    "nclx_notes",
    "png_frames",
    "png_kinds",
    "png_texts",
    "raw_profile",
]

_LONGEST_TEXT = 2**24
_HDR, _SRGB_PRIMARIES = (16, 18), (1, 2, 5, 6)  # of ITU-T H.273


def jpeg_comments(file: BinaryIO) -> tuple[tuple[str, str], ...]:
    """The comments of a JPEG file, as texts named Comment."""
    return tuple(
        ("Comment", _text(data.rstrip(b"\0")))
        for marker, data in _jpeg_segments(file)
        if marker == 0xFE
    )


def jpeg_notes(file: BinaryIO) -> tuple[str, ...]:
    """Say that XMP of a JPEG file goes on in segments that are not read."""
    continued = b"http://ns.adobe.com/xmp/extension/\0"
    if any(marker == 0xE1 and d.startswith(continued) for marker, d in _jpeg_segments(file)):
        return ("XMP beyond the first 64 kB (extended XMP) was dropped: it is not read",)
    return ()


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Markers and data of the segments in front of the pixels."""
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        nbytes = struct.unpack(">H", head[2:])[0] - 2
        yield head[1], file.read(max(nbytes, 0))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def png_texts(file: BinaryIO) -> tuple[tuple[str, str], ...]:
    """The texts of a PNG file, by name; XMP is none of them."""
    found = []
    for kind, data in _png_chunks(file):
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        key, _, rest = data.partition(b"\0")
        packed = kind == b"zTXt"
        if kind == b"iTXt":
            packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        elif packed:
            rest = rest[1:]
        try:
            rest = zlib.decompressobj().decompress(rest, _LONGEST_TEXT) if packed else rest
        except zlib.error:
            continue  # libvips says whether the file is damaged
        if key != b"XML:com.adobe.xmp":
            text = rest.decode("utf-8", "replace") if kind == b"iTXt" else rest.decode("latin-1")
            found.append((key.decode("latin-1"), text))
    return tuple(found)


def png_kinds(file: BinaryIO) -> frozenset[bytes]:
    """The kinds of chunks of a PNG file, but those of pixels."""
    return frozenset(kind for kind, _ in _png_chunks(file))


def png_frames(file: BinaryIO) -> int:
    """The number of frames of a PNG file; 1 if it is not animated."""
    for kind, data in _png_chunks(file):
        if kind == b"acTL" and len(data) >= 4:
            return int(struct.unpack_from(">I", data)[0])
    return 1


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Chunks but those of pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        nbytes = struct.unpack(">I", head[:4])[0]
        if head[4:] in (b"IDAT", b"fdAT"):
            file.seek(nbytes, os.SEEK_CUR)
        else:
            yield head[4:], file.read(nbytes)
        file.seek(4, os.SEEK_CUR)


def nclx_notes(start: bytes) -> tuple[str, ...]:
    """Say that an AVIF or HEIC file without profile has other primaries than sRGB.

    Args:
        start: of the file, with its boxes of properties.

    Raises:
        ImageError: its samples are of high dynamic range, PQ or HLG.
    """
    at = start.find(b"colrnclx")
    if at < 0 or len(start) < at + 12:
        return ()
    primaries, transfer = struct.unpack_from(">HH", start, at + 8)
    if transfer in _HDR:
        raise ImageError(
            "has samples of high dynamic range (PQ or HLG), which sRGB has no place for"
        )
    if primaries in _SRGB_PRIMARIES:
        return ()
    return ("the colours were read as sRGB, though the file has other primaries",)


def is_lossless_webp(file: BinaryIO) -> bool:
    """True if the picture of a WebP file was encoded without loss."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8L", b"VP8 "):
            return head[:4] == b"VP8L"
        nbytes = struct.unpack("<I", head[4:])[0]
        file.seek(nbytes + nbytes % 2, os.SEEK_CUR)
    return False


def raw_profile(text: str) -> bytes | None:
    """The bytes of a profile that is a text chunk of hexadecimal digits; None if it is no such."""
    lines = text.strip().split("\n", maxsplit=2)  # name, length, digits
    if len(lines) < 3 or not lines[1].strip().isdecimal():
        return None
    try:
        return bytes.fromhex("".join(lines[2].split()))
    except ValueError:
        return None
