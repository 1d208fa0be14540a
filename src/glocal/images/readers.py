"""Read formats that libvips does not, each with the library that keeps its samples as they are.

Files are decoded whole, in memory: they cannot be streamed.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ImageError
from glocal.images.colour import lab_to_srgb
from glocal.images.exif import MAKER_NOTE, built
from glocal.images.icc import linear_profile, primaries_to_d50
from glocal.images.markers import nclx_notes
from glocal.images.metadata import Metadata, photoshop_block
from glocal.images.netpbm import netpbm_samples
from glocal.images.optional import library
from glocal.images.tiff_tags import read_tags
from glocal.shortages import raise_shortage

__all__ = ["MOST_PIXELS", "READERS", "Decoded", "decoded", "tiff_metadata"]

MOST_PIXELS = 2**28
"""Most pixels of an image that is decoded whole: 268 megapixels, 3 GB as floats."""

_JP2_EXIF, _JP2_XMP = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image that was decoded whole.

    Attributes:
        samples: (h, w, c) uint8, uint16 or float32; the last channel is alpha if c is even.
        metadata: of the file.
    """

    samples: NDArray[Any]
    metadata: Metadata


def decoded(kind: str, data: bytes) -> Decoded:
    """Decode a file of a kind in `READERS`, or a TIFF file of a form that libvips does not know.

    Raises:
        ImageError: the library is missing, or the file is damaged or of a form that it cannot read.
    """
    try:
        found = READERS[kind](data)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # each library has errors of its own
        raise_shortage(str(error))
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"is damaged, or of a form that is not read ({reason[:200]})") from None
    samples = found.samples if found.samples.ndim == 3 else found.samples[..., None]
    if samples.ndim != 3 or samples.dtype not in (np.uint8, np.uint16, np.float32):
        raise ImageError(
            f"has samples of {samples.dtype} in {samples.ndim} dims; only grey and RGB "
            "images of 8 and 16 bits or floating point can be read"
        )
    if samples.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"has {samples.shape[2]} channels; only grey and RGB images can be read")
    return replace(found, samples=np.ascontiguousarray(samples))


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise ImageError(
            f"has {width} × {height} pixels; files of this format are decoded whole, up to "
            f"{MOST_PIXELS} pixels: convert it to TIFF or PNG"
        )


def _heic(data: bytes) -> Decoded:
    heif = library("pillow_heif", "HEIC files need pillow-heif")
    file = heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False)
    if len(file) > 1:
        raise ImageError(f"has {len(file)} pages or frames; split it into single images first")
    _check_size(*file.size[::-1])
    samples = np.asarray(file)
    info, depth = file.info, file.info.get("bit_depth", 8)
    if samples.dtype == np.uint16:
        # pillow-heif shifts samples up to 16 bits; repeat the bits so that white is 65535
        samples = samples | (samples >> depth)
    return Decoded(
        samples,
        Metadata(
            icc=info.get("icc_profile") or None,
            exif=info.get("exif") or None,
            xmp=info.get("xmp") or None,
            notes=() if info.get("icc_profile") else nclx_notes(data),
        ),
    )


def _raw(data: bytes) -> Decoded:
    rawpy = library("rawpy", "RAW files need rawpy")
    with rawpy.imread(BytesIO(data)) as raw:
        _check_size(raw.sizes.iheight, raw.sizes.iwidth)
        notes = ["RAW samples were developed to linear 16-bit sRGB"]
        if min(raw.camera_whitebalance[:3]) <= 0:
            notes.append("the file has no white balance of the camera: that of daylight was used")
        samples = raw.postprocess(
            output_bps=16, gamma=(1, 1), no_auto_bright=True, use_camera_wb=True,
            output_color=rawpy.ColorSpace.sRGB,
        )  # fmt: skip
    metadata = Metadata()
    if data[:2] in (b"II", b"MM"):
        metadata = tiff_metadata(BytesIO(data))
    else:
        notes.append("the metadata of this kind of RAW file was not read")
    notes = [*metadata.notes, *notes]
    return Decoded(samples, replace(metadata, icc=linear_profile(3), notes=tuple(notes)))


