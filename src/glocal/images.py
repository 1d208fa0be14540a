"""Image files: pixels and metadata in, pixels and metadata out.

The only module of glocal that touches image files. It reads and writes PNG, JPEG, TIFF and
WebP through libvips, which keeps 16-bit samples, ICC profiles and EXIF exact where other
libraries drop them silently.

Orientation is *applied*: :func:`read` turns the pixels upright and sets the EXIF and XMP
orientation tags to 1, so what a viewer shows is what the file says.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from glocal.errors import ImageError
from glocal.files import write_whole

__all__ = ["SUFFIXES", "Image", "decode", "encode", "list_images", "read", "write"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""File name endings that are read and written, in lower case."""

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3}
_PIXELS_PER_MM = 72 / 25.4


@dataclass(frozen=True, eq=False)
class Image:
    """An upright image and what its file said about it.

    Attributes:
        pixels: (h, w, 1) grey or (h, w, 3) colour, uint8 or uint16, in the file's own colour
            space (the one ``icc`` describes, sRGB where there is none).
        alpha: (h, w) opacity of the same dtype, not premultiplied, or None.
        icc: the ICC profile, or None.
        exif: the EXIF block (orientation 1), or None. TIFF files neither give nor take one.
        xmp: the XMP packet (orientation 1), or None.
        iptc: the IPTC block (captions, copyright), or None.
        density: pixels per millimetre, (horizontal, vertical).
        notes: what had to be changed on reading, one sentence each; mostly empty.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: tuple[float, float] = (_PIXELS_PER_MM, _PIXELS_PER_MM)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no file of the four formats holds."""
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
            raise ImageError(f"pixels have shape {pixels.shape}; expected (h, w, 1) or (h, w, 3)")
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ImageError(f"pixels are {pixels.dtype}; expected uint8 or uint16")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise ImageError(
                f"alpha is {alpha.dtype} {alpha.shape}; expected {pixels.dtype} {pixels.shape[:2]}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def bits(self) -> int:
        """Bits per sample, 8 or 16."""
        return self.pixels.dtype.itemsize * 8


def read(path: str | os.PathLike[str]) -> Image:
    """Read a PNG, JPEG, TIFF or WebP file, told by its content and not by its name.

    Raises:
        ImageError: the file is missing, damaged or cut short, has several pages or frames, or
            has samples other than 8- or 16-bit unsigned integers.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return decode(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def write(path: str | os.PathLike[str], image: Image, *, quality: int = 95) -> tuple[str, ...]:
    """Write an image in the format its name ends with, whole or not at all.

    An existing file is replaced. See :func:`encode` for the formats.

    Returns:
        What the format could not hold, one sentence each; mostly empty.

    Raises:
        ImageError: the format is unknown or cannot hold the image, or the disk refuses it.
    """
    path = Path(path)
    try:
        data, notes = encode(image, path.suffix, quality=quality)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    write_whole(path, data, ImageError)
    return notes


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> list[Path]:
    """Image files in a folder by their suffix, sorted; hidden files and folders are left out.

    Raises:
        ImageError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder")
    found = root.rglob("*") if recursive else root.glob("*")
    return sorted(
        path
        for path in found
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


def decode(data: bytes) -> Image:
    """The image in the bytes of a PNG, JPEG, TIFF or WebP file.

    Raises:
        ImageError: as for :func:`read`.
    """
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise ImageError("is not a PNG, JPEG, TIFF or WebP image")
    try:
        return _to_image(_load(kind, data))
    except pyvips.Error as error:
        raise ImageError(f"is damaged or cut short ({_reason(error)})") from None


def encode(image: Image, suffix: str, *, quality: int = 95) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of an image file, and notes on what the format could not hold.

    ``.png`` and ``.tif``/``.tiff`` hold 8 and 16 bits, without loss. ``.jpg``/``.jpeg`` (4:4:4)
    and ``.webp`` are lossy at ``quality`` (1 to 100) and hold 8 bits: 16-bit samples are rounded
    to the nearest of the 256 levels. JPEG holds no alpha: the image is laid on white.

    >>> import numpy as np
    >>> data, notes = encode(Image(np.full((8, 8, 3), 40000, np.uint16)), ".jpg")
    >>> notes
    ('16-bit samples were rounded to 8 bits for .jpg',)
    >>> decode(data).pixels[0, 0]
    array([156, 156, 156], dtype=uint8)

    Raises:
        ImageError: the suffix is none of :data:`SUFFIXES`, or the format cannot hold the size.
    """
    suffix = suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"cannot write {suffix or 'a name without a suffix'!r}; use {SUFFIXES}")
    pixels, alpha, notes = image.pixels, image.alpha, []
    lossy = suffix not in (".png", ".tif", ".tiff")
    if lossy and pixels.dtype == np.uint16:
        pixels, alpha = _to_8_bits(pixels), None if alpha is None else _to_8_bits(alpha)
        notes.append(f"16-bit samples were rounded to 8 bits for {suffix}")
    if suffix in (".jpg", ".jpeg") and alpha is not None:
        opacity = alpha[..., None].astype(np.float32) / 255
        pixels = np.rint(pixels * opacity + 255 * (1 - opacity)).astype(np.uint8)
        alpha = None
        notes.append("JPEG holds no alpha: the image was laid on white")
    if suffix in (".tif", ".tiff") and image.exif is not None:
        notes.append("EXIF was left out: it is not written to TIFF files")
    save: dict[str, dict[str, Any]] = {
        ".png": {"compression": 6},
        ".webp": {"Q": quality, "smart_subsample": True, "alpha_q": 100},
        ".jpg": {"Q": quality, "subsample_mode": "off", "optimize_coding": True},
        # the classic format's offsets end at 4 GiB
        ".tif": {
            "compression": "deflate",
            "predictor": "horizontal",
            "bigtiff": pixels.nbytes > 2**31,
        },
    }
    kind = {".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)
    # libvips makes up an EXIF block where there is none; a JPEG's density is kept in it alone
    bare = image.exif is None and image.density == Image.density
    keep = pyvips.enums.ForeignKeep.ALL & ~(pyvips.enums.ForeignKeep.EXIF if bare else 0)
    try:
        data = _to_vips(image, pixels, alpha).write_to_buffer(kind, keep=keep, **save[kind])
    except pyvips.Error as error:
        raise ImageError(f"cannot be written as {suffix} ({_reason(error)})") from None
    return bytes(data), tuple(notes)


def _load(kind: str, data: bytes) -> pyvips.Image:
    """The decoded image in memory; raises pyvips.Error when anything is missing."""
    # the loader is named: libvips would try PDF, SVG and others too
    load = getattr(pyvips.Image, f"{kind}load_buffer")
    try:
        return load(data, fail_on="warning").copy_memory()
    except pyvips.Error as error:
        # cameras leave harmless surplus bytes; damage to the picture itself stays an error
        if re.search("premature end|Huffman|instead of RST|arithmetic", str(error)):
            raise
        return load(data, fail_on="error").copy_memory()


def _to_image(vips: pyvips.Image) -> Image:
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
    upright = vips.autorot()
    samples = upright.numpy().reshape(upright.height, upright.width, upright.bands)

    def blob(name: str) -> bytes | None:
        return bytes(vips.get(name)) if name in fields else None

    icc, exif, xmp = blob("icc-profile-data"), blob("exif-data"), blob("xmp-data")
    density = (vips.xres, vips.yres)
    return Image(
        pixels=np.ascontiguousarray(samples[..., :bands]),
        alpha=np.ascontiguousarray(samples[..., bands]) if has_alpha else None,
        icc=None if notes else icc,
        exif=None if exif is None else _upright_exif(exif),
        xmp=None if xmp is None else re.sub(rb'(tiff:Orientation(?:="|>))[1-8]', rb"\g<1>1", xmp),
        iptc=blob("iptc-data"),
        # 1.0 is libvips' word for unknown
        density=(_PIXELS_PER_MM, _PIXELS_PER_MM) if density == (1.0, 1.0) else density,
        notes=tuple(notes),
    )


def _to_vips(image: Image, pixels: np.ndarray, alpha: np.ndarray | None) -> pyvips.Image:
    grey, wide = pixels.shape[2] == 1, pixels.dtype == np.uint16
    kind = ("grey16" if wide else "b-w") if grey else ("rgb16" if wide else "srgb")
    samples = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    vips = pyvips.Image.new_from_array(np.ascontiguousarray(samples))
    xres, yres = image.density
    vips = vips.copy(interpretation=kind, xres=xres, yres=yres)
    for name, value in (
        ("icc-profile-data", image.icc),
        ("exif-data", image.exif),
        ("xmp-data", image.xmp),
        ("iptc-data", image.iptc),
    ):
        if value is not None:
            vips.set_type(pyvips.GValue.blob_type, name, value)
    for name in vips.get_fields():
        # the embedded thumbnail shows the unrestored picture
        if name == "jpeg-thumbnail-data" or name.startswith("exif-ifd1-"):
            vips.remove(name)
    return vips


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


def _to_8_bits(samples: np.ndarray) -> np.ndarray:
    """The nearest of 256 levels: 65535 = 255 · 257, and 257 is odd, so there are no ties."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _reason(error: pyvips.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not re.search("unable to|load error", line)]
    return (telling or lines or ["no reason given"])[-1]
