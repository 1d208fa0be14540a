"""Write metadata into image files.

libvips writes pixels, colour profile and resolution. It rewrites EXIF and makes up tags, and knows
no tags of TIFF files; here blocks are copied as they are.
"""

import binascii
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

from glocal.images.exif import parsed, used_length, with_size
from glocal.images.limits import SEGMENT
from glocal.images.metadata import DENSITY, Metadata, iptc_records, without_records
from glocal.images.tiff_tags import add_tags

__all__ = ["EMBEDDERS", "embed"]

_EXIF_PREFIX, _XMP_PREFIX = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"
_EXIF_FLAG, _XMP_FLAG, _ALPHA_FLAG = 0x08, 0x04, 0x10
_COMMENT = "Comment"


def embed(
    kind: str, source: BinaryIO, target: BinaryIO, metadata: Metadata, size: tuple[int, int]
) -> None:
    """Copy a file of libvips with the metadata that its format holds.

    Args:
        kind: a key of `EMBEDDERS`.
        source: the file, without metadata but its colour profile.
        target: an empty file, readable and writable.
        metadata: to write; what the format cannot hold is left out.
        size: (height, width) of the picture.
    """
    exif = metadata.exif
    if exif is not None:
        exif = with_size(exif.removeprefix(_EXIF_PREFIX), size)
    source.seek(0)
    EMBEDDERS[kind](source, target, metadata, exif)


def _jpeg(source: BinaryIO, target: BinaryIO, metadata: Metadata, exif: bytes | None) -> None:
    start = source.read(2)
    marker = source.read(4)
    if marker[:2] == b"\xff\xe0":  # written anew below
        source.seek(struct.unpack(">H", marker[2:])[0] - 2, os.SEEK_CUR)
    else:
        source.seek(2)
    target.write(start + _segment(0xE0, _jfif(metadata.density)))
    if exif is not None:
        target.write(_segment(0xE1, _EXIF_PREFIX + exif))
    if metadata.xmp is not None:
        target.write(_segment(0xE1, _XMP_PREFIX + metadata.xmp))
    if metadata.iptc is not None:
        target.write(_segment(0xED, metadata.iptc))
    for _, text in metadata.texts:
        data = text.encode()
        for at in range(0, len(data), SEGMENT):
            target.write(_segment(0xFE, data[at : at + SEGMENT]))
    shutil.copyfileobj(source, target)


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jfif(density: tuple[float, float]) -> bytes:
    """The JFIF segment: resolution in dots per inch, or per centimetre if that is exact."""
    unit, numbers = 0, (1, 1)
    if density != DENSITY:
        inch = [each * 25.4 for each in density]
        off = max(abs(each - round(each)) for each in inch)
        unit, values = (1, inch) if off < 0.01 else (2, [each * 10 for each in density])
        numbers = (_limited(values[0]), _limited(values[1]))
    return b"JFIF\0\x01\x01" + struct.pack(">BHHBB", unit, *numbers, 0, 0)


def _limited(value: float) -> int:
    return min(max(round(value), 1), 65535)


def _png(source: BinaryIO, target: BinaryIO, metadata: Metadata, exif: bytes | None) -> None:
    target.write(source.read(8 + 25))  # signature and header
    if exif is not None:
        target.write(_png_chunk(b"eXIf", exif))
    if metadata.xmp is not None:
        target.write(_png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc is not None:  # as ImageMagick and exiftool write it
        resources = metadata.iptc.removeprefix(_PHOTOSHOP_PREFIX)
        digits = re.sub("(.{72})", r"\1\n", resources.hex())
        profile = f"\niptc\n{len(resources):8}\n{digits}\n".encode()
        target.write(_png_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(profile)))
    for key, text in metadata.texts:
        target.write(_png_text(key, text))
    shutil.copyfileobj(source, target)


def _png_text(key: str, text: str) -> bytes:
    name = key.encode("latin-1", "replace")[:79] or _COMMENT.encode()
    try:
        return _png_chunk(b"tEXt", name + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _png_chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode())


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    check = binascii.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def _webp(source: BinaryIO, target: BinaryIO, metadata: Metadata, exif: bytes | None) -> None:
    source.seek(12)
    kind, first = source.read(4), source.read(4 + 10)
    source.seek(12)
    flags = (_EXIF_FLAG if exif is not None else 0) | (_XMP_FLAG if metadata.xmp else 0)
    target.write(b"RIFF\0\0\0\0WEBP")
    if kind == b"VP8X":
        target.write(kind + first[:4] + bytes([first[4] | flags]) + first[5:14])
        source.seek(12 + 18)
    elif flags:
        target.write(_webp_header(kind, first[4:], flags))
    shutil.copyfileobj(source, target)
    for name, data in ((b"EXIF", exif), (b"XMP ", metadata.xmp)):
        if data is not None:
            target.write(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2))
    nbytes = target.tell() - 8
    target.seek(4)
    target.write(struct.pack("<I", nbytes))
    target.seek(0, os.SEEK_END)


def _webp_header(kind: bytes, start: bytes, flags: int) -> bytes:
    """The extended header in front of a picture that has a simple one."""
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", start, 1)[0]
        width, height = bits & 0x3FFF, bits >> 14 & 0x3FFF
        flags |= _ALPHA_FLAG if bits >> 28 & 1 else 0
    else:
        width, height = (side % 2**14 - 1 for side in struct.unpack_from("<HH", start, 6))
    sides = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    return b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides


def _tiff(source: BinaryIO, target: BinaryIO, metadata: Metadata, exif: bytes | None) -> None:
    blocks = {700: metadata.xmp, 33723: iptc_records(metadata.iptc)}
    held = {tag: block for tag, block in blocks.items() if block}
    others = without_records(metadata.iptc)
    if others is not None:
        held[34377] = others
    add_tags(source, target, parsed(exif or b""), held)


def _jxl(source: BinaryIO, target: BinaryIO, metadata: Metadata, exif: bytes | None) -> None:
    shutil.copyfileobj(source, target)
    boxes = ((b"Exif", None if exif is None else bytes(4) + exif), (b"xml ", metadata.xmp))
    for kind, data in boxes:
        if data is not None:
            target.write(struct.pack(">I", len(data) + 8) + kind + data)


def _avif(source: BinaryIO, target: BinaryIO, metadata: Metadata, exif: bytes | None) -> None:
    """Copy the file, with the EXIF block that libvips has rewritten as it was."""
    data = source.read()
    if exif is not None:
        found = re.search(rb"Exif\0\0(?:II\*\0|MM\0\*)", data)
        start = found.start() + len(_EXIF_PREFIX) if found else 0
        room = used_length(data[start : start + 2**20]) if found else 0
        if len(exif) <= room:  # libvips adds tags, so its block is longer
            data = data[:start] + exif.ljust(room, b"\0") + data[start + room :]
    target.write(data)


EMBEDDERS: dict[str, Callable[[BinaryIO, BinaryIO, Metadata, bytes | None], None]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "tiff": _tiff,
    "jxl": _jxl,
    "avif": _avif,
}
"""The function that writes metadata into files of a kind."""
