"""Damage that the decoders of libvips pass over: each check reads a file as its format says.

libjpeg stops at the last row and libtiff at the last sample of a strip, before the marker or the
checksum that would show that they lost count; the decoder of GIF files fills what is missing.
"""

import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from glocal.images.files import as_file
from glocal.images.tiff_layout import DEFLATE, PACKBITS, Layout, contradiction
from glocal.images.tiff_tags import read_tags

__all__ = ["damage"]


def damage(kind: str, source: bytes | Path) -> str:
    """The first damage that these checks find in a file of a kind in `KINDS`; empty if none.

    Raises:
        OSError: the file cannot be read.
    """
    check = _CHECKS.get(kind)
    if check is None:
        return ""
    with as_file(source) as file:
        return check(file)


def _promise(pixels: int, most: int, nbytes: int) -> str:
    """Say so if a file of `nbytes` promises far more than `most` pixels for each of them."""
    if pixels <= most * nbytes + _CHUNK:
        return ""
    return f"{nbytes} bytes cannot hold its {pixels} pixels"


_CHUNK = 2**20

# --- PNG -------------------------------------------------------------------------------------

_PNG_PIXELS = 1032 * 8
"""Most pixels for each byte: the limit of deflate, at one bit each."""


def _png(file: BinaryIO) -> str:
    width, height = struct.unpack(">II", file.read(24)[16:].ljust(8, b"\0"))
    return _promise(width * height, _PNG_PIXELS, file.seek(0, 2))


# --- JPEG ------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff([^\0\xff\xd0-\xd7])", re.DOTALL)  # 0xff 0x00 is a sample
_BETWEEN_SCANS = frozenset((0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)))
_FOR_SCANS = frozenset((0xC4, 0xDA, 0xDB, 0xDD))
"""A scan, or tables and intervals of the scans that follow."""
_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), 0xC9, 0xCA, 0xCB))
_JPEG_PIXELS = 2048
"""Most pixels for each byte: a block of 64 takes at least a bit, of an eighth of the colours."""

_SEQUENTIAL, _SCAN, _END = (0xC0, 0xC1), 0xDA, 0xD9


def _jpeg(file: BinaryIO) -> str:
    data = file.read()
    at, complete = 2, b""
    while 0 < at < len(data) - 3 and data[at : at + 2] != b"\xff\xda":  # up to the first scan
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at = data.find(b"\xff", at + 1)
        else:
            if data[at + 1] in _FRAMES:
                sizes = (data[at + i : at + i + 2] for i in (5, 7))
                pixels = math.prod(map(int.from_bytes, sizes))
                if reason := _promise(pixels, _JPEG_PIXELS, len(data)):
                    return reason
            if data[at + 1] in _SEQUENTIAL:
                complete = data[at + 9 : at + 10]  # components
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    at, scans = max(at, 0), 0
    while found := _MARKER.search(data, at):
        marker = found[1][0]
        if marker == _END:
            return ""
        if marker not in _BETWEEN_SCANS:
            return f"the marker 0x{marker:02x} lies among the samples"
        if scans and complete and marker in _FOR_SCANS:
            return "samples follow the complete ones"
        scans += marker == _SCAN
        if scans == 1 and marker == _SCAN and data[found.end() + 2 : found.end() + 3] != complete:
            complete = b""  # further components follow
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return ""  # without an end; the decoder warns if samples are missing


# --- GIF -------------------------------------------------------------------------------------


def _gif(file: BinaryIO) -> str:
    """Decode the first image for the number of its pixels alone."""
    data = file.read()
    at = 13 + _table_bytes(data[10:11])
    while data[at : at + 1] == b"!":  # extensions
        at += 2
        at += _skipped(data, at)
    if data[at : at + 1] != b"," or len(data) < at + 11:
        return ""  # no image: the decoder says so
    left, top, width, height = struct.unpack_from("<4H", data, at + 1)
    pixels = width * height
    if (left, top) != (0, 0) or (width, height) != struct.unpack_from("<2H", data, 6):
        return "its first image does not cover it, and no colour is stated for the rest"
    at += 10 + _table_bytes(data[at + 9 : at + 10])
    if at >= len(data):
        return "it ends before its samples"
    bits, body = data[at], data[at + 1 : at + 1 + _skipped(data, at + 1)]
    if not 1 <= bits <= 11:
        return "the size of its codes is wrong"
    blocks, start = [], 0
    while start < len(body) and body[start]:
        blocks.append(body[start + 1 : start + 1 + body[start]])
        start += 1 + body[start]
    number = _lzw_length(b"".join(blocks), bits, pixels)
    return "" if number == pixels else f"it holds {number} pixels of {pixels}"


