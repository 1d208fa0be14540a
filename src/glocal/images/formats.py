"""Open image files of any kind as libvips images, with their metadata.

Orientation is applied: pixels are rotated upright and the EXIF and XMP orientation tags set to 1.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import pyvips

from glocal.errors import ImageError
from glocal.images.decoder_memory import check_decoder
from glocal.images.embedded import has_field, noted, read_metadata, upright_metadata, with_profile
from glocal.images.faults import with_valid_orientation, without_surplus
from glocal.images.files import as_file
from glocal.images.kinds import KINDS, kind_of
from glocal.images.markers import png_frames
from glocal.images.metadata import Metadata
from glocal.images.optional import is_installed
from glocal.images.readers import Decoded, decoded
from glocal.images.wholeness import damage
from glocal.shortages import check_can_allocate, raise_shortage

__all__ = [
    "DAMAGED",
    "DamagedError",
    "Opened",
    "error_text",
    "libvips_version",
    "loaders",
    "with_opened",
]

# libvips' own messages are in its errors too; without a handler logging prints them
logging.getLogger("pyvips").addHandler(logging.NullHandler())
if "VIPS_WARNING" in os.environ:  # libvips drops its warnings then, which are in its errors
    # an interruption would be lost in the callback that pyvips sets for them
    getattr(pyvips, "_remove_log_handler", lambda: None)()

_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3, "scrgb": 3}
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_LAB = ("lab", "labs", "labq")

Result = TypeVar("Result")


class Opened(NamedTuple):
    """An image file whose header was read.

    Attributes:
        vips: the upright image; its pixels are decoded when they are read.
        channels: of colour, 1 or 3; alpha follows them.
        has_alpha: whether it has alpha.
        metadata: of the file.
        pages: of the file.
    """

    vips: pyvips.Image
    channels: int
    has_alpha: bool
    metadata: Metadata
    pages: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, uint16 or float32."""
        return np.dtype(_DTYPES[self.vips.format])


DAMAGED = "the file is damaged: areas may be missing or wrong"
"""Note on a damaged file that was read as far as possible."""

MOST_FAULTS = 16
"""Most faults of a file that are mended, each by a decoding of its own."""


class DamagedError(ImageError):
    """An image file is damaged or cut short."""


class _UnusualError(Exception):
    """A TIFF file is valid, but of a form that libvips does not know."""


def libvips_version() -> str:
    """The version of the libvips library, such as 8.16.0."""
    return ".".join(str(pyvips.version(i)) for i in range(3))


def loaders() -> dict[str, tuple[bool, bool]]:
    """Whether each format can be read, and written, with what is installed."""

    def has(base: str, operation: str) -> bool:
        return bool(pyvips.type_find(base, operation))

    found = {}
    for name, kind in KINDS.items():
        if kind.loader:
            writes = name != "gif" and has("VipsForeignSave", f"{kind.loader}save")
            found[name] = has("VipsForeignLoad", f"{kind.loader}load"), writes
        else:
            installed = not kind.library or is_installed(kind.library)
            found[name] = installed, installed and name in ("jxl", "exr")
    return found


def with_opened(
    source: bytes | Path,
    use: Callable[[Opened], Result],
    page: int | None = None,
    *,
    accept_damaged: bool = False,
) -> Result:
    """Open an image file, or its bytes, and return what `use` makes of it.

    Any warning of a decoder is an error. `use` is called again, from the start of the file, if
    decoding the pixels shows that the file is of a form that another reader knows, or has a fault
    that says nothing about the picture (`glocal.images.faults`).

    Args:
        source: the file.
        use: of the opened image.
        page: number of a page of a TIFF file; without it files of several pages are refused.
        accept_damaged: take the readable parts of a damaged file, and note it.

    Raises:
        ImageError: the file is damaged, or of a format or form that cannot be read.
        OSError: it cannot be read.
        MemoryError: memory does not suffice to decode it.
    """
    kind = kind_of(source)
    if not KINDS[kind].loader:
        return use(_whole(decoded(kind, _bytes(source))))
    try:
        if reason := damage(kind, source):
            raise _damaged(reason)
        return _strictly(kind, source, use, page)
    except DamagedError:
        if not accept_damaged:
            raise
    try:
        with _opening(kind, source, page, fail_on="none") as opened:
            return use(opened._replace(metadata=noted(opened.metadata, DAMAGED)))
    except (pyvips.Error, _UnusualError) as problem:
        raise_shortage(str(problem))
        raise _damaged(error_text(problem)) from None


