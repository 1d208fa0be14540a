"""Decode and encode images that may exceed memory, as raw samples on disk.

A file is decoded once, row by row, so a damaged file is rejected before any work is done. Colour
and alpha are stored in separate sample files, in which any part can be read or written.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
import pyvips

from glocal.errors import ImageError
from glocal.images.colour import Colours, colours_of
from glocal.images.formats import Opened, error_text, with_opened
from glocal.images.limits import losses
from glocal.images.metadata import Metadata
from glocal.images.writers import fit_format, resized, write_image
from glocal.shortages import raise_shortage

__all__ = ["Header", "SampleFile", "decode_file", "encode_file", "read_header"]

_VIPS_FORMATS = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Header:
    """Size and format of an image file, read without decoding it.

    Attributes:
        size: (height, width) of the upright image.
        channels: colour channels, 1 or 3.
        has_alpha: whether it has an alpha channel.
        dtype: uint8, uint16 or float32.
        metadata: EXIF, colour profile and others.
        pages: of the file; the rest is about the first.
    """

    size: tuple[int, int]
    channels: int
    has_alpha: bool
    dtype: np.dtype[Any]
    metadata: Metadata
    pages: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of all decoded samples."""
        height, width = self.size
        return height * width * (self.channels + self.has_alpha) * self.dtype.itemsize

    def losses(self, suffix: str) -> tuple[str, ...]:
        """Say what a file with this suffix cannot hold of the image, one sentence each.

        Raises:
            ImageError: no format has this suffix.
        """
        bits = 8 * self.dtype.itemsize
        return losses(suffix, bits=bits, has_alpha=self.has_alpha, metadata=self.metadata)

    @property
    def colours(self) -> Colours:
        """How a network sees the samples."""
        return colours_of(self.metadata.icc, self.dtype, self.channels)


@dataclass(frozen=True)
class SampleFile:
    """A file of uncompressed samples in (h, w, channels) order, without a header."""

    path: Path
    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the complete file in bytes."""
        return self.size[0] * self.size[1] * self.channels * self.dtype.itemsize

    @property
    def is_complete(self) -> bool:
        """True if the file exists and has its full size."""
        return self.path.is_file() and self.path.stat().st_size == self.nbytes

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read a rectangle of samples into memory."""
        return np.array(self._mapped("r", rows)[:, columns])

    def write(self, rows: slice, columns: slice, samples: np.ndarray) -> None:
        """Write a rectangle of samples and flush it to disk.

        Raises:
            OSError: the file cannot be written.
        """
        # mapped for this call only: mapped pages count as memory of this process
        mapped = self._mapped("r+", rows)
        mapped[:, columns] = samples
        mapped.flush()

    def create(self) -> None:
        """Allocate the file, without samples.

        Raises:
            OSError: the file cannot be written, or the disk is too full.
        """
        with open(self.path, "wb") as file:
            # writing to a mapped file on a full disk kills the process (SIGBUS)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.nbytes)
            else:
                file.truncate(self.nbytes)

    def regain_size(self) -> None:
        """Give the file its full size again; samples that it has lost become zeros.

        Raises:
            OSError: the file cannot be written, or the disk is too full.
        """
        with open(self.path, "ab") as file:
            file.truncate(self.nbytes)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.nbytes)

    def sha256(self) -> str:
        """Digest of all samples.

        Raises:
            OSError: the file cannot be read.
        """
        with open(self.path, "rb") as file:
            return file_digest(file, "sha256").hexdigest()

    def fill(self, vips: pyvips.Image) -> None:
        """Decode an image into the allocated file.

        Raises:
            pyvips.Error: the image cannot be decoded.
        """
        with open(self.path, "rb+") as file:
            vips.rawsave_target(pyvips.Target.new_to_descriptor(file.fileno()))

    def sync(self) -> None:
        """Flush the samples to disk.

        Raises:
            OSError: the file cannot be written.
        """
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())

    def vips(self) -> pyvips.Image:
        """The samples as a libvips image, read on demand."""
        height, width = self.size
        return pyvips.Image.rawload(
            os.fsencode(self.path),
            width,
            height,
            self.channels,
            format=_VIPS_FORMATS[self.dtype.name],
            revalidate=True,  # libvips caches by path, and the file may have been replaced
        )

    def _mapped(self, mode: Literal["r", "r+"], rows: slice) -> "np.memmap[Any, Any]":
        """Map the rows alone: a process may have a limit on its addresses."""
        first, end, _ = rows.indices(self.size[0])
        row = self.nbytes // self.size[0]
        shape = (max(0, end - first), self.size[1], self.channels)
        return np.memmap(self.path, self.dtype, mode, offset=first * row, shape=shape)


