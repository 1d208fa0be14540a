"""Image files: pixels and metadata in, pixels and metadata out.

Reads and writes the common formats through libvips, which preserves 16-bit samples and ICC
profiles, and others through the libraries of the extra "formats". `glocal.images.sample_files`
does the same for images that may exceed memory.

Orientation is applied: :func:`read` rotates the pixels upright and sets the EXIF and XMP
orientation tags to 1.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pyvips

from glocal.errors import ImageError
from glocal.images.colour import Colours, colours_of
from glocal.images.decoder_memory import check_whole
from glocal.images.files import check_regular, write_whole
from glocal.images.formats import Opened, error_text, with_opened
from glocal.images.limits import format_named
from glocal.images.metadata import DENSITY, Metadata
from glocal.images.writers import fit_format, resized, saver, write_image
from glocal.shortages import raise_shortage

__all__ = [
    "Image",
    "check_pages",
    "decode",
    "encode",
    "enlarge",
    "read",
    "write",
    "write_pages",
]


@dataclass(frozen=True, eq=False)
class Image:
    """An upright image with the metadata of its file.

    Attributes:
        pixels: (h, w, 1) grey or (h, w, 3) colour, uint8, uint16 or float32 (white is 1), in the
            colour space that ``icc`` describes; sRGB without a profile.
        alpha: (h, w) opacity of the same dtype, not premultiplied, or None.
        icc: the ICC profile, or None.
        exif: the EXIF block (orientation 1), or None; the descriptive tags of a TIFF file.
        xmp: the XMP packet (orientation 1), or None.
        iptc: the Photoshop block with IPTC records (captions, copyright), or None.
        texts: text chunks of PNG files, comments of JPEG files: name and text.
        density: pixels per millimetre, (horizontal, vertical).
        lossless: whether a WebP file was encoded without loss; its results are, too.
        notes: what was converted on reading, one sentence each; usually empty.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    density: tuple[float, float] = DENSITY
    lossless: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and dtypes.

        Raises:
            ImageError: no format can hold such an image.
        """
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
            raise ImageError(f"pixels have shape {pixels.shape}; expected (h, w, 1) or (h, w, 3)")
        if pixels.dtype not in (np.uint8, np.uint16, np.float32):
            raise ImageError(f"pixels are {pixels.dtype}; expected uint8, uint16 or float32")
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
    def metadata(self) -> Metadata:
        """All but pixels and alpha."""
        return Metadata(**{name: getattr(self, name) for name in Metadata.__dataclass_fields__})

    @property
    def colours(self) -> Colours:
        """How a network sees the pixels."""
        return colours_of(self.icc, self.pixels.dtype, self.pixels.shape[2])

    @property
    def bits(self) -> int:
        """Bits per sample, 8 or 16; 32 if they are floating-point."""
        return self.pixels.dtype.itemsize * 8


def read(
    path: str | os.PathLike[str], page: int | None = None, *, accept_damaged: bool = False
) -> Image:
    """Read an image file; its content, not its name, tells the format.

    Args:
        path: of the file.
        page: number of a page of a TIFF file, from 0; metadata are those of the first page.
            Without it files of several pages are refused.
        accept_damaged: take the readable parts of a damaged file; `notes` says so.

    Raises:
        ImageError: the file is missing, damaged or cut short, has several pages or frames, is of
            a format or form that cannot be read, or needs a library that is not installed.
    """
    path = Path(path)
    try:
        check_regular(path, ImageError)
        data = path.read_bytes()
        return decode(data, page, accept_damaged=accept_damaged)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def write_pages(
    path: str | os.PathLike[str], pages: Sequence[Image], *, quality: int = 95
) -> tuple[str, ...]:
    """Write images as the pages of a TIFF file, atomically, with the metadata of the first.

    Returns:
        As :func:`write`.

    Raises:
        ImageError: as :func:`check_pages`, or the file cannot be written.
    """
    path = Path(path)
    check_pages(path, pages)
    alphas = [page.alpha for page in pages if page.alpha is not None]
    whole = dataclasses.replace(
        pages[0],
        pixels=np.concatenate([page.pixels for page in pages]),
        alpha=np.concatenate(alphas) if alphas else None,
    )
    try:
        data, notes = encode(whole, path.suffix, quality=quality, page_height=pages[0].size[0])
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    write_whole(path, data, ImageError)
    return notes


def check_pages(path: Path, pages: Sequence[Image]) -> None:
    """Check that a file can hold images as its pages.

    Raises:
        ImageError: it is no TIFF file, or the images are of different sizes, kinds or profiles.
    """
    if format_named(path.suffix)[1].kind != "tiff":
        raise ImageError(f"{path}: only TIFF files hold several pages; write a .tif file")
    kinds = {(page.pixels.shape, page.pixels.dtype, page.alpha is None, page.icc) for page in pages}
    if len(kinds) > 1:
        raise ImageError(
            f"{path}: the {len(pages)} pages differ in size, samples or colour profile; split them "
            "into single images first"
        )


def write(path: str | os.PathLike[str], image: Image, *, quality: int = 95) -> tuple[str, ...]:
    """Write an image atomically, in the format of the file's suffix.

    An existing file is replaced. See :func:`encode` for the formats.

    Returns:
        What the format could not hold, one sentence each; usually empty.

    Raises:
        ImageError: the suffix is unknown, the format cannot hold the image, or the file cannot be
            written.
    """
    path = Path(path)
    try:
        data, notes = encode(image, path.suffix, quality=quality)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    write_whole(path, data, ImageError)
    return notes


def decode(data: bytes, page: int | None = None, *, accept_damaged: bool = False) -> Image:
    """Decode the bytes of an image file; options as for :func:`read`.

    Raises:
        ImageError: as for :func:`read`.
    """
    return with_opened(data, _image, page, accept_damaged=accept_damaged)


def _image(opened: Opened) -> Image:
    check_whole(opened.vips)
    vips, channels = opened.vips.copy_memory(), opened.channels
    samples = vips.numpy().reshape(vips.height, vips.width, vips.bands)
    return Image(
        pixels=np.ascontiguousarray(samples[..., :channels]),
        alpha=np.ascontiguousarray(samples[..., channels]) if opened.has_alpha else None,
        **vars(opened.metadata),
    )


def encode(
    image: Image, suffix: str, *, quality: int = 95, page_height: int | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """Encode an image; returns the bytes and notes on what the format could not hold.

    ``.png``, ``.tif``/``.tiff`` and ``.jxl`` hold 8 and 16 bits, without loss; TIFF, JPEG XL and
    ``.exr`` hold floating point. ``.jpg``/``.jpeg`` and ``.webp`` (8 bits) and ``.avif`` (12 bits)
    are lossy at ``quality`` (1 to 100), with all colours (4:4:4) in JPEG and AVIF: more bits are
    rounded. JPEG has no alpha: the image is composited on white. With `page_height` the image is
    one of several pages, from top to bottom, of a TIFF file.

    >>> import numpy as np
    >>> data, notes = encode(Image(np.full((8, 8, 3), 40000, np.uint16)), ".jpg")
    >>> notes
    ('16-bit samples were rounded to 8 bits for .jpg',)
    >>> decode(data).pixels[0, 0]
    array([156, 156, 156], dtype=uint8)

    Raises:
        ImageError: no format has this suffix, the format cannot hold the size, or a library is not
            installed.
    """
    suffix = suffix.lower()
    colour = pyvips.Image.new_from_array(np.ascontiguousarray(image.pixels))
    alpha = image.alpha
    opacity = None if alpha is None else pyvips.Image.new_from_array(np.ascontiguousarray(alpha))
    vips, notes = fit_format(colour, opacity, image.metadata, suffix)
    file = BytesIO()
    save = partial(saver, page_height=page_height) if page_height else saver
    try:
        write_image(vips, image.metadata, suffix, quality, file, save)
    except pyvips.Error as error:
        raise_shortage(str(error))
        raise ImageError(f"cannot be written as {suffix} ({error_text(error)})") from None
    return file.getvalue(), notes


def enlarge(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize opacity (h, w) to (height, width), bilinearly.

    >>> enlarge(np.zeros((3, 4), np.uint8), (6, 8)).shape
    (6, 8)
    """
    return np.asarray(resized(pyvips.Image.new_from_array(np.ascontiguousarray(alpha)), size))
