"""Memory that a decoder takes at once, checked before it does.

glib, on which libvips builds, ends the process if it gets none.
"""

from typing import BinaryIO

import pyvips

from glocal.images.embedded import has_field
from glocal.images.tiff_tags import rows_at_once
from glocal.shortages import check_can_allocate

__all__ = ["check_decoder", "check_whole"]

_ROW_BY_ROW = ("png", "jpeg")
"""Kinds whose files are decoded row by row unless they are interlaced; others whole, but TIFF."""

_LEAST_ROWS = 1024
"""Rows that libvips keeps of a file that it decodes row by row, rounded up."""


def check_decoder(kind: str, vips: pyvips.Image, file: BinaryIO) -> None:
    """Check that there is memory for what the decoder of a file holds at once.

    Args:
        kind: of the file, see `glocal.images.kinds`.
        vips: its header.
        file: to read.

    Raises:
        MemoryError: there is none.
    """
    rows = vips.height
    if kind == "tiff":
        rows = rows_at_once(file)
    elif kind in _ROW_BY_ROW and not has_field(vips, "interlaced"):
        rows = _LEAST_ROWS
    share = min(1.0, max(rows, _LEAST_ROWS) / vips.height)
    _check(vips, int(share * _nbytes(vips)))


def check_whole(vips: pyvips.Image) -> None:
    """Check that there is memory for all samples, and for a copy of them.

    Raises:
        MemoryError: there is none.
    """
    _check(vips, 2 * _nbytes(vips))


def _nbytes(vips: pyvips.Image) -> int:
    """Bytes of all samples of an image."""
    item = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "double": 8}.get(vips.format, 4)
    return int(vips.width * vips.height * vips.bands * item)


def _check(vips: pyvips.Image, nbytes: int) -> None:
    check_can_allocate(nbytes, f"the decoder of {vips.width} × {vips.height} pixels")
