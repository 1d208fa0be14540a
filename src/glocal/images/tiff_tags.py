"""Descriptive tags of TIFF files: read from the first directory, and added to a written file.

libvips carries none of them. Tags that describe the layout of the pixels are not metadata.
"""

import os
import shutil
import struct
from collections.abc import Iterable
from typing import BinaryIO, Literal, NamedTuple

from glocal.images.exif import (
    EXIF_POINTER,
    GPS_POINTER,
    TYPE_SIZES,
    Entry,
    Tags,
    native,
)
from glocal.images.tiff_layout import Layout

__all__ = ["TiffFile", "add_tags", "is_raw", "read_tags", "rows_at_once", "wrong_orientation"]

_LARGEST_VALUE = 2**24
"""Bytes; larger values are not what people write about a picture."""

_LAYOUT = frozenset(
    [254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281,
     282, 283, 284, 286, 287, 288, 289, 290, 291, 292, 293, 296, 297, 301, 317, 318, 319, 320, 321,
     322, 323, 324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 343, 344,
     345, 346, 347, 351, 400, 401, 402, 403, 404, 405, *range(512, 522), 529, 530, 531, 532, 559,
     32995, 32996, 32997, 32998, 33421, 33422, 34675, 34677, 37724, 50674,
     EXIF_POINTER, GPS_POINTER]
)  # fmt: skip
"""Tags that describe samples, strips, tiles and colours, and Photoshop's layers (37724)."""

_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_DNG = range(50706, 52600)
_CFA = 32803
_ORIENTATION = 274
_ROWS, _STRIP_ROWS, _TILE_ROWS = 257, 278, 323


class TiffFile(NamedTuple):
    """What the first directory of a TIFF file says about the picture.

    Attributes:
        tags: the descriptive ones.
        xmp, iptc, photoshop: blocks in tags of their own, or None.
        is_raw: whether it holds the samples of a camera's sensor.
        layout: where the samples lie, and what they are.
    """

    tags: Tags
    xmp: bytes | None
    iptc: bytes | None
    photoshop: bytes | None
    is_raw: bool
    layout: Layout


def read_tags(file: BinaryIO) -> TiffFile:
    """Read the first directory of a TIFF or BigTIFF file; what is damaged is left out."""
    reader = _Reader(file)
    entries = reader.directory(reader.first)
    subs = [reader.directory(at) for at in reader.numbers(entries.get(330))[:8]]
    photometrics = {reader.number(each.get(262)) for each in (entries, *subs)}
    is_raw = reader.is_camera_file or 50706 in entries or _CFA in photometrics
    tags = Tags(reader.order)
    tags.main = {
        tag: entry
        for tag, entry in entries.items()
        if tag not in _LAYOUT and tag not in (_XMP, _IPTC, _PHOTOSHOP) and tag not in _DNG
    }
    for name, pointer in (("exif", EXIF_POINTER), ("gps", GPS_POINTER)):
        for at in reader.numbers(entries.get(pointer))[:1]:
            setattr(tags, name, reader.directory(at))
    for at in reader.numbers(tags.exif.pop(0xA005, None))[:1]:
        tags.interop = reader.directory(at)

    def blob(tag: int) -> bytes | None:
        return entries[tag].value if tag in entries else None

    return TiffFile(
        tags, blob(_XMP), blob(_IPTC), blob(_PHOTOSHOP), is_raw, reader.layout(entries)
    )  # fmt: skip


def wrong_orientation(file: BinaryIO) -> tuple[int, str] | None:
    """Return position and byte order of an orientation that no picture can have, or None."""
    return _Reader(file).wrong_orientation()


def rows_at_once(file: BinaryIO) -> int:
    """The rows of a strip or tile of a TIFF file; those of the whole image if it has one strip."""
    reader = _Reader(file)
    entries = reader.directory(reader.first)
    return reader.number(entries.get(_TILE_ROWS)) or reader.number(
        entries.get(_STRIP_ROWS) or entries.get(_ROWS)
    )


def is_raw(file: BinaryIO) -> bool:
    """True if a file that begins like a TIFF file holds the samples of a camera's sensor."""
    return read_tags(file).is_raw


def add_tags(source: BinaryIO, target: BinaryIO, tags: Tags, blocks: dict[int, bytes]) -> None:
    """Copy a TIFF file, with a first directory that has more tags.

    Args:
        source: a file of libvips; directories of other pages stay as they are.
        target: an empty file, readable and writable.
        tags: to add; those of the layout are left out.
        blocks: bytes of further tags, by number.
    """
    shutil.copyfileobj(source, target)
    reader = _Reader(target)
    entries = reader.raw_directory(reader.first)
    added = native(tags, reader.order)
    main = {tag: entry for tag, entry in added.main.items() if tag not in _LAYOUT}
    main |= {tag: Entry(1, len(b), b) for tag, b in blocks.items()}
    exif = dict(added.exif)
    if added.interop:
        exif[0xA005] = reader.append_directory(added.interop.items())
    for pointer, directory in ((EXIF_POINTER, exif), (GPS_POINTER, added.gps)):
        if directory:
            main[pointer] = reader.append_directory(directory.items())
    for tag, entry in main.items():
        entries.setdefault(tag, reader.packed(tag, entry))
    reader.replace_first(entries)