def read_header(path: Path, *, accept_damaged: bool = False) -> Header:
    """Read the header of an image file; a damaged one too with `accept_damaged`.

    Raises:
        ImageError: as for `glocal.images.image_files.read`, except for damage behind the header.
    """
    return _reading(path, _header, page=0, accept_damaged=accept_damaged)


def decode_file(
    path: Path, colour: SampleFile, alpha: SampleFile | None, *, accept_damaged: bool = False
) -> tuple[str, ...]:
    """Decode an image file into sample files for colour and, if it has any, alpha.

    Args:
        path: of the image file.
        colour: to fill.
        alpha: to fill, or None.
        accept_damaged: take the readable parts of a damaged file.

    Returns:
        Notes, one sentence each.

    Raises:
        ImageError: as for `glocal.images.image_files.read`.
        OSError: the samples cannot be written, or the disk is too full.
    """
    sample_files = [file for file in (colour, alpha) if file is not None]
    for file in sample_files:
        file.create()  # up front, because libvips reports a full disk as a damaged file

    def fill_alpha(opened: Opened) -> None:
        assert alpha is not None
        alpha.fill(opened.vips[opened.channels])

    def fill_colour(opened: Opened) -> tuple[str, ...]:
        colour.fill(opened.vips.extract_band(0, n=opened.channels))
        return opened.metadata.notes

    if alpha is not None:  # sequential access: readable only once
        _reading(path, fill_alpha, accept_damaged=accept_damaged)
    notes = _reading(path, fill_colour, accept_damaged=accept_damaged)
    for file in sample_files:
        file.sync()
    return notes


def encode_file(
    path: Path,
    colour: SampleFile,
    alpha: SampleFile | None,
    metadata: Metadata,
    *,
    quality: int = 95,
) -> tuple[str, ...]:
    """Encode sample files to an image file, atomically; alpha is resized to match.

    Returns:
        What the format could not hold, one sentence each; usually empty.

    Raises:
        ImageError: the suffix is unknown, the format cannot hold the image, or the file cannot be
            written.
        OSError: the disk is too full for what libvips writes beside the samples.
    """
    suffix = path.suffix.lower()
    opacity = None if alpha is None else resized(alpha.vips(), colour.size)
    # beside the samples, so that they are deleted with their folder if the process is killed
    partial, bare = (colour.path.with_name(f"{name}{suffix}") for name in ("encoded", "bare"))

    def save(vips: pyvips.Image, name: str, options: dict[str, Any]) -> BinaryIO:
        getattr(vips, f"{name}save")(os.fsencode(bare), **options)
        return open(bare, "rb")

    try:
        vips, notes = fit_format(colour.vips(), opacity, metadata, suffix)
        with open(partial, "wb+") as file:
            write_image(vips, metadata, suffix, quality, file, save)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except pyvips.Error as error:
        raise_shortage(str(error))
        raise ImageError(f"{path}: cannot be written as {suffix} ({error_text(error)})") from None
    except OSError as problem:
        raise ImageError(f"{path}: cannot be written ({problem.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)
        bare.unlink(missing_ok=True)
    return notes


def _header(opened: Opened) -> Header:
    size = opened.vips.height, opened.vips.width
    return Header(
        size, opened.channels, opened.has_alpha, opened.dtype, opened.metadata, opened.pages
    )


def _reading(
    path: Path,
    use: Callable[[Opened], Result],
    page: int | None = None,
    *,
    accept_damaged: bool = False,
) -> Result:
    """Return what `use` makes of an opened file; errors name the file."""
    try:
        return with_opened(path, use, page, accept_damaged=accept_damaged)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
