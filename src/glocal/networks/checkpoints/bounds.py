"""Bounds on what a file of torch.save unpacks to, checked before anything is unpacked.

A small file can state archives, lists and buffers of any size. Those of torch.save are about as
large as what they hold.
"""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from glocal.errors import CheckpointError

__all__ = ["MOST_INSTRUCTIONS", "instructions"]

MOST_INSTRUCTIONS = 1_000_000
"""Most instructions of a pickle, each of which may create an object: about 25,000 tensors."""

_MOST_INFLATION = 2
"""Content ÷ file: torch compresses nothing, and weights hardly compress."""

_SPARE = 2**20
_MOST_DIRECTORY = 8 * 2**20
"""Most bytes of the list of entries of an archive, about 100,000 entries."""

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError),
    *(RuntimeError, ValueError, OverflowError, EOFError, OSError),
)
"""Errors of zipfile for damaged archives."""

_ZIP = b"PK\x03\x04"
_PICKLES = 5  # of an old file: magic number, version, system, content, keys of storages


def instructions(path: Path) -> int:
    """Return the number of pickle instructions in a file of torch.save, at least 1.

    Raises:
        CheckpointError: the file would unpack to more than its size explains, or is a damaged
            archive.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == _ZIP
        file.seek(0)
        if is_zip:
            return sum(_count(path, io.BytesIO(pickle)) for pickle in _pickles(path, file)) or 1
        return sum(_count(path, file) for _ in range(_PICKLES)) or 1


def _pickles(path: Path, file: BinaryIO) -> Iterator[bytes]:
    nbytes = file.seek(0, io.SEEK_END)
    if _directory_bytes(file, nbytes) > _MOST_DIRECTORY:
        raise CheckpointError(f"{path}: has too many entries for a checkpoint of torch.save")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > _MOST_INFLATION * nbytes + _SPARE:
                raise CheckpointError(
                    f"{path}: would unpack {nbytes} bytes to {unpacked}, which no checkpoint of "
                    "torch.save does; unpack it yourself if you trust its source, and save it again"
                )
            for entry in entries:
                if entry.filename.endswith("/data.pkl"):
                    yield archive.read(entry)
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path}: is a damaged archive; it may be truncated ({str(error)[:120]})"
        ) from None


def _directory_bytes(file: BinaryIO, nbytes: int) -> int:
    """Size of the list of entries of a zip archive; 0 if there is no end record."""
    file.seek(max(0, nbytes - 2**16 - 22))
    start, end = file.tell(), file.read()
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        return 0
    (stated,) = struct.unpack_from("<I", end, at + 12)
    if end[at - 20 : at - 16] == b"PK\x06\x07" and at >= 20:  # 64-bit fields lie elsewhere
        (place,) = struct.unpack_from("<Q", end, at - 12)
        file.seek(min(place, start + at))
        record = file.read(56)
        if len(record) == 56:
            stated = max(stated if stated < 2**32 - 1 else 0, *struct.unpack_from("<Q", record, 40))
    return int(stated)


# Bytes after an instruction that torch's unpickler knows; those of text follow their length.
_FIXED = {
    **dict.fromkeys(b"\x81Rbaesu(t\x85\x86\x87N\x88\x89)]}\x8fQ", 0),
    **dict.fromkeys(b"Khq\x80", 1),
    **dict.fromkeys(b"M", 2),
    **dict.fromkeys(b"Jjr", 4),
    **dict.fromkeys(b"G", 8),
}
_LENGTHS = {ord("X"): 4, ord("U"): 1, 0x8A: 1}
_GLOBAL = ord("c")


def _count(path: Path, file: BinaryIO) -> int:
    """Count the instructions up to the end of a pickle, or to one that torch does not know."""
    read = file.read
    for count in range(1, MOST_INSTRUCTIONS + 1):
        code = (read(1) or b"\0")[0]
        if code in _FIXED:
            read(_FIXED[code])
        elif code in _LENGTHS:
            length = int.from_bytes(read(_LENGTHS[code]), "little")
            file.seek(length, io.SEEK_CUR)
        elif code == _GLOBAL:
            named = file.readline(1000), file.readline(1000)
            if named[1].strip() == b"bytearray":  # torch calls it, with any size
                raise CheckpointError(
                    f"{path}: has a bytearray, whose size is not bounded; save the state_dict() "
                    "alone with torch.save"
                )
        else:  # the end, or nothing that torch reads on
            return count
    raise CheckpointError(
        f"{path}: has more than {MOST_INSTRUCTIONS} pickle instructions; save the state_dict() "
        "alone with torch.save"
    )
