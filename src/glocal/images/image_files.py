"""Image files: pixels and metadata in, pixels and metadata out.

Reads and writes PNG, JPEG, TIFF and WebP through libvips, which preserves 16-bit samples, ICC
profiles and EXIF; other libraries drop them silently. `glocal.images.sample_files` does the same
for images that may exceed memory.

Orientation is applied: :func:`read` rotates the pixels upright and sets the EXIF and XMP
orientation tags to 1.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips

from glocal.errors import ImageError
from glocal.images.files import write_whole
from glocal.images.formats import (
    DENSITY,
    Metadata,
    describe,
    error_text,
    fit_format,
    format_of,
    is_tolerable,
    open_image,
    resized,
    save_options,
)
from glocal.images.limits import SUFFIXES, format_named

__all__ = ["SUFFIXES", "Image", "decode", "encode", "enlarge", "list_images", "read", "write"]


@dataclass(frozen=True, eq=False)
class Image:
    """An upright image with the metadata of its file.

    Attributes:
        pixels: (h, w, 1) grey or (h, w, 3) colour, uint8 or uint16, in the colour space that
            ``icc`` describes; sRGB without a profile.
        alpha: (h, w) opacity of the same dtype, not premultiplied, or None.
        icc: the ICC profile, or None.
        exif: the EXIF block (orientation 1), or None. It is neither read from nor written to TIFF.
        xmp: the XMP packet (orientation 1), or None.
        iptc: the IPTC block (captions, copyright), or None.
        density: pixels per millimetre, (horizontal, vertical).
        notes: what was converted on reading, one sentence each; usually empty.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: tuple[float, float] = DENSITY
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and dtypes.

        Raises:
            ImageError: none of the four formats can hold such an image.
        """
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
    """Read a PNG, JPEG, TIFF or WebP file; its content, not its name, tells which.

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


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> list[Path]:
    """The image files in a folder, sorted; selected by suffix, hidden ones excluded.

    Raises:
        ImageError: the folder does not exist.
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
    """Decode the bytes of a PNG, JPEG, TIFF or WebP file.

    Raises:
        ImageError: as for :func:`read`.
    """
    kind = format_of(data[:12])
    try:
        try:
            vips = open_image(kind, data).copy_memory()
        except pyvips.Error as error:
            if not is_tolerable(error):
                raise
            vips = open_image(kind, data, fail_on="error").copy_memory()
        upright, bands, has_alpha, metadata = describe(vips)
        samples = upright.numpy().reshape(upright.height, upright.width, upright.bands)
    except pyvips.Error as error:
        raise ImageError(f"is damaged or cut short ({error_text(error)})") from None
    return Image(
        pixels=np.ascontiguousarray(samples[..., :bands]),
        alpha=np.ascontiguousarray(samples[..., bands]) if has_alpha else None,
        **vars(metadata),
    )


def encode(image: Image, suffix: str, *, quality: int = 95) -> tuple[bytes, tuple[str, ...]]:
    """Encode an image; returns the bytes and notes on what the format could not hold.

    ``.png`` and ``.tif``/``.tiff`` hold 8 and 16 bits, without loss. ``.jpg``/``.jpeg`` (4:4:4)
    and ``.webp`` are lossy at ``quality`` (1 to 100) and hold 8 bits: 16-bit samples are rounded
    to the nearest of the 256 levels. JPEG has no alpha: the image is composited on white.

    >>> import numpy as np
    >>> data, notes = encode(Image(np.full((8, 8, 3), 40000, np.uint16)), ".jpg")
    >>> notes
    ('16-bit samples were rounded to 8 bits for .jpg',)
    >>> decode(data).pixels[0, 0]
    array([156, 156, 156], dtype=uint8)

    Raises:
        ImageError: no format has this suffix, or the format cannot hold the size.
    """
    suffix = suffix.lower()
    metadata = Metadata(image.icc, image.exif, image.xmp, image.iptc, image.density)
    colour = pyvips.Image.new_from_array(np.ascontiguousarray(image.pixels))
    alpha = image.alpha
    opacity = None if alpha is None else pyvips.Image.new_from_array(np.ascontiguousarray(alpha))
    vips, notes = fit_format(colour, opacity, metadata, suffix)
    try:
        data = vips.write_to_buffer(
            format_named(suffix)[0], **save_options(suffix, vips, metadata, quality)
        )
    except pyvips.Error as error:
        raise ImageError(f"cannot be written as {suffix} ({error_text(error)})") from None
    return bytes(data), notes


def enlarge(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize opacity (h, w) to (height, width), bilinearly.

    >>> enlarge(np.zeros((3, 4), np.uint8), (6, 8)).shape
    (6, 8)
    """
    return np.asarray(resized(pyvips.Image.new_from_array(np.ascontiguousarray(alpha)), size))