class _Reader:
    """Reads and appends directories of a TIFF or BigTIFF file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        start = self._at(0, 16)
        self.order = "<" if start[:2] == b"II" else ">"
        self.is_camera_file = start[8:10] == b"CR" or start[2:4] in (b"RO", b"RS", b"U\0")
        self.big = self._unpack("H", start, 2) == 43
        self.word, self.count = ("Q", "Q") if self.big else ("I", "H")
        self.first = self._unpack(self.word, start, 8 if self.big else 4)

    def directory(self, at: int) -> dict[int, Entry]:
        """The entries whose values can be read."""
        found = {}
        for tag, raw in self.raw_directory(at).items():
            _, kind, count = struct.unpack_from(f"{self.order}HH{self.word}", raw)
            nbytes = TYPE_SIZES.get(kind, 0) * count
            inline = struct.calcsize("=" + self.word)
            value = raw[-inline:][:nbytes]
            if inline < nbytes <= _LARGEST_VALUE:
                value = self._at(self._unpack(self.word, raw, len(raw) - inline), nbytes)
            if nbytes and len(value) == nbytes:
                found[tag] = Entry(kind, count, value)
        return found

    def raw_directory(self, at: int) -> dict[int, bytes]:
        """The entries as they are in the file, by tag."""
        counted = struct.calcsize("=" + self.count)
        size = 20 if self.big else 12
        number = self._unpack(self.count, self._at(at, counted), 0) if at else 0
        data = self._at(at + counted, min(number, 4096) * size)
        whole = range(0, len(data) // size * size, size)
        return {self._unpack("H", data, n): data[n : n + size] for n in whole}

    def wrong_orientation(self) -> tuple[int, str] | None:
        """Position and byte order of an orientation other than 1 to 8 in the first directory."""
        counted, size = struct.calcsize("=" + self.count), 20 if self.big else 12
        for index, (tag, raw) in enumerate(self.raw_directory(self.first).items()):
            value = len(raw) - struct.calcsize("=" + self.word)
            if tag == _ORIENTATION and not 1 <= self._unpack("H", raw, value) <= 8:
                return self.first + counted + index * size + value, self.order
        return None

    def numbers(self, entry: Entry | None) -> list[int]:
        """The values of an entry of whole numbers."""
        form = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(entry.type if entry else 0)
        if entry is None or form is None:
            return []
        return [*struct.unpack(f"{self.order}{entry.number}{form}", entry.value)]

    def number(self, entry: Entry | None) -> int:
        """The first value of an entry; 0 if there is none."""
        return next(iter(self.numbers(entry)), 0)

    def layout(self, entries: dict[int, Entry]) -> Layout:
        """Where the strips or tiles of a directory lie, and what is in them."""
        places = (
            place
            for starts, lengths in ((273, 279), (324, 325))
            for place in zip(
                self.numbers(entries.get(starts)), self.numbers(entries.get(lengths)), strict=False
            )
        )
        width, height, rows, across, down = (
            self.number(entries.get(tag)) for tag in (256, 257, _STRIP_ROWS, 322, _TILE_ROWS)
        )
        return Layout(
            places=tuple(places),
            compression=self.number(entries.get(259)) or 1,
            photometric=self.number(entries.get(262)),
            height=height,
            width=width,
            rows=down if across else min(rows or height, height),
            across=across,
            bits=self.numbers(entries.get(258)) or [1],
            samples=self.number(entries.get(277)) or 1,
            extras=entries[338].number if 338 in entries else None,
            in_planes=self.number(entries.get(284)) == 2,
        )

    def packed(self, tag: int, entry: Entry) -> bytes:
        """An entry as it is written; a long value is appended to the file."""
        inline = struct.calcsize("=" + self.word)
        value = entry.value.ljust(inline, b"\0")
        if len(value) > inline:
            value = struct.pack(self.order + self.word, self._append(entry.value))
        return struct.pack(f"{self.order}HH{self.word}", tag, entry.type, entry.number) + value

    def append_directory(self, entries: Iterable[tuple[int, Entry]]) -> Entry:
        """Append a directory; return the entry that points to it."""
        at = self._append(self._joined({tag: self.packed(tag, entry) for tag, entry in entries}))
        size = struct.calcsize("=" + self.word)
        return Entry(18 if self.big else 4, 1, at.to_bytes(size, self._endian))

    def replace_first(self, entries: dict[int, bytes]) -> None:
        """Append the first directory, and point to it; it points to the next as before."""
        counted, size = struct.calcsize("=" + self.count), 20 if self.big else 12
        number = self._unpack(self.count, self._at(self.first, counted), 0)
        link = self._at(self.first + counted + number * size, struct.calcsize("=" + self.word))
        at = self._append(self._joined(entries)[: -len(link)] + link)
        self.file.seek(8 if self.big else 4)
        self.file.write(struct.pack(self.order + self.word, at))

    @property
    def _endian(self) -> Literal["little", "big"]:
        return "little" if self.order == "<" else "big"

    def _joined(self, entries: dict[int, bytes]) -> bytes:
        parts = b"".join(raw for _, raw in sorted(entries.items()))
        none = bytes(struct.calcsize("=" + self.word))
        return struct.pack(self.order + self.count, len(entries)) + parts + none

    def _append(self, data: bytes) -> int:
        at = self.file.seek(0, os.SEEK_END)
        at += self.file.write(bytes(at % 2))
        self.file.write(data)
        return at

    def _at(self, at: int, nbytes: int) -> bytes:
        if at >= 2**62:  # no file is as large: the offset is damaged
            return b""
        self.file.seek(at)
        return self.file.read(nbytes)

    def _unpack(self, form: str, data: bytes, at: int) -> int:
        size = struct.calcsize("=" + form)
        if len(data) < at + size:
            return 0
        return int(struct.unpack_from(self.order + form, data, at)[0])
