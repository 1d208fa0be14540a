"""Kinds of image files: told by their first bytes, and what reads them."""

from dataclasses import dataclass
from pathlib import Path

from glocal.errors import ImageError
from glocal.images.files import as_file, check_regular
from glocal.images.tiff_tags import is_raw

__all__ = ["KINDS", "Kind", "kind_of"]


@dataclass(frozen=True)
class Kind:
    """A kind of image files.

    Attributes:
        name: of the format.
        magic: possible first bytes; "?" stands for any.
        library: module of the extra "formats" that reads it; empty for libvips and glocal.
        loader: libvips' loader, if libvips reads it.
    """

    name: str
    magic: tuple[bytes, ...]
    library: str = ""
    loader: str = ""


_HEIC = tuple(b"????ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis"))
_RAW = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"????ftypcrx ")

KINDS = {
    "png": Kind("PNG", (b"\x89PNG\r\n\x1a\n",), loader="png"),
    "jpeg": Kind("JPEG", (b"\xff\xd8\xff",), loader="jpeg"),
    "tiff": Kind("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), loader="tiff"),
    "webp": Kind("WebP", (b"RIFF????WEBP",), loader="webp"),
    "gif": Kind("GIF", (b"GIF87a", b"GIF89a"), loader="gif"),
    "avif": Kind("AVIF", (b"????ftypavif", b"????ftypavis"), loader="heif"),
    "heic": Kind("HEIC", (*_HEIC, b"????ftypmif1", b"????ftypmsf1"), "pillow_heif"),
    "raw": Kind("camera RAW", _RAW, "rawpy"),
    "jxl": Kind("JPEG XL", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), "imagecodecs"),
    "jp2": Kind("JPEG 2000", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "imagecodecs"),
    "exr": Kind("OpenEXR", (b"\x76\x2f\x31\x01",), "OpenEXR"),
    "bmp": Kind("BMP", (b"BM",), "PIL"),
    "netpbm": Kind("PPM", tuple(b"P" + each for each in b"1 2 3 4 5 6 f F".split())),
}
"""The kinds of files that can be read. Files of cameras that begin like TIFF are of kind raw."""


def kind_of(source: bytes | Path) -> str:
    """The kind of a file or its bytes, a key of `KINDS`.

    Raises:
        ImageError: it is of no kind that can be read.
        OSError: the file cannot be read.
    """
    start = source[:64] if isinstance(source, bytes) else _start(source)
    kind = next(
        (
            name
            for name, kind in KINDS.items()
            if any(_matches(start, magic) for magic in kind.magic)
        ),
        None,
    )
    if kind is None:
        raise ImageError("is not an image of a format that can be read")
    if kind == "heic" and b"avif" in start[16:]:  # the general brand first
        return "avif"
    if kind == "tiff":
        with as_file(source) as file:
            return "raw" if is_raw(file) else kind
    return kind


def _start(path: Path) -> bytes:
    check_regular(path, ImageError)
    with open(path, "rb") as file:
        return file.read(64)


def _matches(start: bytes, magic: bytes) -> bool:
    return len(start) >= len(magic) and all(
        wanted in (own, ord("?")) for own, wanted in zip(start, magic, strict=False)
    )
