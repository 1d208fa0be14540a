"""Image files: pixels and metadata in, pixels and metadata out.

Reads and writes PNG, JPEG, TIFF and WebP through libvips, which keeps 16-bit samples, ICC
profiles and EXIF exact where other libraries drop them silently. `glocal.images.raw` does the
same for images that need not fit into memory.

Orientation is *applied*: :func:`read` turns the pixels upright and sets the EXIF and XMP
orientation tags to 1, so what a viewer shows is what the file says.
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
    SUFFIXES,
    Facts,
    described,
    enlarged,
    fitted,
    harmless,
    kind_of,
    load,
    reason,
    saving,
    short,
)

__all__ = ["SUFFIXES", "Image", "decode", "encode", "enlarge", "list_images", "read", "write"]


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
    density: tuple[float, float] = DENSITY
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
    kind = kind_of(data[:12])
    try:
        try:
            vips = load(kind, data).copy_memory()
        except pyvips.Error as error:
            if not harmless(error):
                raise
            vips = load(kind, data, fail_on="error").copy_memory()
        upright, bands, has_alpha, facts = described(vips)
        samples = upright.numpy().reshape(upright.height, upright.width, upright.bands)
    except pyvips.Error as error:
        raise ImageError(f"is damaged or cut short ({reason(error)})") from None
    return Image(
        pixels=np.ascontiguousarray(samples[..., :bands]),
        alpha=np.ascontiguousarray(samples[..., bands]) if has_alpha else None,
        **vars(facts),
    )


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
    facts = Facts(image.icc, image.exif, image.xmp, image.iptc, image.density)
    colour = pyvips.Image.new_from_array(np.ascontiguousarray(image.pixels))
    alpha = image.alpha
    opacity = None if alpha is None else pyvips.Image.new_from_array(np.ascontiguousarray(alpha))
    vips, notes = fitted(colour, opacity, facts, suffix)
    try:
        data = vips.write_to_buffer(short(suffix), **saving(suffix, vips, facts, quality))
    except pyvips.Error as error:
        raise ImageError(f"cannot be written as {suffix} ({reason(error)})") from None
    return bytes(data), notes


def enlarge(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Opacity (h, w) at a multiple of its size, bilinearly.

    >>> enlarge(np.zeros((3, 4), np.uint8), (6, 8)).shape
    (6, 8)
    """
    return np.asarray(enlarged(pyvips.Image.new_from_array(np.ascontiguousarray(alpha)), size))
