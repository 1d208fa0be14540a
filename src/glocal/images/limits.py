"""What the formats of image files can hold: pixels a side, bits, alpha, metadata."""

from dataclasses import dataclass
from pathlib import Path

from glocal.errors import ImageError

__all__ = ["FORMATS", "SUFFIXES", "Format", "check_format", "format_named", "losses", "max_side"]


@dataclass(frozen=True)
class Format:
    """What files of a format can hold.

    Attributes:
        name: of the format.
        side: most pixels of height and width that can be written.
        bits: most bits per sample.
        alpha, exif: whether it holds them.
    """

    name: str
    side: int
    bits: int = 8
    alpha: bool = True
    exif: bool = True


_LIBVIPS_SIDE = 10_000_000
"""Most pixels a side of an image of libvips; PNG and BigTIFF files hold more."""

FORMATS = {
    ".png": Format("PNG", _LIBVIPS_SIDE, bits=16),
    ".jpg": Format("JPEG", 65_500, alpha=False),  # of libjpeg; the file format ends at 65535
    ".tif": Format("TIFF", _LIBVIPS_SIDE, bits=16, exif=False),
    ".webp": Format("WebP", 16_383),
}
"""The formats by the suffix that libvips uses."""

_SYNONYMS = {".jpeg": ".jpg", ".tiff": ".tif"}

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""Suffixes of the files that can be read and written, in lower case."""


def format_named(suffix: str) -> tuple[str, Format]:
    """Return the suffix that libvips uses for one of `SUFFIXES`, and its format.

    >>> format_named(".jpeg")[0]
    '.jpg'

    Raises:
        ImageError: no format has this suffix.
    """
    known = _SYNONYMS.get(suffix.lower(), suffix.lower())
    if known not in FORMATS:
        what = repr(suffix) if suffix else "a file without a suffix"
        raise ImageError(f"cannot write {what}; use one of {', '.join(SUFFIXES)}")
    return known, FORMATS[known]


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


def losses(suffix: str, *, bits: int, has_alpha: bool, has_exif: bool) -> tuple[str, ...]:
    """Say what a file cannot hold of an image, one sentence each; usually empty.

    >>> losses(".jpg", bits=16, has_alpha=False, has_exif=True)
    ('16-bit samples were rounded to 8 bits for .jpg',)

    Raises:
        ImageError: no format has this suffix.
    """
    held = format_named(suffix)[1]
    said = {
        f"16-bit samples were rounded to 8 bits for {suffix}": bits > held.bits,
        f"{held.name} has no alpha: the image was composited on white": has_alpha > held.alpha,
        f"EXIF was dropped: it cannot be written to {held.name} files": has_exif > held.exif,
    }
    return tuple(text for text, is_lost in said.items() if is_lost)
