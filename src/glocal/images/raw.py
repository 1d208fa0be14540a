"""Image files that need not fit into memory: to plain samples on disk, and back to a file.

A source is decoded once, from its first to its last row, so that a damaged file is refused
before any work is done, and no row is unpacked twice. Samples of colour and of alpha lie in files
of their own, row by row, where any part can be read or written.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyvips

from glocal.errors import ImageError
from glocal.images.formats import (
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

__all__ = ["Header", "Raw", "check_format", "header", "pack", "unpack"]

_FORMATS = {"uint8": "uchar", "uint16": "ushort"}
_WRITERS = {".png": "png", ".jpg": "jpeg", ".tif": "tiff", ".webp": "webp"}
_LONGEST = {".jpg": 65535, ".webp": 16383}


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded: (height, width) upright, channels, sample type."""

    size: tuple[int, int]
    channels: int
    has_alpha: bool
    dtype: np.dtype[Any]
    facts: Facts

    @property
    def nbytes(self) -> int:
        """Of all decoded samples."""
        height, width = self.size
        return height * width * (self.channels + self.has_alpha) * self.dtype.itemsize


@dataclass(frozen=True)
class Raw:
    """Samples on disk, (h, w, channels), row by row without anything between them."""

    path: Path
    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self.size[0] * self.size[1] * self.channels * self.dtype.itemsize

    @property
    def whole(self) -> bool:
        """Whether the file is there and has its size."""
        return self.path.is_file() and self.path.stat().st_size == self.nbytes

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """A part of the samples, in memory."""
        return np.array(self._mapped("r")[rows, columns])

    def write(self, rows: slice, columns: slice, samples: np.ndarray) -> None:
        """Put samples in their place and have them on the disk.

        Raises:
            OSError: the disk refuses it.
        """
        # mapped for the moment only: pages that stay mapped would count as this process's memory
        mapped = self._mapped("r+")
        mapped[rows, columns] = samples
        mapped.flush()

    def create(self) -> None:
        """Make the file, without samples.

        Raises:
            OSError: the disk refuses it, or has no room for it.
        """
        with open(self.path, "wb") as file:
            # a mapped file that the disk has no room for would end the process
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.nbytes)
            else:
                file.truncate(self.nbytes)

    def fill(self, vips: pyvips.Image) -> None:
        """Put all samples of an image into the file that was made, in the room it has.

        Raises:
            pyvips.Error: the image cannot be decoded.
        """
        with open(self.path, "rb+") as file:
            vips.rawsave_target(pyvips.Target.new_to_descriptor(file.fileno()))

    def sync(self) -> None:
        """Have the samples on the disk.

        Raises:
            OSError: the disk refuses it.
        """
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())

    def vips(self) -> pyvips.Image:
        """The samples as libvips reads them, piece by piece."""
        height, width = self.size
        return pyvips.Image.rawload(
            str(self.path),
            width,
            height,
            self.channels,
            format=_FORMATS[self.dtype.name],
            revalidate=True,  # the name may be that of another file by now
        )

    def _mapped(self, mode: Literal["r", "r+"]) -> "np.memmap[Any, Any]":
        return np.memmap(self.path, self.dtype, mode, shape=(*self.size, self.channels))


def header(path: Path) -> Header:
    """What a file says about its image; nothing is decoded.

    Raises:
        ImageError: as for `glocal.images.images.read`, as far as a file's beginning shows it.
    """
    return _bearing(path, lambda fail_on: _opened(path, fail_on)[1])


def unpack(path: Path, colour: Raw, alpha: Raw | None) -> None:
    """Decode a file to raw samples of colour, and of alpha where it has any; all on the disk.

    Raises:
        ImageError: as for `glocal.images.images.read`.
        OSError: the disk refuses the samples, or has no room for them.
    """
    files = [raw for raw in (colour, alpha) if raw is not None]
    for raw in files:
        raw.create()  # to libvips, a disk that is full looks like a file that is damaged

    def unpacked(fail_on: str) -> Header:
        upright, told = _opened(path, fail_on)
        if alpha is not None:
            alpha.fill(upright[told.channels])
            upright, _ = _opened(path, fail_on)  # it can be read once
            upright = upright.extract_band(0, n=told.channels)
        colour.fill(upright)
        return told

    _bearing(path, unpacked)
    for raw in files:
        raw.sync()


def check_format(path: Path, size: tuple[int, int]) -> None:
    """Refuse a file whose format holds no image of this (height, width).

    Raises:
        ImageError: the format is unknown, or its sides are shorter.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: its name must end in {SUFFIXES}")
    most = _LONGEST.get(short(suffix), max(size))
    if max(size) > most:
        raise ImageError(
            f"{path}: {size[1]} × {size[0]} pixels, and {suffix} holds {most} a side; "
            "name a .png or .tif"
        )


def pack(
    path: Path, colour: Raw, alpha: Raw | None, facts: Facts, *, quality: int = 95
) -> tuple[str, ...]:
    """Write raw samples as an image file, whole or not at all; alpha is enlarged to the colour.

    Returns:
        What the format could not hold, one sentence each; mostly empty.

    Raises:
        ImageError: the format is unknown or cannot hold the image, or the disk refuses it.
    """
    suffix = path.suffix.lower()
    opacity = None if alpha is None else enlarged(alpha.vips(), colour.size)
    # among the samples: what a run that was ended leaves of it goes with their folder
    partial = colour.path.with_name(f"encoded{suffix}")
    try:
        vips, notes = fitted(colour.vips(), opacity, facts, suffix)
        write = getattr(vips, f"{_WRITERS[short(suffix)]}save")
        write(str(partial), **saving(suffix, vips, facts, quality))
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except pyvips.Error as error:
        raise ImageError(f"{path}: cannot be written as {suffix} ({reason(error)})") from None
    except OSError as problem:
        raise ImageError(f"{path}: cannot be written ({problem.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)
    return notes


def _opened(path: Path, fail_on: str) -> tuple[pyvips.Image, Header]:
    with open(path, "rb") as file:
        start = file.read(12)
    upright, channels, has_alpha, facts = described(load(kind_of(start), path, fail_on))
    dtype: np.dtype[Any] = np.dtype(np.uint16 if upright.format == "ushort" else np.uint8)
    return upright, Header((upright.height, upright.width), channels, has_alpha, dtype, facts)


def _bearing(path: Path, run: Callable[[str], Header]) -> Header:
    """Strictly first, then with surplus bytes that do no harm; libvips' errors in our words."""
    try:
        try:
            return run("warning")
        except pyvips.Error as error:
            if not harmless(error):
                raise
            return run("error")
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except pyvips.Error as error:
        raise ImageError(f"{path}: is damaged or cut short ({reason(error)})") from None
