"""Damaged copies of files, each told by the file and a number.

Half of the changes know nothing of the format; the others edit a container and leave the rest of
it right: a chunk of a PNG file with a valid checksum, an entry of a TIFF directory, a segment of a
JPEG file, a box, an entry of an archive, the header of a safetensors file.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 2**31, 2**32 - 1)

# size, samples, compression, strips and tiles of TIFF files
_TAGS = (*range(256, 260), 262, 273, 277, 278, 279, 284, 322, 324, 330, 338, 339)

Change = Callable[[random.Random, bytearray, bytes], bytes | bytearray]


def mutated(data: bytes, other: bytes, seed: str) -> bytes:
    """A damaged copy of `data`; one of the changes takes bytes of another file."""
    rng = random.Random(seed)
    structured = _of_container(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice(structured if structured and rng.random() < 0.5 else _PLAIN)
        if data:
            data = bytes(change(rng, bytearray(data), other))
    return data


def _place(rng: random.Random, data: bytes | bytearray) -> int:
    # headers decide more than pixels do
    most = len(data) if rng.random() < 0.5 else min(len(data), 256)
    return rng.randrange(most)


def _cut(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    return data[: _place(rng, data)] if rng.random() < 0.3 else data[: -rng.randint(1, 64)]


def _flip(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _byte(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    data[_place(rng, data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return data


def _fill(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((2, 4, 16, 64, 256))
    data[at : at + length] = bytes([rng.choice((0, 255))]) * len(data[at : at + length])
    return data


def _remove(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 2, 4, 16, 64))]
    return data


def _repeat(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 16, 64))
    data[at:at] = data[at : at + length] * rng.choice((1, 1, 8))
    return data


def _swap(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    length = rng.choice((1, 4, 16))
    a, b = sorted((_place(rng, data), _place(rng, data)))
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
    return data


def _number(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, value = _place(rng, data), rng.choice((*_NUMBERS, len(data)))
    code = rng.choice("HIQ")
    packed = struct.pack(rng.choice("<>") + code, value % 2 ** (8 * struct.calcsize("<" + code)))
    data[at : at + len(packed)] = packed
    return data


def _splice(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    if rng.random() < 0.5 or not other:
        return data[: _place(rng, data)] + other[_place(rng, other or data) :]
    at, start = _place(rng, data), _place(rng, other)
    data[at : at + 64] = other[start : start + 64]
    return data


_PLAIN: tuple[Change, ...] = (
    *(_cut, _flip, _flip, _byte, _fill, _remove, _repeat, _swap, _number, _number, _splice),
)


def _pieces(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """Drop, repeat, swap or damage one of the parts of a file."""
    at, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    kind = rng.randrange(4)
    if kind == 0:
        del pieces[at]
    elif kind == 1:
        pieces.insert(other, pieces[at])
    elif kind == 2:
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif pieces[at]:
        pieces[at] = bytes(rng.choice(_PLAIN)(rng, bytearray(pieces[at]), pieces[other]))
    return pieces


def _png(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, chunks = 8, []
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append(bytes(data[at + 4 : at + 8 + length]))
        at += 12 + length
    chunks = _pieces(rng, chunks) if chunks else []
    if rng.random() < 0.3:  # pixels that are wrong inside of valid compression
        chunks = [_deflated_anew(rng, each) for each in chunks]
    parts = (
        struct.pack(">I", max(0, len(c) - 4)) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
    return bytes(data[:8]) + b"".join(parts)


def _deflated_anew(rng: random.Random, chunk: bytes) -> bytes:
    if not chunk.startswith(b"IDAT"):
        return chunk
    try:
        raw = bytearray(zlib.decompress(chunk[4:]))
    except zlib.error:
        return chunk
    return b"IDAT" + zlib.compress(bytes(rng.choice(_PLAIN)(rng, raw, b"")))


def _tiff(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    if len(data) < 8:
        return data
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return data
    (count,) = struct.unpack_from(order + "H", data, at)
    if not count or at + 2 + 12 * count > len(data):
        return data
    entry = at + 2 + 12 * rng.randrange(count)
    kind = rng.randrange(5)
    if kind == 0:  # another tag
        struct.pack_into(
            order + "H",
            data,
            entry,
            rng.choice(_TAGS),
        )
    elif kind == 1:  # another type
        struct.pack_into(order + "H", data, entry + 2, rng.randrange(20))
    elif kind == 2:
        struct.pack_into(order + "I", data, entry + 4, rng.choice(_NUMBERS))
    elif kind == 3:
        struct.pack_into(order + "I", data, entry + 8, rng.choice((*_NUMBERS, at, len(data))))
    else:
        struct.pack_into(order + "H", data, entry + 8, rng.randrange(20))
    return data


def _jpeg(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, segments = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        segments.append(bytes(data[at : at + 2 + length]))
        at += 2 + length
    segments = _pieces(rng, segments) if segments else []
    return bytes(data[:2]) + b"".join(segments) + bytes(data[at:])


def _boxes(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, boxes = 0, []
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        length = length if 8 <= length <= len(data) - at else len(data) - at
        boxes.append(bytes(data[at : at + length]))
        at += length
    return b"".join(_pieces(rng, boxes)) if boxes else data


def _riff(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    at, chunks = 12, []
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks.append(bytes(data[at : at + 8 + length + length % 2]))
        at += 8 + length + length % 2
    body = b"".join(_pieces(rng, chunks)) if chunks else b""
    return b"RIFF" + struct.pack("<I", len(body) + 4) + bytes(data[8:12]) + body


def _zip(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # zipfile has many errors for what an earlier change did
        return data
    if not entries:
        return data
    pickled = [name for name in entries if name.endswith("data.pkl")]
    name = rng.choice(pickled if pickled and rng.random() < 0.6 else list(entries))
    content = entries[name] and rng.choice(_PLAIN)(rng, bytearray(entries[name]), b"")
    file = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", method) as archive:
        for each, whole in entries.items():
            archive.writestr(each, bytes(content) if each == name else whole)
    return file.getvalue()


def _safetensors(rng: random.Random, data: bytearray, _: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = bytearray(data[8 : 8 + length])
    if not header:
        return data
    if rng.random() < 0.5:  # another number or type, in valid JSON
        digits = [i for i, each in enumerate(header) if chr(each).isdigit()]
        at = rng.choice(digits or [0])
        header[at : at + 1] = rng.choice((b"0", b"9", b"9" * 20, b"-1", b"1.5", b'"x"'))
    else:
        header = bytearray(rng.choice(_PLAIN)(rng, header, b""))
    return struct.pack("<Q", len(header)) + bytes(header) + bytes(data[8 + length :])


_CONTAINERS: tuple[tuple[bytes, int, Change], ...] = (
    (b"\x89PNG", 0, _png),
    (b"\xff\xd8\xff", 0, _jpeg),
    (b"II*\0", 0, _tiff),
    (b"MM\0*", 0, _tiff),
    (b"RIFF", 0, _riff),
    (b"ftyp", 4, _boxes),
    (b"JXL ", 4, _boxes),
    (b"jP  ", 4, _boxes),
    (b"PK\x03\x04", 0, _zip),
    (b'{"', 8, _safetensors),
)


def _of_container(data: bytes) -> tuple[Change, ...]:
    return tuple(change for magic, at, change in _CONTAINERS if data[at : at + len(magic)] == magic)