def _strictly(
    kind: str, source: bytes | Path, use: Callable[[Opened], Result], page: int | None
) -> Result:
    for _ in range(MOST_FAULTS):
        # libvips appends to one text of errors, which may hold those of other files
        pyvips.vips_lib.vips_error_clear()
        try:
            with _opening(kind, source, page) as opened:
                return use(opened)
        except _UnusualError:
            return use(_whole(decoded(kind, _bytes(source))))
        except pyvips.Error as problem:
            raise_shortage(str(problem))
            if kind == "tiff" and _UNUSUAL.search(str(problem)):
                return use(_whole(decoded(kind, _bytes(source))))
            mended = without_surplus(_bytes(source), str(problem)) if kind == "jpeg" else None
            if mended is None:
                raise _damaged(error_text(problem)) from None
            source = mended
    raise _damaged(f"more than {MOST_FAULTS} faults")


def _damaged(reason: str) -> DamagedError:
    return DamagedError(f"is damaged or cut short ({reason})")


_UNUSUAL = re.compile(
    "not supported|not configured|not implemented|samples out of range|bad labq|unsupported"
)
"""Errors of libvips about TIFF files that it does not know, though they may be valid."""


@contextmanager
def _opening(
    kind: str, source: bytes | Path, page: int | None, fail_on: str = "warning"
) -> Iterator[Opened]:
    """Open a file with libvips' loader for its kind.

    Names the loader, because libvips would also try PDF, SVG and others. An upright file is
    decoded once, row by row. A rotated one needs random access, for which libvips decodes large
    images to a temporary file.
    """
    loader = KINDS[kind].loader
    options: dict[str, Any] = {"fail_on": fail_on}
    if page and kind == "tiff":
        options["page"] = page
    valid = with_valid_orientation(source) if kind == "tiff" else nullcontext(source)
    with valid as read, as_file(source) as file:
        if isinstance(read, bytes):
            check_can_allocate(len(read), "a copy of the file")
            vips = getattr(pyvips.Image, f"{loader}load_buffer")(read, **options)
        else:
            # revalidate: libvips caches by path, and the file may have been replaced
            load = partial(
                getattr(pyvips.Image, f"{loader}load"), os.fsencode(read), revalidate=True
            )
            vips = load(access="sequential", **options)
            if has_field(vips, "orientation") and vips.get("orientation") > 1:
                vips = load(**options)
        check_decoder(kind, vips, file)
        yield _described(kind, vips, file, page)


def _described(kind: str, vips: pyvips.Image, file: BinaryIO, page: int | None) -> Opened:
    """Return the upright image with its channels and metadata.

    Raises:
        ImageError: the image has several pages, or its sample format is not supported.
    """
    pages = vips.get("n-pages") if has_field(vips, "n-pages") else 1
    if kind == "png":
        pages = png_frames(file)
    if pages > 1 and (page is None or kind != "tiff"):
        raise ImageError(f"has {pages} pages or frames; split it into single images first")
    metadata = read_metadata(kind, vips, file)
    if vips.interpretation == "cmyk" and not vips.hasalpha():
        depth = 16 if vips.format == "ushort" else 8
        vips = vips.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
        said = "CMYK was converted to sRGB, whose colours differ slightly"
        metadata = noted(metadata, said, icc=None)
    has_alpha, channels = vips.hasalpha(), _COLOURS.get(vips.interpretation)
    if kind == "tiff" and vips.interpretation in _LAB:
        raise _UnusualError
    if vips.format not in _DTYPES or channels is None or vips.bands != channels + has_alpha:
        raise ImageError(
            f"has {vips.bands} channels of {vips.format}, {vips.interpretation}; only grey, RGB "
            "and CMYK images of 8 and 16 bits or floating point can be read"
        )
    metadata = with_profile(metadata, channels)
    return Opened(vips.autorot(), channels, has_alpha, metadata, pages)


def _whole(found: Decoded) -> Opened:
    """An image that was decoded whole, as a libvips image."""
    samples, metadata = found.samples, found.metadata
    channels, has_alpha = 3 if samples.shape[2] > 2 else 1, samples.shape[2] % 2 == 0
    metadata = with_profile(upright_metadata(metadata), channels)
    return Opened(pyvips.Image.new_from_array(samples), channels, has_alpha, metadata)


def _bytes(source: bytes | Path) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def error_text(error: pyvips.Error) -> str:
    """The informative line of a libvips error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if not re.search("unable to|load error", line)]
    return (informative or ["its decoder gives a warning"])[-1]