def _table_bytes(flags: bytes) -> int:
    """Size of the colour table that flags announce."""
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _skipped(data: bytes, at: int) -> int:
    """Bytes of a chain of blocks, with the empty one at its end."""
    start = at
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1 - start


def _lzw_length(data: bytes, bits: int, most: int) -> int:
    """Number of values that LZW codes encode; stops above `most`, or at an undefined code."""
    clear, end = 1 << bits, (1 << bits) + 1
    lengths, width, before, total = [1] * (clear + 2), bits + 1, 0, 0
    buffer = held = 0
    for byte in data:
        buffer |= byte << held
        held += 8
        while held >= width:
            code = buffer & (2**width - 1)
            buffer, held = buffer >> width, held - width
            if code == end:
                return total
            if code == clear:
                lengths, width, before = lengths[: clear + 2], bits + 1, 0
                continue
            if code > len(lengths) or (code == len(lengths) and not before):
                return total
            if before and len(lengths) < 4096:
                lengths.append(before + 1)
            elif code == len(lengths):
                return total
            before = int(lengths[code])
            total += before
            if total > most:
                return total
            if len(lengths) == 2**width and width < 12:
                width += 1
    return total


# --- TIFF ------------------------------------------------------------------------------------

_MOST_INFLATION = {1: 4, 5: 4096, **dict.fromkeys(DEFLATE, 1100), PACKBITS: 64}
"""Most bytes of samples for each byte of a file, by the number of the compression."""


def _tiff(file: BinaryIO) -> str:
    tags = read_tags(file)
    layout = tags.layout
    if tags.is_raw:
        return ""
    if not layout.number:
        return "it states no size"
    end = file.seek(0, 2)
    if any(at + nbytes > end for at, nbytes in layout.places):
        return "samples lie beyond the end of the file"
    if reason := contradiction(layout):
        return reason
    stored = sum(nbytes for _, nbytes in layout.places)
    most = _MOST_INFLATION.get(layout.compression, math.inf)
    if layout.places and layout.nbytes > most * stored + _CHUNK:
        return f"{stored} bytes cannot hold its {layout.nbytes} bytes of samples"
    if layout.compression in DEFLATE and not _inflates(file, layout):
        return "its samples do not inflate to what the sizes state"
    if layout.compression == PACKBITS and not _unpacks(file, layout):
        return "its samples do not unpack to what the sizes state"
    return ""


def _inflates(file: BinaryIO, layout: Layout) -> bool:
    for at, nbytes in layout.places:
        file.seek(at)
        stream, data, left = zlib.decompressobj(), b"", layout.most
        try:
            while not stream.eof and (data or nbytes) and left >= 0:
                if not data:
                    data = file.read(min(nbytes, _CHUNK))
                    nbytes -= len(data)
                left -= len(stream.decompress(data, _CHUNK))
                data = stream.unconsumed_tail
        except zlib.error:
            return False
        if not stream.eof or left < 0:
            return False
    return True


def _unpacks(file: BinaryIO, layout: Layout) -> bool:
    """Count the bytes of PackBits: a byte n is followed by n + 1 bytes, or by one to repeat."""
    sizes = layout.sizes()
    for (at, nbytes), size in zip(layout.places, sizes or (), strict=sizes is not None):
        file.seek(at)
        data, position, total = file.read(nbytes), 0, 0
        while position < len(data) and total < size:
            code = data[position]
            position += code + 2 if code < 128 else 2 - (code == 128)
            total += code + 1 if code < 128 else (257 - code) * (code != 128)
        if total != size or position > len(data) or any(data[position:]):
            return False
    return True


_CHECKS: dict[str, Callable[[BinaryIO], str]] = {
    "png": _png,
    "jpeg": _jpeg,
    "gif": _gif,
    "tiff": _tiff,
}
