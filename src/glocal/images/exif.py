"""EXIF blocks: directories of TIFF tags, changed in place or read and built.

A block is a small TIFF file without pixels. What can be changed in place is: offsets inside maker
notes, whose layout only their makers know, stay valid.

A few lines above 300: reading, changing and building share the layout.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

__all__ = [
    "EXIF_POINTER",
    "GPS_POINTER",
    "MAKER_NOTE",
    "POINTERS",
    "TYPE_SIZES",
    "Entry",
    "Tags",
    "built",
    "is_damaged",
    "native",
    "parsed",
    "swapped",
    "upright",
    "used_length",
    "with_size",
    "without_gps",
]

TYPE_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
"""Bytes of one value of each TIFF type."""

_PARTS = {5: 4, 10: 4}  # a rational is two numbers

ORIENTATION, EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x0112, 0x8769, 0x8825, 0xA005
MAKER_NOTE = 0x927C
POINTERS = {"exif": EXIF_POINTER, "gps": GPS_POINTER, "interop": INTEROP_POINTER}
_SIDES = {0x0100: 1, 0x0101: 0, 0xA002: 1, 0xA003: 0}  # tags of width and height


class Entry(NamedTuple):
    """One tag: its TIFF type, number of values, and their bytes."""

    type: int
    number: int
    value: bytes


Directory: TypeAlias = dict[int, Entry]


@dataclass
class Tags:
    """Directories of tags, by number of the tag.

    Attributes:
        order: byte order of the values, "<" or ">".
        main: of the picture: camera, artist, copyright, ...
        exif, gps, interop: of the exposure, the place, and compatibility.
    """

    order: str = "<"
    main: Directory = field(default_factory=dict)
    exif: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    interop: Directory = field(default_factory=dict)

    def __bool__(self) -> bool:
        """True if there is any tag."""
        return bool(self.main or self.exif or self.gps or self.interop)


def parsed(block: bytes) -> Tags:
    """Read the directories of a block; entries that point outside of it are left out."""
    body = _body(block)
    order, first = _start(body)
    tags = Tags(order)
    tags.main = _directory(body, order, first)
    for name, pointer, holder in (
        ("exif", EXIF_POINTER, tags.main),
        ("gps", GPS_POINTER, tags.main),
        ("interop", INTEROP_POINTER, tags.exif),
    ):
        entry = (tags.exif if name == "interop" else holder).pop(pointer, None)
        if entry is not None and len(entry.value) >= 4:
            at = struct.unpack_from(order + "I", entry.value)[0]
            setattr(tags, name, _directory(body, order, at))
    return tags


def built(tags: Tags) -> bytes:
    """Return a block with these tags, without the prefix that JPEG files use."""
    header = (b"II*\0" if tags.order == "<" else b"MM\0*") + struct.pack(tags.order + "I", 8)
    return header + _layout(tags, len(header))


def swapped(entry: Entry, order: str, wanted: str) -> Entry:
    """Return an entry with its values in the other byte order, if it differs."""
    size = _PARTS.get(entry.type, TYPE_SIZES.get(entry.type, 1))
    if order == wanted or size == 1:
        return entry
    whole = len(entry.value) // size * size
    parts = (entry.value[at : at + size][::-1] for at in range(0, whole, size))
    return entry._replace(value=b"".join(parts))


def native(tags: Tags, order: str) -> Tags:
    """Return the tags with values in a byte order."""

    def directory(entries: Mapping[int, Entry]) -> Directory:
        return {tag: swapped(entry, tags.order, order) for tag, entry in entries.items()}

    return Tags(order, *map(directory, (tags.main, tags.exif, tags.gps, tags.interop)))


def is_damaged(block: bytes) -> bool:
    """True if a block has no directory, or ends before the first one does.

    >>> is_damaged(b"no block"), is_damaged(built(Tags(main={0x010F: Entry(2, 2, b"A")})))
    (True, False)
    """
    body = _body(block)
    order, first = _start(body)
    if first is None or len(body) < first + 2:
        return True
    (count,) = struct.unpack_from(order + "H", body, first)
    return len(body) < first + 2 + 12 * int(count)


def upright(block: bytes) -> bytes:
    """Set the orientation to 1, and remove the thumbnail, which shows the picture as it was."""
    start = len(block) - len(_body(block))
    patched = bytearray(block)
    body = memoryview(patched)[start:]
    order, first = _start(body)
    for tag, kind, _, at in _entries(body, order, first):
        if tag == ORIENTATION and kind == 3:
            struct.pack_into(order + "H", body, at, 1)
    link = _link(body, order, first)
    if link is not None and (at := struct.unpack_from(order + "I", body, link)[0]):
        struct.pack_into(order + "I", body, link, 0)
        end = _wipe_thumbnail(body, order, at)
        body.release()
        if end == len(patched) - start:
            del patched[start + used_length(bytes(patched[start:])) :]
    return bytes(patched)


def with_size(block: bytes, size: tuple[int, int]) -> bytes:
    """Set the tags of the picture's size, where there are any, to (height, width)."""
    start = len(block) - len(_body(block))
    patched = bytearray(block)
    body = memoryview(patched)[start:]
    order, first = _start(body)
    for directory in (first, _pointer(body, order, first, EXIF_POINTER)):
        for tag, kind, _, at in _entries(body, order, directory):
            side = size[_SIDES[tag]] if tag in _SIDES else None
            if side is not None and (kind == 4 or (kind == 3 and side < 2**16)):
                struct.pack_into(order + ("I" if kind == 4 else "H"), body, at, side)
    return bytes(patched)


