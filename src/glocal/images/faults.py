"""Faults of files that say nothing about the picture, mended in the bytes that are decoded.

libvips refuses a file at the first warning of its decoder, as most warnings mean wrong pixels. A
laxer second try would pass over all of them. Here the fault itself is taken out of the bytes, and
the rest is decoded as strictly as any file. The file on disk stays as it is.
"""

import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from glocal.images.files import as_file
from glocal.images.tiff_tags import wrong_orientation

__all__ = ["with_valid_orientation", "without_surplus"]

_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker")
_START_OF_SCAN = b"\xff\xda"
_ZEROS = re.compile(rb"(?<!\xff)\0+(?=\xff[\xc4\xd0-\xdd])")  # 0xff 0x00 is a sample


def without_surplus(data: bytes, problem: str) -> bytes | None:
    r"""Return a JPEG file without the zero bytes before a marker that the decoder warned of.

    Some cameras write them. Other surplus bytes are left over from damage: the decoder lost count
    of the samples before them.

    >>> without_surplus(b"\xff\xda 12\0\0\xff\xd9", "2 extraneous bytes before marker 0xd9")
    b'\xff\xda 12\xff\xd9'

    Args:
        data: the file.
        problem: message of the decoder.

    Returns:
        None if the message is about something else, or the bytes are not zero.
    """
    found = _SURPLUS.search(problem)
    start = data.find(_START_OF_SCAN)
    if found is None or start < 0:
        return None
    runs = list(_ZEROS.finditer(data, start))
    for least in (2, 1):  # samples may end in a zero; if they miss it, the decoder will warn
        taken, number = [], int(found[1])  # the decoder counts from the start of the file
        for run in runs:
            if number > 0 and len(run[0]) >= least:
                taken.append(run)
                number -= len(run[0])
        if number == 0:
            return _without(data, taken)
    return None


def _without(data: bytes, places: Sequence[re.Match[bytes]]) -> bytes:
    starts, ends = [0, *(p.end() for p in places)], [*(p.start() for p in places), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True))


@contextmanager
def with_valid_orientation(source: bytes | Path) -> Iterator[bytes | Path]:
    """Give a TIFF file whose orientation is 1 if it was none of 1 to 8, else the file itself.

    A file on disk is copied to a temporary one for as long as the context lasts.
    """
    with as_file(source) as file:
        found = wrong_orientation(file)
    if found is None:
        yield source
        return
    at, order = found
    upright = struct.pack(order + "H", 1)
    if isinstance(source, bytes):
        yield source[:at] + upright + source[at + 2 :]
        return
    with NamedTemporaryFile(suffix=".tif") as copy:
        with open(source, "rb") as file:
            shutil.copyfileobj(file, copy)
        copy.seek(at)
        copy.write(upright)
        copy.flush()
        yield Path(copy.name)
