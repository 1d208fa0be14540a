"""Write images in the format of a suffix: to bytes, or from samples on disk to a file."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import pyvips
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.colour import colours_of
from glocal.images.containers import EMBEDDERS, embed
from glocal.images.exif import upright
from glocal.images.icc import linear_profile, srgb_decoded
from glocal.images.limits import Format, format_named, losses
from glocal.images.metadata import Metadata
from glocal.images.optional import library
from glocal.images.readers import MOST_PIXELS

__all__ = ["fit_format", "resized", "saver", "write_image"]

_BITS = {"uchar": 8, "ushort": 16, "float": 32}
_KINDS = {
    ("uchar", 1): "b-w", ("ushort", 1): "grey16", ("float", 1): "b-w",
    ("uchar", 3): "srgb", ("ushort", 3): "rgb16", ("float", 3): "scrgb",
}  # fmt: skip


def fit_format(
    colour: pyvips.Image, alpha: pyvips.Image | None, metadata: Metadata, suffix: str
) -> tuple[pyvips.Image, tuple[str, ...]]:
    """Convert an image to samples that a format can hold; return it with notes on losses.

    Raises:
        ImageError: no format has this suffix.
    """
    held, bits = format_named(suffix)[1], _BITS[colour.format]
    notes = losses(suffix, bits=bits, has_alpha=alpha is not None, metadata=metadata)
    if bits == 32 and not held.floats:
        bits = 16 if held.bits > 8 else 8
        colour, alpha = _to_whole(colour, bits), None if alpha is None else _to_whole(alpha, bits)
    if bits == 16 and held.bits == 8:
        colour, alpha = _to_8_bits(colour), None if alpha is None else _to_8_bits(alpha)
    if alpha is not None and not held.alpha:
        opacity = alpha / 255
        colour = (colour * opacity + (1 - opacity) * 255).rint().cast("uchar")
        alpha = None
    kind = _KINDS[colour.format, colour.bands]
    vips = colour if alpha is None else colour.bandjoin(alpha)
    xres, yres = metadata.density
    vips = vips.copy(interpretation=kind, xres=xres, yres=yres)
    if metadata.icc is not None:
        _set_blob(vips, "icc-profile-data", metadata.icc)
    return vips, notes


def resized(vips: pyvips.Image, size: tuple[int, int]) -> pyvips.Image:
    """Resize an image to (height, width), bilinearly."""
    height, width = size
    if (vips.height, vips.width) == size:
        return vips
    wide = vips.resize(width / vips.width, vscale=height / vips.height, kernel="linear")
    return wide.crop(0, 0, width, height).cast(vips.format)


def write_image(
    vips: pyvips.Image, metadata: Metadata, suffix: str, quality: int, target: BinaryIO,
    save: Callable[[pyvips.Image, str, dict[str, Any]], BinaryIO],
) -> None:  # fmt: skip
    """Write an image of :func:`fit_format`, with its metadata.

    Args:
        vips: the image.
        metadata: to write; what the format cannot hold is left out.
        suffix: of the format.
        quality: of lossy formats, 1 to 100.
        target: an empty file, readable and writable.
        save: runs a saver of libvips with options, and returns its result as an open file.

    Raises:
        pyvips.Error: libvips cannot write the image.
        ImageError: a library is missing, or the image is too large for it.
    """
    held = format_named(suffix)[1]
    metadata = _within(metadata, held)
    if held.kind in _WRITERS:
        if vips.width * vips.height > MOST_PIXELS:
            raise ImageError(
                f"cannot be written as {suffix}: files of this format hold at most {MOST_PIXELS} "
                "pixels here; write TIFF or PNG"
            )
        samples = vips.numpy().reshape(vips.height, vips.width, vips.bands)
        source: BinaryIO = BytesIO(_WRITERS[held.kind](samples, metadata))
    else:
        if held.kind == "avif":  # has room then for the blocks
            for name, block in (("exif-data", metadata.exif), ("xmp-data", metadata.xmp)):
                if block is not None:
                    _set_blob(vips, name, block)
        source = save(vips, _SAVERS[held.kind], _options(held, vips, metadata, quality))
    with source:
        if held.kind in EMBEDDERS:
            embed(held.kind, source, target, metadata, (vips.height, vips.width))
        else:
            target.write(source.read())


def saver(vips: pyvips.Image, name: str, options: dict[str, Any], **extra: Any) -> BinaryIO:
    """Run a saver of libvips in memory, with extra options."""
    return BytesIO(getattr(vips, f"{name}save_buffer")(**options, **extra))


def _within(metadata: Metadata, held: Format) -> Metadata:
    """The metadata that a format holds."""
    kept = {
        name: block if getattr(held, name) and block and len(block) <= held.block else None
        for name in ("exif", "xmp", "iptc")
        for block in (getattr(metadata, name),)
    }
    if kept["exif"] is not None:
        kept["exif"] = upright(kept["exif"])
    texts = tuple(text for text in metadata.texts if {"*", text[0]} & {*held.texts})
    return Metadata(**{**vars(metadata), **kept, "texts": texts})


def _options(held: Format, vips: pyvips.Image, metadata: Metadata, quality: int) -> dict[str, Any]:
    """Options of the libvips saver for a format."""
    pixels, sample = vips.width * vips.height, _BITS[vips.format] // 8
    save: dict[str, dict[str, Any]] = {
        "png": {"compression": 6},
        "webp": {"lossless": True, "exact": True}
        if metadata.lossless
        else {"Q": quality, "smart_subsample": True, "alpha_q": 100},
        # holds all coefficients: 12 bytes a pixel, for a file a few per cent smaller
        "jpeg": {"Q": quality, "subsample_mode": "off", "optimize_coding": pixels <= 2**24},
        # classic TIFF has 32-bit offsets: 4 GiB at most
        "tiff": {
            "compression": "deflate",
            "predictor": "float" if vips.format == "float" else "horizontal",
            "bigtiff": pixels * vips.bands * sample > 2**31,
        },
        "avif": {
            "compression": "av1",
            "Q": quality,
            "subsample_mode": "off",
            "bitdepth": 8 if sample == 1 else 12,
        },
    }
    keep = pyvips.enums.ForeignKeep.ICC
    if held.kind == "avif":
        keep |= pyvips.enums.ForeignKeep.XMP
        keep |= pyvips.enums.ForeignKeep.EXIF if metadata.exif else 0
    return {"keep": keep, **save[held.kind]}


_SAVERS = {"png": "png", "jpeg": "jpeg", "tiff": "tiff", "webp": "webp", "avif": "heif"}


def _jxl(samples: NDArray[Any], metadata: Metadata) -> bytes:
    codecs = library("imagecodecs", "JPEG XL files need imagecodecs")
    plain = _in_srgb(samples, metadata)
    if plain.shape[2] == 1:
        plain = plain[..., 0]
    return bytes(codecs.jpegxl_encode(plain, lossless=True, usecontainer=True))


def _exr(samples: NDArray[Any], metadata: Metadata) -> bytes:
    openexr = library("OpenEXR", "OpenEXR files need OpenEXR")
    channels = 3 if samples.shape[2] > 2 else 1
    light = samples.astype(np.float32)
    if samples.dtype.kind == "u":
        light /= np.iinfo(samples.dtype).max
    if metadata.icc != linear_profile(channels):
        colours = colours_of(metadata.icc, samples.dtype, channels)
        encoded = colours.viewed(samples[..., :channels])
        light[..., :channels] = srgb_decoded(encoded)
    names = ("RGB" if channels == 3 else "Y") + "A" * (samples.shape[2] % 2 == 0)
    if names[-1] == "A":
        light[..., :-1] *= light[..., -1:]
    planes = {name: np.ascontiguousarray(light[..., n]) for n, name in enumerate(names)}
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    file = BytesIO()
    openexr.File({**dict(metadata.texts), **header}, planes).write(file)
    return file.getvalue()


_WRITERS: dict[str, Callable[[NDArray[Any], Metadata], bytes]] = {"jxl": _jxl, "exr": _exr}
"""Functions that encode (h, w, c) samples, the last channel alpha if c is even."""


def _in_srgb(samples: NDArray[Any], metadata: Metadata) -> NDArray[Any]:
    """Samples in encoded sRGB, in their dtype; whole numbers are clipped to its colours."""
    channels = 3 if samples.shape[2] > 2 else 1
    colours = colours_of(metadata.icc, samples.dtype, channels)
    if colours.view is None:
        return samples
    converted = samples.copy()
    viewed = colours.viewed(samples[..., :channels])
    if samples.dtype.kind == "u":
        peak = np.iinfo(samples.dtype).max
        viewed = np.rint(np.clip(viewed, 0, 1) * peak)
    converted[..., :channels] = viewed
    return converted


def _set_blob(vips: pyvips.Image, name: str, data: bytes) -> None:
    vips.set_type(pyvips.GValue.blob_type, name, data)


def _to_whole(vips: pyvips.Image, bits: int) -> pyvips.Image:
    peak, kind = 2**bits - 1, "uchar" if bits == 8 else "ushort"
    return (vips * peak).rint().cast(kind)  # the cast clips


def _to_8_bits(vips: pyvips.Image) -> pyvips.Image:
    """Round 16 bits to the nearest of 256 levels.

    65535 = 255 · 257 and 257 is odd, so there are no ties.
    """
    return (vips / 257).rint().cast("uchar")
