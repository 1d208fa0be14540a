"""The metadata inside an image file, with notes on what is damaged or not followed."""

from collections.abc import Callable
from typing import Any, BinaryIO

import pyvips

from glocal.images.colour import profile_note
from glocal.images.exif import is_damaged, upright
from glocal.images.icc import is_profile
from glocal.images.markers import (
    is_lossless_webp,
    jpeg_comments,
    jpeg_notes,
    nclx_notes,
    png_kinds,
    png_texts,
    raw_profile,
)
from glocal.images.metadata import DENSITY, Metadata, photoshop_block, upright_xmp
from glocal.images.readers import tiff_metadata

__all__ = [
    "EXIF_DROPPED",
    "has_field",
    "noted",
    "read_metadata",
    "upright_metadata",
    "with_profile",
]

EXIF_DROPPED = "its EXIF data are damaged and were dropped"

_TEXTS: dict[str, Callable[[BinaryIO], tuple[tuple[str, str], ...]]] = {
    "jpeg": jpeg_comments,
    "png": png_texts,
}


def with_profile(metadata: Metadata, channels: int) -> Metadata:
    """The metadata with a note on the profile, without one that is none."""
    icc = metadata.icc
    kept = icc if icc is not None and is_profile(icc) else None
    return noted(metadata, *profile_note(icc, channels), icc=kept)


def upright_metadata(metadata: Metadata) -> Metadata:
    """The metadata with orientation 1; damaged EXIF is dropped with a note."""
    exif, xmp = metadata.exif, metadata.xmp
    notes = (EXIF_DROPPED,) if exif is not None and is_damaged(exif) else ()
    return noted(
        metadata,
        *notes,
        exif=None if exif is None or notes else upright(exif),
        xmp=None if xmp is None else upright_xmp(xmp),
    )


def noted(metadata: Metadata, *notes: str, **changed: Any) -> Metadata:
    """The metadata with more notes, and other changes."""
    return Metadata(**{**vars(metadata), **changed, "notes": (*metadata.notes, *notes)})


def has_field(vips: pyvips.Image, name: str) -> bool:
    """True if an image of libvips has a field; `get_fields` fails where a name is no UTF-8."""
    return bool(vips.get_typeof(name))


def read_metadata(kind: str, vips: pyvips.Image, file: BinaryIO) -> Metadata:
    """The metadata of a file that libvips has opened.

    Args:
        kind: of the file.
        vips: the image, for blocks that libvips reads.
        file: the same file, for what libvips does not read.
    """

    def blob(name: str) -> bytes | None:
        return bytes(vips.get(name)) if has_field(vips, name) else None

    found = Metadata(exif=blob("exif-data"), xmp=blob("xmp-data"), iptc=blob("iptc-data"))
    if kind == "tiff":
        found = tiff_metadata(file)
    texts = _TEXTS[kind](file) if kind in _TEXTS else ()
    profiles = {key: raw_profile(text) for key, text in texts if key.startswith("Raw profile")}
    exif, xmp = found.exif or profiles.get("Raw profile type exif"), found.xmp
    iptc = found.iptc or profiles.get("Raw profile type iptc")
    notes = jpeg_notes(file) if kind == "jpeg" else found.notes
    if kind == "avif" and not has_field(vips, "icc-profile-data"):
        file.seek(0)
        notes = (*notes, *nclx_notes(file.read(2**16)))
    if kind == "png":
        kinds = png_kinds(file)
        if b"iCCP" in kinds and not has_field(vips, "icc-profile-data"):
            notes = (*notes, *profile_note(b"", 3))
        if b"eXIf" in kinds and exif is None:
            notes = (*notes, EXIF_DROPPED)
    density = (vips.xres, vips.yres)
    read = Metadata(
        icc=blob("icc-profile-data"),
        exif=exif,
        xmp=xmp,
        iptc=None if iptc is None else photoshop_block(iptc),
        texts=tuple(text for text in texts if text[0] not in profiles),
        # libvips uses 1.0 for unknown
        density=DENSITY if density == (1.0, 1.0) else density,
        lossless=kind == "webp" and is_lossless_webp(file),
        notes=notes,
    )
    return upright_metadata(read)
