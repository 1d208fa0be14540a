"""Image files in libvips' terms: what a file says about its pixels, and what a format can hold.

Orientation is *applied*: pixels are turned upright and the EXIF and XMP orientation tags are set
to 1, so what a viewer shows is what the file says.
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

__all__ = [
    "DENSITY",
    "SUFFIXES",
    "Facts",
    "described",
    "dressed",
    "enlarged",
    "fitted",
    "harmless",
    "kind_of",
    "libvips_version",
    "load",
    "loaders",
    "reason",
    "saving",
    "short",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""File name endings that are read and written, in lower case."""

DENSITY = (72 / 25.4, 72 / 25.4)
"""Pixels per millimetre where a file does not say it."""

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
class Facts:
    """What an image file says besides its pixels; see `glocal.images.images.Image`."""

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


def kind_of(start: bytes) -> str:
    """The format of a file by its first 12 bytes.

    Raises:
        ImageError: it is none that is read.
    """
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        raise ImageError("is not a PNG, JPEG, TIFF or WebP image")
    return kind


def load(kind: str, source: bytes | Path, fail_on: str = "warning") -> pyvips.Image:
    """The image in a file or in the bytes of one, not decoded yet.

    The loader is named: libvips would try PDF, SVG and others too. A file that lies as it is
    seen is decoded from its first to its last row, once; one that has to be turned may be read
    in any order, for which libvips decodes a large one to a temporary file.
    """
    if isinstance(source, bytes):
        return getattr(pyvips.Image, f"{kind}load_buffer")(source, fail_on=fail_on)
    open_file = partial(getattr(pyvips.Image, f"{kind}load"), str(source), fail_on=fail_on)
    # the name may be that of another file by now
    vips = open_file(access="sequential", revalidate=True)
    turned = "orientation" in vips.get_fields() and vips.get("orientation") > 1
    return open_file(revalidate=True) if turned else vips


def harmless(error: pyvips.Error) -> bool:
    """Whether what a loader warns of may be surplus bytes, as cameras leave them.

    Damage to the picture itself stays an error.
    """
    return not re.search("premature end|Huffman|instead of RST|arithmetic", str(error))


def described(vips: pyvips.Image) -> tuple[pyvips.Image, int, bool, Facts]:
    """The upright image, its channels without alpha, whether it has alpha, and its facts.

    Raises:
        ImageError: the image has several pages, or samples that are not read.
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
            "16-bit grey, RGB and CMYK images are read"
        )

    def blob(name: str) -> bytes | None:
        return bytes(vips.get(name)) if name in fields else None

    icc, exif, xmp = blob("icc-profile-data"), blob("exif-data"), blob("xmp-data")
    density = (vips.xres, vips.yres)
    facts = Facts(
        icc=None if notes else icc,
        exif=None if exif is None else _upright_exif(exif),
        xmp=None if xmp is None else re.sub(rb'(tiff:Orientation(?:="|>))[1-8]', rb"\g<1>1", xmp),
        iptc=blob("iptc-data"),
        # 1.0 is libvips' word for unknown
        density=DENSITY if density == (1.0, 1.0) else density,
        notes=tuple(notes),
    )
    return vips.autorot(), bands, has_alpha, facts


def dressed(colour: pyvips.Image, alpha: pyvips.Image | None, facts: Facts) -> pyvips.Image:
    """Samples of grey or colour, with alpha and what a file says."""
    grey, wide = colour.bands == 1, colour.format == "ushort"
    kind = ("grey16" if wide else "b-w") if grey else ("rgb16" if wide else "srgb")
    vips = colour if alpha is None else colour.bandjoin(alpha)
    xres, yres = facts.density
    vips = vips.copy(interpretation=kind, xres=xres, yres=yres)
    for name, value in (
        ("icc-profile-data", facts.icc),
        ("exif-data", facts.exif),
        ("xmp-data", facts.xmp),
        ("iptc-data", facts.iptc),
    ):
        if value is not None:
            vips.set_type(pyvips.GValue.blob_type, name, value)
    for name in vips.get_fields():
        # the embedded thumbnail shows the unrestored picture
        if name == "jpeg-thumbnail-data" or name.startswith("exif-ifd1-"):
            vips.remove(name)
    return vips


def fitted(
    colour: pyvips.Image, alpha: pyvips.Image | None, facts: Facts, suffix: str
) -> tuple[pyvips.Image, tuple[str, ...]]:
    """The image as a format holds it, and what that could not hold.

    Raises:
        ImageError: the suffix is none of `SUFFIXES`.
    """
    if suffix not in SUFFIXES:
        raise ImageError(f"cannot write {suffix or 'a name without a suffix'!r}; use {SUFFIXES}")
    notes = []
    if suffix not in (".png", ".tif", ".tiff") and colour.format == "ushort":
        colour, alpha = _to_8_bits(colour), None if alpha is None else _to_8_bits(alpha)
        notes.append(f"16-bit samples were rounded to 8 bits for {suffix}")
    if suffix in (".jpg", ".jpeg") and alpha is not None:
        opacity = alpha / 255
        colour = (colour * opacity + (1 - opacity) * 255).rint().cast("uchar")
        alpha = None
        notes.append("JPEG holds no alpha: the image was laid on white")
    if suffix in (".tif", ".tiff") and facts.exif is not None:
        notes.append("EXIF was left out: it is not written to TIFF files")
    return dressed(colour, alpha, facts), tuple(notes)


def enlarged(vips: pyvips.Image, size: tuple[int, int]) -> pyvips.Image:
    """An image at another size, bilinearly; the same where that is its size."""
    height, width = size
    if (vips.height, vips.width) == size:
        return vips
    wide = vips.resize(width / vips.width, vscale=height / vips.height, kernel="linear")
    return wide.crop(0, 0, width, height).cast(vips.format)


def saving(suffix: str, vips: pyvips.Image, facts: Facts, quality: int) -> dict[str, Any]:
    """The options of libvips' writer for a format."""
    sample, pixels = 2 if vips.format == "ushort" else 1, vips.width * vips.height
    save: dict[str, dict[str, Any]] = {
        ".png": {"compression": 6},
        ".webp": {"Q": quality, "smart_subsample": True, "alpha_q": 100},
        # the best codes are known when all is held: 12 bytes a pixel, for a few per cent of file
        ".jpg": {"Q": quality, "subsample_mode": "off", "optimize_coding": pixels <= 2**24},
        # the classic format's offsets end at 4 GiB
        ".tif": {
            "compression": "deflate",
            "predictor": "horizontal",
            "bigtiff": pixels * vips.bands * sample > 2**31,
        },
    }
    # libvips makes up an EXIF block where there is none; a JPEG's density is kept in it alone
    bare = facts.exif is None and facts.density == DENSITY
    keep = pyvips.enums.ForeignKeep.ALL & ~(pyvips.enums.ForeignKeep.EXIF if bare else 0)
    return {"keep": keep, **save[short(suffix)]}


def short(suffix: str) -> str:
    """The ending by which libvips knows a format."""
    return {".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)


def reason(error: pyvips.Error) -> str:
    """The line of libvips' message that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not re.search("unable to|load error", line)]
    return (telling or lines or ["no reason given"])[-1]


def _to_8_bits(vips: pyvips.Image) -> pyvips.Image:
    """The nearest of 256 levels: 65535 = 255 · 257, and 257 is odd, so there are no ties."""
    return (vips / 257).rint().cast("uchar")


def _upright_exif(exif: bytes) -> bytes:
    """The EXIF block with its orientation tag (0x0112 of the first directory) set to 1."""
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
    except struct.error:  # cut short: there is no tag to reset
        return