def without_gps(block: bytes) -> bytes | None:
    """Remove the place where the picture was taken, and wipe its bytes; None if nothing is left."""
    start = len(block) - len(_body(block))
    patched = bytearray(block)
    body = memoryview(patched)[start:]
    order, first = _start(body)
    place = _pointer(body, order, first, GPS_POINTER)
    if place is None or place + 2 > len(body):
        return block
    for _, kind, count, at in [*_entries(body, order, place)]:
        nbytes = TYPE_SIZES.get(kind, 1) * count
        body[at : at + nbytes] = bytes(len(body[at : at + nbytes]))
    number = struct.unpack_from(order + "H", body, place)[0]
    whole = len(body[place : place + 2 + 12 * number])
    body[place : place + whole] = bytes(whole)
    _remove(body, order, first, GPS_POINTER)
    return bytes(patched) if parsed(bytes(patched)) else None


def _body(block: bytes) -> bytes:
    return block[6:] if block.startswith(b"Exif\0\0") else block


def _start(body: bytes | memoryview) -> tuple[str, int | None]:
    order = "<" if bytes(body[:2]) == b"II" else ">"
    return order, struct.unpack_from(order + "I", body, 4)[0] if len(body) >= 8 else None


def _entries(
    body: bytes | memoryview, order: str, at: int | None
) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and position of the value of each entry whose value lies in the block."""
    if at is None or at + 2 > len(body):
        return
    for number in range(struct.unpack_from(order + "H", body, at)[0]):
        entry = at + 2 + 12 * number
        if entry + 12 > len(body):
            return  # cut short
        tag, kind, count = struct.unpack_from(order + "HHI", body, entry)
        nbytes = TYPE_SIZES.get(kind, 0) * count
        value = entry + 8
        if nbytes > 4:
            value = struct.unpack_from(order + "I", body, value)[0]
        if nbytes and value + nbytes <= len(body):
            yield tag, kind, count, value


def _directory(body: bytes, order: str, at: int | None) -> Directory:
    return {
        tag: Entry(kind, count, body[value : value + TYPE_SIZES[kind] * count])
        for tag, kind, count, value in _entries(body, order, at)
    }


def _pointer(body: memoryview, order: str, at: int | None, wanted: int) -> int | None:
    for tag, kind, _, value in _entries(body, order, at):
        if tag == wanted and kind in (4, 13):
            return int(struct.unpack_from(order + "I", body, value)[0])
    return None


def _link(body: memoryview, order: str, at: int | None) -> int | None:
    """Position of the pointer from a directory to the next, which is that of the thumbnail."""
    if at is None or at + 2 > len(body):
        return None
    link = at + 2 + 12 * int(struct.unpack_from(order + "H", body, at)[0])
    return link if link + 4 <= len(body) else None


def _wipe_thumbnail(body: memoryview, order: str, at: int) -> int:
    """Fill the pixels of the thumbnail, and its directory, with zeros; return where they end."""
    found = {
        tag: struct.unpack_from(order + ("I" if kind == 4 else "H"), body, value)[0]
        for tag, kind, _, value in _entries(body, order, at)
        if kind in (3, 4)
    }
    where, nbytes = found.get(0x0201, found.get(0x0111)), found.get(0x0202, found.get(0x0117))
    end = 0
    if where is not None and nbytes is not None and where + nbytes <= len(body):
        body[where : where + nbytes] = bytes(nbytes)
        end = where + nbytes
    link = _link(body, order, at)
    if link is not None:
        body[at : link + 4] = bytes(link + 4 - at)
        end = max(end, link + 4)
    return end


def used_length(body: bytes) -> int:
    """Bytes of a block without prefix up to the last that a directory refers to."""
    order, first = _start(body)
    view = memoryview(body)
    directories = [first, *(_pointer(view, order, first, tag) for tag in (0x8769, 0x8825))]
    directories.append(_pointer(view, order, directories[1], INTEROP_POINTER))
    end = 8
    for directory in directories:
        link = _link(view, order, directory)
        end = max(end, 0 if link is None else link + 4)
        for _, kind, count, value in _entries(body, order, directory):
            end = max(end, value + TYPE_SIZES[kind] * count)
    return end


def _remove(body: memoryview, order: str, at: int | None, tag: int) -> None:
    """Remove an entry of a directory; those behind it move up."""
    if at is None or at + 2 > len(body):
        return
    number = struct.unpack_from(order + "H", body, at)[0]
    for index in range(number):
        entry = at + 2 + 12 * index
        if entry + 12 <= len(body) and struct.unpack_from(order + "H", body, entry)[0] == tag:
            end = min(at + 2 + 12 * number + 4, len(body))
            rest = bytes(body[entry + 12 : end])
            body[entry : entry + len(rest)] = rest
            body[entry + len(rest) : end] = bytes(end - entry - len(rest))
            struct.pack_into(order + "H", body, at, number - 1)
            return


def _layout(tags: Tags, at: int) -> bytes:
    """Lay out all directories, of which the first begins at a position of the block."""
    order = tags.order
    exif = dict(tags.exif)
    main = dict(tags.main)

    def length(entries: Mapping[int, Entry]) -> int:
        padded = (n + n % 2 for n in (len(e.value) for e in entries.values()) if n > 4)
        return 2 + 12 * len(entries) + 4 + sum(padded)

    held = Entry(4, 1, bytes(4))
    if tags.interop:
        exif[INTEROP_POINTER] = held
    if exif:
        main[EXIF_POINTER] = held
    if tags.gps:
        main[GPS_POINTER] = held
    sections = [main, exif, tags.gps, tags.interop]
    starts = [at]
    for section in sections[:-1]:
        starts.append(starts[-1] + (length(section) if section else 0))

    def pointer(index: int) -> Entry:
        return held._replace(value=struct.pack(order + "I", starts[index]))

    if exif:
        main[EXIF_POINTER] = pointer(1)
    if tags.gps:
        main[GPS_POINTER] = pointer(2)
    if tags.interop:
        exif[INTEROP_POINTER] = pointer(3)
    return b"".join(
        _written(section, order, start)
        for section, start in zip(sections, starts, strict=True)
        if section or section is main
    )


def _written(entries: Mapping[int, Entry], order: str, at: int) -> bytes:
    head = struct.pack(order + "H", len(entries))
    values = b""
    start = at + 2 + 12 * len(entries) + 4
    for tag, (kind, count, value) in sorted(entries.items()):
        head += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            head += value.ljust(4, b"\0")
        else:
            head += struct.pack(order + "I", start + len(values))
            values += value + bytes(len(value) % 2)
    return head + bytes(4) + values