def _jxl(data: bytes) -> Decoded:
    codecs = library("imagecodecs", "JPEG XL files need imagecodecs")
    samples = codecs.jpegxl_decode(data)
    if samples.ndim == 4 or (samples.ndim == 3 and samples.shape[2] > 4):
        raise ImageError(f"has {len(samples)} pages or frames; split it into single images first")
    exif = xmp = None
    for kind, body in _boxes(data):
        if kind == b"brob":
            kind, body = body[:4], codecs.brotli_decode(body[4:])
        if kind == b"Exif":
            exif = body[4 + struct.unpack_from(">I", body)[0] :]
        elif kind == b"xml ":
            xmp = body
    notes = ("a colour profile of a JPEG XL file is not read: the colours were taken as sRGB",)
    return Decoded(_floats32(samples), Metadata(exif=exif, xmp=xmp, notes=notes))


def _jp2(data: bytes) -> Decoded:
    codecs = library("imagecodecs", "JPEG 2000 files need imagecodecs")
    samples = codecs.jpeg2k_decode(data)
    metadata = Metadata()
    for kind, body in _boxes(data):
        if kind == b"jp2h":
            for inner, colour in _boxes(body):
                if inner == b"colr" and colour[:1] == b"\x02":
                    metadata = replace(metadata, icc=colour[3:])
        elif kind == b"uuid" and body[:16] == _JP2_EXIF:
            metadata = replace(metadata, exif=body[16:].removeprefix(b"Exif\0\0"))
        elif kind == b"uuid" and body[:16] == _JP2_XMP:
            metadata = replace(metadata, xmp=body[16:])
    return Decoded(samples, metadata)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Boxes of an ISO base media file; none of a bare code stream."""
    at = 0
    while at + 8 <= len(data):
        nbytes, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if nbytes == 1 and at + 16 <= len(data):
            nbytes, start = struct.unpack_from(">Q", data, start)[0], at + 16
        end = at + nbytes if nbytes else len(data)
        if end <= at or not kind.isascii():
            return
        yield kind, data[start:end]
        at = end


def _exr(data: bytes) -> Decoded:
    openexr = library("OpenEXR", "OpenEXR files need OpenEXR")
    file = openexr.File(BytesIO(data), separate_channels=True)
    if not file.parts:  # the library prints why, and goes on without pixels
        raise ImageError("is damaged or cut short")
    if len(file.parts) > 1:
        raise ImageError(f"has {len(file.parts)} parts; split it into single images first")
    header, channels = file.header(), file.channels()
    names = "RGB" if {*"RGB"} <= {*channels} else "Y"
    if not {*names} <= {*channels} or {*channels} - {*names, "A"}:
        raise ImageError(f"has the channels {', '.join(channels)}; only R, G, B, Y and A are read")
    wanted = [*names, *("A" for _ in range("A" in channels))]
    planes = [np.asarray(channels[name].pixels, np.float32) for name in wanted]
    if len({plane.shape for plane in planes}) > 1:
        raise ImageError("has channels of different sizes, which cannot be read")
    matrix = None
    if "chromaticities" in header and names == "RGB":
        values = [float(v) for v in np.ravel(header["chromaticities"])]
        matrix = primaries_to_d50(values[:6], (values[6], values[7]))
    samples = np.stack(planes, axis=-1)
    if "A" in channels:  # OpenEXR multiplies colours by alpha
        alpha = samples[..., -1:]
        samples[..., :-1] = np.divide(
            samples[..., :-1], alpha, out=samples[..., :-1].copy(), where=alpha > 0
        )
    texts = tuple((key, value) for key, value in header.items() if isinstance(value, str))
    icc = linear_profile(len(names), matrix)
    return Decoded(samples, Metadata(icc=icc, texts=texts))


def _bmp(data: bytes) -> Decoded:
    pillow = library("PIL.Image", "BMP files need Pillow")
    with pillow.open(BytesIO(data), formats=("BMP",)) as image:
        _check_size(image.height, image.width)
        plain = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
        return Decoded(np.asarray(image.convert(plain)), Metadata())


def _netpbm(data: bytes) -> Decoded:
    floats, samples = netpbm_samples(data, _check_size)
    icc = linear_profile(samples.shape[2]) if floats else None
    return Decoded(samples, Metadata(icc=icc))


def tiff_metadata(file: BinaryIO) -> Metadata:
    """What the tags of a TIFF file say about its picture."""
    found = read_tags(file)
    notes: tuple[str, ...] = ()
    if MAKER_NOTE in found.tags.exif:
        notes = (
            "maker notes were moved within the file; readers that follow their offsets may "
            "misread them",
        )
    return Metadata(
        exif=built(found.tags) if found.tags else None,
        xmp=found.xmp,
        iptc=photoshop_block(found.photoshop, found.iptc),
        notes=notes,
    )


def _tiff(data: bytes) -> Decoded:
    tifffile = library("tifffile", "TIFF files of this form need tifffile")
    library("imagecodecs", "TIFF files of this form need imagecodecs")
    with tifffile.TiffFile(BytesIO(data)) as file:
        if len(file.pages) > 1:
            raise ImageError(f"has {len(file.pages)} pages; split it into single images first")
        page = file.pages[0]
        _check_size(page.imagelength, page.imagewidth)
        if len(page.dataoffsets) != len(page.databytecounts) or any(
            start + nbytes > len(data)
            for start, nbytes in zip(page.dataoffsets, page.databytecounts, strict=True)
        ):
            raise ImageError("is damaged or cut short")
        samples = page.asarray()
        if page.planarconfig == 2 and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        photometric, profile = int(page.photometric), page.tags.get(34675)
    metadata = replace(tiff_metadata(BytesIO(data)), icc=profile.value if profile else None)
    if photometric == 8:
        return _lab(samples, metadata)
    if photometric not in (0, 1, 2):
        raise ImageError(
            f"has colours of the photometric interpretation {photometric}, which cannot be read"
        )
    if samples.dtype == np.float64:
        note = "64-bit floating-point samples were rounded to 32 bits"
        metadata = replace(metadata, notes=(*metadata.notes, note))
    samples = _floats32(samples)
    if samples.dtype not in (np.uint8, np.uint16, np.float32):
        raise ImageError(f"has samples of {samples.dtype}, which cannot be read")
    if photometric == 0:
        peak = 1 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
        samples = (peak - samples).astype(samples.dtype)
    return Decoded(samples, metadata)


def _lab(samples: NDArray[Any], metadata: Metadata) -> Decoded:
    """CIELAB to sRGB: L is unsigned, a and b are signed."""
    if samples.shape[-1] != 3 or samples.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"has CIELAB samples of {samples.dtype}, which cannot be read")
    wide = samples.dtype == np.uint16
    signed = samples.view(np.int16 if wide else np.int8)[..., 1:].astype(float)
    signed = signed / 256 if wide else signed
    lightness = samples[..., :1] * (100 / (65535 if wide else 255))
    srgb = lab_to_srgb(np.concatenate([lightness, signed], axis=-1))
    plain = np.rint(np.clip(srgb, 0, 1) * 65535).astype(np.uint16)
    note = "CIELAB was converted to 16-bit sRGB"
    return Decoded(plain, replace(metadata, icc=None, notes=(*metadata.notes, note)))


def _floats32(samples: NDArray[Any]) -> NDArray[Any]:
    return samples.astype(np.float32) if samples.dtype.kind == "f" else samples


READERS: dict[str, Callable[[bytes], Decoded]] = {
    "tiff": _tiff,
    "heic": _heic,
    "raw": _raw,
    "jxl": _jxl,
    "jp2": _jp2,
    "exr": _exr,
    "bmp": _bmp,
    "netpbm": _netpbm,
}
"""The function that decodes files of a kind; of TIFF files, those that libvips does not read."""
