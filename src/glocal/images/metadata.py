"""What image files say about their pictures, and blocks of it that formats share."""

import dataclasses
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from glocal.images.exif import without_gps

__all__ = [
    "DENSITY",
    "Metadata",
    "Strip",
    "iptc_records",
    "photoshop_block",
    "stripped",
    "upright_xmp",
    "without_records",
]

DENSITY = (72 / 25.4, 72 / 25.4)
"""Pixels per millimetre of a file that does not state its resolution: 72 dpi."""

Strip: TypeAlias = Literal["gps", "all"]
"""What to leave out of results: the place, or everything but colours and resolution."""

_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC, _DIGEST, _COPYRIGHT_FLAG, _URL = 0x0404, 0x0425, 0x040A, 0x040B
_LOCATIONS = (26, 27, 90, 92, 95, 100, 101)  # of IPTC's second record: from city to country


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file, as in `glocal.images.image_files.Image`."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    density: tuple[float, float] = DENSITY
    lossless: bool = False
    notes: tuple[str, ...] = ()


def stripped(metadata: Metadata, what: Strip | None) -> Metadata:
    """Return the metadata without the place of the picture, or without all that describes it."""
    if what is None:
        return metadata
    if what == "all":
        return dataclasses.replace(metadata, exif=None, xmp=None, iptc=None, texts=())
    return dataclasses.replace(
        metadata,
        exif=None if metadata.exif is None else without_gps(metadata.exif),
        xmp=None if metadata.xmp is None else _xmp_without_gps(metadata.xmp),
        iptc=None if metadata.iptc is None else _iptc_without_place(metadata.iptc),
    )


def upright_xmp(xmp: bytes) -> bytes:
    """Set the orientation in an XMP packet to 1."""
    return re.sub(rb'(tiff:Orientation(?:=["\']|>))[1-8]', rb"\g<1>1", xmp)


def photoshop_block(resources: bytes | None, iptc: bytes | None = None) -> bytes | None:
    """Return a Photoshop block of what describes a picture: IPTC, copyright flag and URL.

    >>> photoshop_block(None, b"hello")
    b'Photoshop 3.0\\x008BIM\\x04\\x04\\x00\\x00\\x00\\x00\\x00\\x05hello\\x00'

    Args:
        resources: a block as in JPEG files, or without its prefix as in TIFF files.
        iptc: records of IPTC, as in TIFF files; those in `resources` are preferred.
    """
    kept = dict(_resources(resources)) if resources else {}
    if iptc and _IPTC not in kept:
        kept = {_IPTC: iptc} | kept
    wanted = {
        kind: data for kind, data in kept.items() if kind in (_IPTC, _DIGEST, _COPYRIGHT_FLAG, _URL)
    }
    if set(wanted) <= {_DIGEST}:
        return None
    return _PHOTOSHOP + _joined(wanted)


def iptc_records(block: bytes | None) -> bytes | None:
    """The records of IPTC in a Photoshop block, or None."""
    return None if block is None else dict(_resources(block)).get(_IPTC)


def without_records(block: bytes | None) -> bytes | None:
    """The other resources of a Photoshop block, without its prefix; None if there are none."""
    found = {} if block is None else dict(_resources(block))
    others = {kind: data for kind, data in found.items() if kind not in (_IPTC, _DIGEST)}
    return _joined(others) or None


def _joined(resources: dict[int, bytes]) -> bytes:
    return b"".join(
        b"8BIM" + struct.pack(">HHI", kind, 0, len(data)) + data + bytes(len(data) % 2)
        for kind, data in resources.items()
    )


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and data of each resource of a Photoshop block; a damaged rest is left out."""
    at = len(_PHOTOSHOP) if block.startswith(_PHOTOSHOP) else 0
    if block[at : at + 4] != b"8BIM" and block[at : at + 1] == b"\x1c":
        yield _IPTC, block[at:]  # some programs write the records alone
        return
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        kind, name = struct.unpack_from(">HB", block, at + 4)
        start = at + 6 + (name + 2) // 2 * 2
        if start + 4 > len(block):
            return
        nbytes = struct.unpack_from(">I", block, start)[0]
        if start + 4 + nbytes > len(block):
            return
        yield kind, block[start + 4 : start + 4 + nbytes]
        at = start + 4 + nbytes + nbytes % 2


def _xmp_without_gps(xmp: bytes) -> bytes:
    """Remove the properties of EXIF's GPS directory, as attributes and as elements."""
    xmp = re.sub(rb"""\s*exif:GPS\w+\s*=\s*("[^"]*"|'[^']*')""", b"", xmp)
    xmp = re.sub(rb"\s*<exif:(GPS\w+)\b[^>]*?/>", b"", xmp)
    return re.sub(rb"\s*<exif:(GPS\w+)\b.*?</exif:\1\s*>", b"", xmp, flags=re.DOTALL)


def _iptc_without_place(block: bytes) -> bytes | None:
    """Remove the datasets of places from the IPTC records of a Photoshop block."""
    kept = dict(_resources(block))
    records, result, at = kept.get(_IPTC, b""), b"", 0
    while at + 5 <= len(records) and records[at] == 0x1C:
        record, dataset, nbytes = struct.unpack_from(">BBH", records, at + 1)
        end = at + 5 + nbytes
        if nbytes & 0x8000:  # a longer length follows
            wide = nbytes & 0x7FFF
            end = at + 5 + wide + int.from_bytes(records[at + 5 : at + 5 + wide])
        if record != 2 or dataset not in _LOCATIONS:
            result += records[at:end]
        at = end
    if result == records:
        return block
    return photoshop_block(without_records(block), result)
