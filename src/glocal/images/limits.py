"""What the formats of image files can hold: pixels a side, samples, alpha, metadata."""

from dataclasses import dataclass
from pathlib import Path

from glocal.errors import ImageError
from glocal.images.exif import MAKER_NOTE, parsed
from glocal.images.icc import linear_profile
from glocal.images.metadata import Metadata

__all__ = [
    "FORMATS",
    "READ_ONLY",
    "SEGMENT",
    "SUFFIXES",
    "UNREADABLE",
    "WRITTEN",
    "Format",
    "check_format",
    "format_named",
    "losses",
    "max_side",
    "written_suffix",
]


@dataclass(frozen=True)
class Format:
    """What files of a format can hold.

    Attributes:
        name: of the format.
        kind: of its files, a key of `glocal.images.kinds.KINDS`.
        side: most pixels of height and width that can be written.
        bits: most bits per sample that is a whole number.
        floats: whether it holds floating-point samples.
        alpha, icc, exif, xmp, iptc: whether it holds them.
        texts: names of the texts that it holds; "*" stands for all.
        block: most bytes of a block of metadata.
    """

    name: str
    kind: str
    side: int
    bits: int = 8
    floats: bool = False
    alpha: bool = True
    icc: bool = True
    exif: bool = True
    xmp: bool = True
    iptc: bool = True
    texts: tuple[str, ...] = ()
    block: int = 2**31


_LIBVIPS_SIDE = 10_000_000
"""Most pixels a side of an image of libvips; PNG and BigTIFF files hold more."""

SEGMENT = 65_533
"""Most bytes of a segment of JPEG files, in which each block of metadata lies."""

FORMATS = {
    ".png": Format("PNG", "png", _LIBVIPS_SIDE, bits=16, texts=("*",)),
    # 65500 is the limit of libjpeg; the file format ends at 65535
    ".jpg": Format("JPEG", "jpeg", 65_500, alpha=False, texts=("Comment",), block=SEGMENT - 29),
    ".tif": Format("TIFF", "tiff", _LIBVIPS_SIDE, bits=16, floats=True),
    ".webp": Format("WebP", "webp", 16_383, iptc=False),
    ".avif": Format("AVIF", "avif", 16_384, bits=12, iptc=False),
    ".jxl": Format("JPEG XL", "jxl", _LIBVIPS_SIDE, bits=16, floats=True, icc=False, iptc=False),
    ".exr": Format(
        "OpenEXR",
        "exr",
        _LIBVIPS_SIDE,
        bits=16,
        floats=True,
        icc=False,
        exif=False,
        xmp=False,
        iptc=False,
        texts=("*",),
    ),
}
"""The formats that are written, by the suffix that names them."""

_SYNONYMS = {".jpeg": ".jpg", ".tiff": ".tif"}

READ_ONLY = {
    **dict.fromkeys((".heic", ".heif", ".hif", ".gif", ".bmp", ".jp2", ".j2k", ".jpf"), ".png"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ".png"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".srf", ".sr2"), ".tif"),
    **dict.fromkeys((".raf", ".orf", ".rw2", ".pef", ".srw", ".raw", ".3fr", ".iiq"), ".tif"),
    ".pfm": ".tif",
}
"""Suffixes of files that are only read, and the suffix of their results."""

WRITTEN = (*FORMATS, *_SYNONYMS)
"""Suffixes of the files that can be written, in lower case."""

SUFFIXES = (*WRITTEN, *READ_ONLY)
"""Suffixes of the files that can be read, in lower case."""

UNREADABLE = frozenset(
    ".psd .psb .xcf .kra .ora .svg .svgz .eps .ai .pdf .ico .icns .cur .tga .dds .hdr .pic .pcx "
    ".sgi .rgb .ras .wmf .emf .jxr .wdp .hdp .jls .fits .fit .dcm .dpx .cin .qoi .x3f .mef .mos "
    ".erf .kdc .dcr .mrw .rwl .fff .gpr .apng .jng .mng .webm .insp .flif .bpg .pam .cr1 .crw "
    ".jfif .jpe .jif .avifs .heifs .heics".split()
)
"""Suffixes of pictures that cannot be read, or only under another name."""


