"""Files of Netpbm, read here because libraries reduce their 16 bits to 8."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ImageError

__all__ = ["netpbm_samples"]


def netpbm_samples(
    data: bytes, check_size: Callable[[int, int], None]
) -> tuple[bool, NDArray[Any]]:
    """Read a PBM, PGM, PPM or PFM file: whether it holds floats, and (h, w, c) samples.

    Samples of any white are scaled to 8 bits, or 16 if it is above 255.

    Args:
        data: the file.
        check_size: refuses a height and width.

    Raises:
        ImageError: it is damaged or cut short.
    """
    kind, floats = data[:2], data[1:2] in b"Ff"
    if not data[2:3].isspace() and data[2:3] != b"#":
        raise ImageError("is damaged or cut short (its header)")
    fields: list[bytes] = []
    at = 2
    while len(fields) < (2 if kind in (b"P1", b"P4") else 3):
        while data[at : at + 1].isspace() or data[at : at + 1] == b"#":
            comment = data[at : at + 1] == b"#"
            at = (data.find(b"\n", at) % (len(data) + 1) if comment else at) + 1
        end = at
        while end < len(data) and not data[end : end + 1].isspace():
            end += 1
        if end == at:
            raise ImageError("is damaged or cut short (its header)")
        fields.append(data[at:end])
        at = end
    width, height = int(fields[0]), int(fields[1])
    check_size(height, width)
    channels = 3 if kind in (b"P3", b"P6", b"PF") else 1
    number, body = height * width * channels, data[at + 1 :]
    if floats:
        values = np.frombuffer(body, "<f4" if float(fields[2]) < 0 else ">f4", number)
        samples = values.reshape(height, width, channels)[::-1].astype(np.float32)
        return True, samples
    peak = int(fields[2]) if len(fields) > 2 else 1
    if not 0 < peak < 65536:
        raise ImageError(f"is damaged: its white is {peak}")
    if kind == b"P4":
        rows = np.frombuffer(body, np.uint8, height * ((width + 7) // 8)).reshape(height, -1)
        plain: NDArray[Any] = 1 - np.unpackbits(rows, axis=1)[:, :width].ravel()
    elif kind == b"P1":
        plain = 1 - np.array([*body.replace(b" ", b"").replace(b"\n", b"")[:number]]) + ord("0")
    elif kind in (b"P2", b"P3"):
        plain = np.array(body.split()[:number], dtype=np.int64)
    else:
        plain = np.frombuffer(body, ">u2" if peak > 255 else np.uint8, number)
    white = 255 if peak < 256 else 65535
    if len(plain) != number or number == 0 or plain.min() < 0 or plain.max() > peak:
        raise ImageError("is damaged or cut short")
    if peak != white:
        plain = np.rint(plain.astype(float) * (white / peak))
    kept = np.asarray(plain.astype(np.uint8 if white == 255 else np.uint16))
    return False, kept.reshape(height, width, channels)
