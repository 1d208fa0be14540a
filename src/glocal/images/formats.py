"""Metadata of image files, and what formats hold, for libvips images.

Orientation is applied: pixels are rotated upright and the EXIF and XMP orientation tags set to 1.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyvips

from glocal.errors import ImageError
from glocal.images.limits import format_named, losses

__all__ = [
    "DENSITY",
    "Metadata",
    "describe",
    "error_text",
    "fit_format",
    "format_of",
    "is_tolerable",
    "libvips_version",
    "loaders",
    "open_image",
    "resized",
    "save_options",
    "with_metadata",
]

DENSITY = (72 / 25.4, 72 / 25.4)
"""Pixels per millimetre of a file that does not state its resolution: 72 dpi."""

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3}


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file, as in `glocal.images.image_files.Image`."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: tuple[float, float] = DENSITY
    notes: tuple[str, ...] = ()


def libvips_version() -> str:
    """The version of the libvips library, such as 8.16.0."""
    return ".".join(str(pyvips.version(i)) for i in range(3))


def loaders() -> dict[str, tuple[bool, bool]]:
    """Whether this libvips can read, and write, each format that glocal handles."""

    def has(base: str, operation: str) -> bool:
        return bool(pyvips.type_find(base, operation))

    kinds = (*dict.fromkeys(_MAGIC.values()), "webp")
    return {
        kind: (has("VipsForeignLoad", f"{kind}load"), has("VipsForeignSave", f"{kind}save"))
        for kind in kinds
    }


def format_of(start: bytes) -> str:
    """The format of a file, from its first 12 bytes.

    Raises:
        ImageError: the format is not supported.
    """
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        raise ImageError("is not a PNG, JPEG, TIFF or WebP image")
    return kind


def open_image(kind: str, source: bytes | Path, fail_on: str = "warning") -> pyvips.Image:
    """Open an image file, or its bytes, without decoding pixels.

    Names the loader, because libvips would also try PDF, SVG and others. An upright file is
    decoded once, row by row. A rotated one needs random access, for which libvips decodes large
    images to a temporary file.
    """
    if isinstance(source, bytes):
        return getattr(pyvips.Image, f"{kind}load_buffer")(source, fail_on=fail_on)
    open_file = partial(getattr(pyvips.Image, f"{kind}load"), str(source), fail_on=fail_on)
    # revalidate: libvips caches by path, and the file may have been replaced
    vips = open_file(access="sequential", revalidate=True)
    turned = "orientation" in vips.get_fields() and vips.get("orientation") > 1
    return open_file(revalidate=True) if turned else vips


def is_tolerable(error: pyvips.Error) -> bool:
    """True if a loader's warning may concern surplus bytes, which some cameras write.

    Damage to the picture itself remains an error.
    """
    return not re.search("premature end|Huffman|instead of RST|arithmetic", str(error))


def describe(vips: pyvips.Image) -> tuple[pyvips.Image, int, bool, Metadata]:
    """Return the upright image, its colour channels, alpha flag and metadata.

    Raises:
        ImageError: the image has several pages, or its sample format is not supported.
    """
    fields = set(vips.get_fields())
    pages = vips.get("n-pages") if "n-pages" in fields else 1
    if pages > 1:
        raise ImageError(f"has {pages} pages or frames; split it into single images first")
    notes: list[str] = []
    has_alpha = vips.hasalpha()
    if vips.interpretation == "cmyk" and not has_alpha:
        depth = 16 if vips.format == "ushort" else 8
        vips = vips.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
        notes.append("CMYK was converted to sRGB")
    bands = _COLOURS.get(vips.interpretation)
    if vips.format not in ("uchar", "ushort") or bands is None or vips.bands != bands + has_alpha:
        raise ImageError(
            f"has {vips.bands} channels of {vips.format}, {vips.interpretation}; only 8- and "
            "16-bit grey, RGB and CMYK images can be read"
        )

    def blob(name: str) -> bytes | None:
        return bytes(vips.get(name)) if name in fields else None

    icc, exif, xmp = blob("icc-profile-data"), blob("exif-data"), blob("xmp-data")
    density = (vips.xres, vips.yres)
    metadata = Metadata(
        icc=None if notes else icc,
        exif=None if exif is None else _upright_exif(exif),
        xmp=None if xmp is None else re.sub(rb'(tiff:Orientation(?:="|>))[1-8]', rb"\g<1>1", xmp),
        iptc=blob("iptc-data"),
        # libvips uses 1.0 for unknown
        density=DENSITY if density == (1.0, 1.0) else density,
        notes=tuple(notes),
    )
    return vips.autorot(), bands, has_alpha, metadata


def with_metadata(
    colour: pyvips.Image, alpha: pyvips.Image | None, metadata: Metadata
) -> pyvips.Image:
    """Join colour samples with alpha and attach the metadata."""
    grey, wide = colour.bands == 1, colour.format == "ushort"
    kind = ("grey16" if wide else "b-w") if grey else ("rgb16" if wide else "srgb")
    vips = colour if alpha is None else colour.bandjoin(alpha)
    xres, yres = metadata.density
    vips = vips.copy(interpretation=kind, xres=xres, yres=yres)
    for name, value in (
        ("icc-profile-data", metadata.icc),
        ("exif-data", metadata.exif),
        ("xmp-data", metadata.xmp),
        ("iptc-data", metadata.iptc),
    ):
        if value is not None:
            vips.set_type(pyvips.GValue.blob_type, name, value)
    for name in vips.get_fields():
        # the embedded thumbnail shows the unrestored image
        if name == "jpeg-thumbnail-data" or name.startswith("exif-ifd1-"):
            vips.remove(name)
    return vips


def fit_format(
    colour: pyvips.Image, alpha: pyvips.Image | None, metadata: Metadata, suffix: str
) -> tuple[pyvips.Image, tuple[str, ...]]:
    """Convert an image to what a format can hold; return it with notes on losses.

    Raises:
        ImageError: no format has this suffix.
    """
    held, wide = format_named(suffix)[1], colour.format == "ushort"
    notes = losses(
        suffix,
        bits=16 if wide else 8,
        has_alpha=alpha is not None,
        has_exif=metadata.exif is not None,
    )
    if wide and held.bits == 8:
        colour, alpha = _to_8_bits(colour), None if alpha is None else _to_8_bits(alpha)
    if alpha is not None and not held.alpha:
        opacity = alpha / 255
        colour = (colour * opacity + (1 - opacity) * 255).rint().cast("uchar")
        alpha = None
    return with_metadata(colour, alpha, metadata), notes


def resized(vips: pyvips.Image, size: tuple[int, int]) -> pyvips.Image:
    """Resize an image to (height, width), bilinearly."""
    height, width = size
    if (vips.height, vips.width) == size:
        return vips
    wide = vips.resize(width / vips.width, vscale=height / vips.height, kernel="linear")
    return wide.crop(0, 0, width, height).cast(vips.format)


def save_options(
    suffix: str, vips: pyvips.Image, metadata: Metadata, quality: int
) -> dict[str, Any]:
    """Options of the libvips saver for a format."""
    sample, pixels = 2 if vips.format == "ushort" else 1, vips.width * vips.height
    save: dict[str, dict[str, Any]] = {
        ".png": {"compression": 6},
        ".webp": {"Q": quality, "smart_subsample": True, "alpha_q": 100},
        # holds all coefficients: 12 bytes a pixel, for a file a few per cent smaller
        ".jpg": {"Q": quality, "subsample_mode": "off", "optimize_coding": pixels <= 2**24},
        # classic TIFF has 32-bit offsets: 4 GiB at most
        ".tif": {
            "compression": "deflate",
            "predictor": "horizontal",
            "bigtiff": pixels * vips.bands * sample > 2**31,
        },
    }
    # libvips creates an EXIF block if there is none; in a JPEG only that block stores the density
    bare = metadata.exif is None and metadata.density == DENSITY
    keep = pyvips.enums.ForeignKeep.ALL & ~(pyvips.enums.ForeignKeep.EXIF if bare else 0)
    return {"keep": keep, **save[format_named(suffix)[0]]}


def error_text(error: pyvips.Error) -> str:
    """The informative line of a libvips error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if not re.search("unable to|load error", line)]
    return (informative or lines or ["no reason given"])[-1]


def _to_8_bits(vips: pyvips.Image) -> pyvips.Image:
    """Round 16 bits to the nearest of 256 levels.

    65535 = 255 · 257 and 257 is odd, so there are no ties.
    """
    return (vips / 257).rint().cast("uchar")


def _upright_exif(exif: bytes) -> bytes:
    """Set the orientation tag (0x0112 of the first directory) of an EXIF block to 1."""
    patched = bytearray(exif)
    for offset, order in _orientation_values(exif):
        struct.pack_into(order + "H", patched, offset, 1)
    return bytes(patched)


def _orientation_values(exif: bytes) -> Iterator[tuple[int, str]]:
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = "<" if exif[start : start + 2] == b"II" else ">"
    try:
        first = start + struct.unpack_from(order + "I", exif, start + 4)[0]
        for entry in range(struct.unpack_from(order + "H", exif, first)[0]):
            at = first + 2 + 12 * entry
            if struct.unpack_from(order + "H", exif, at)[0] == 0x0112 and at + 10 <= len(exif):
                yield at + 8, order
    except struct.error:  # truncated before the tag
        return