def format_named(suffix: str) -> tuple[str, Format]:
    """Return the suffix that names the format of one of `WRITTEN`, and the format.

    >>> format_named(".jpeg")[0]
    '.jpg'

    Raises:
        ImageError: no format has this suffix.
    """
    known = _SYNONYMS.get(suffix.lower(), suffix.lower())
    if known not in FORMATS:
        what = repr(suffix) if suffix else "a file without a suffix"
        raise ImageError(f"cannot write {what}; use one of {', '.join(WRITTEN)}")
    return known, FORMATS[known]


def written_suffix(suffix: str) -> str:
    """The suffix of the result of a file with this suffix: its own, where it can be written.

    >>> written_suffix(".JPG"), written_suffix(".dng")
    ('.JPG', '.tif')
    """
    return READ_ONLY.get(suffix.lower(), suffix)


def max_side(path: Path) -> int:
    """Most pixels a side of an image in a file of this name.

    Raises:
        ImageError: no format has its suffix.
    """
    return format_named(path.suffix)[1].side


def check_format(path: Path, size: tuple[int, int]) -> None:
    """Check that the format of a file can hold an image of (height, width).

    Raises:
        ImageError: the suffix is unknown, or the image is too large for the format.
    """
    try:
        most = max_side(path)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    if max(size) <= most:
        return
    roomy = [suffix for suffix, other in FORMATS.items() if other.side >= max(size)]
    instead = f"write a {' or '.join(roomy)} file" if roomy else "divide the image"
    raise ImageError(
        f"{path}: {path.suffix.lower()} files hold at most {most} pixels a side, not "
        f"{size[1]} × {size[0]}; {instead}"
    )


def losses(
    suffix: str, *, bits: int, has_alpha: bool, metadata: Metadata | None = None
) -> tuple[str, ...]:
    """Say what a file cannot hold of an image, one sentence each; usually empty.

    >>> losses(".jpg", bits=16, has_alpha=False)
    ('16-bit samples were rounded to 8 bits for .jpg',)

    Args:
        suffix: of the file.
        bits: per sample; 32 stands for floating point.
        has_alpha: whether the image has alpha.
        metadata: of the image.

    Raises:
        ImageError: no format has this suffix.
    """
    held = format_named(suffix)[1]
    rounded = f"rounded to {held.bits} bits for {suffix}"
    said = {
        f"{bits}-bit samples were {rounded}": held.bits < bits < 32,
        f"floating-point samples were clipped to 0…1 and {rounded}": bits == 32 and not held.floats,
        f"{held.name} has no alpha: the image was composited on white": has_alpha > held.alpha,
        "OpenEXR holds colours multiplied by alpha, which rounds them": has_alpha
        and held.kind == "exr",
    }
    sentences = [text for text, is_lost in said.items() if is_lost]
    return (*sentences, *_metadata_losses(held, metadata or Metadata()))


def _metadata_losses(held: Format, metadata: Metadata) -> list[str]:
    said = []
    for name in ("EXIF", "XMP", "IPTC"):
        block = getattr(metadata, name.lower())
        if block is None:
            continue
        if not getattr(held, name.lower()):
            said.append(f"{name} was dropped: it cannot be written to {held.name} files")
        elif len(block) > held.block:
            said.append(f"{name} was dropped: {held.name} files hold at most {held.block} bytes")
    texts = [key for key, _ in metadata.texts if not {"*", key} & {*held.texts}]
    if texts:
        named = ", ".join(dict.fromkeys(texts))
        said.append(f"texts were dropped that {held.name} files cannot hold: {named}")
    # the writers of these formats convert to the colours that the format stands for
    is_same = held.kind == "exr" and metadata.icc in (linear_profile(1), linear_profile(3))
    if metadata.icc is not None and not held.icc and not is_same:
        said.append(f"{held.name} files hold no colour profile: colours were converted")
    if held.kind == "tiff" and metadata.exif and MAKER_NOTE in parsed(metadata.exif).exif:
        said.append(
            "maker notes were moved within the file; readers that follow their offsets may "
            "misread them"
        )
    return said
