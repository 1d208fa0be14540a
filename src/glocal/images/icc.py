"""ICC profiles of grey and RGB by matrix and curves: parsed, evaluated, and built.

Values may lie outside [0, 1]: curves continue there, odd below 0, so that no colour is lost.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Curve",
    "MatrixProfile",
    "built_profile",
    "colour_space",
    "is_profile",
    "linear_profile",
    "matrix_profile",
]
__all__ += ["SRGB_TO_D50", "matrix_profile", "primaries_to_d50", "srgb_decoded", "srgb_encoded"]

Floats: TypeAlias = NDArray[np.floating[Any]]

SRGB_TO_D50 = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""Linear sRGB to XYZ under D50, adapted by Bradford's transform (Lindbloom)."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclass(frozen=True)
class Curve:
    """A tone curve: device values to linear light, and back."""

    decode: Callable[[Floats], Floats]
    encode: Callable[[Floats], Floats]


@dataclass(frozen=True)
class MatrixProfile:
    """A profile of one curve for grey, or of three curves and a matrix to XYZ under D50."""

    curves: tuple[Curve, ...]
    to_xyz: Floats | None

    def linear_srgb(self, values: Floats) -> Floats:
        """Device values (..., channels) to linear sRGB; grey stays one channel."""
        light = _by_channel([curve.decode for curve in self.curves], values)
        return light if self.to_xyz is None else light @ _to_srgb(self.to_xyz).T.astype(light.dtype)

    def device(self, light: Floats) -> Floats:
        """The inverse of `linear_srgb`."""
        if self.to_xyz is not None:
            light = light @ np.linalg.inv(_to_srgb(self.to_xyz)).T.astype(light.dtype)
        return _by_channel([curve.encode for curve in self.curves], light)


def srgb_decoded(values: Floats) -> Floats:
    """Encoded sRGB to linear light.

    >>> float(srgb_decoded(np.array(0.5))).__round__(4)
    0.214
    """
    size = np.abs(values)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.copysign(light, values))


def srgb_encoded(light: Floats) -> Floats:
    """Linear light to encoded sRGB."""
    size = np.abs(light)
    encoded = np.where(
        size <= 0.0031308, size * 12.92, 1.055 * np.maximum(size, 1e-9) ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.copysign(encoded, light))


def colour_space(profile: bytes) -> str:
    """The colour space of a profile's device, such as RGB, GRAY, CMYK or Lab."""
    return profile[16:20].decode("ascii", "replace").strip()


def is_profile(data: bytes) -> bool:
    """True for bytes that begin as a profile does."""
    return len(data) >= 132 and data[36:40] == b"acsp"


def matrix_profile(profile: bytes) -> MatrixProfile | None:
    """Parse a profile; None if it converts by tables, or is damaged."""
    try:
        tags = _tags(profile)
        if "A2B0" in tags or "A2B1" in tags or "D2B0" in tags:
            return None
        space = colour_space(profile)
        if space == "GRAY":
            return MatrixProfile((_curve(tags["kTRC"]),), None)
        if space != "RGB":
            return None
        curves = tuple(_curve(tags[name]) for name in ("rTRC", "gTRC", "bTRC"))
        columns = [np.array(_fixed(tags[name], 8, 3)) for name in ("rXYZ", "gXYZ", "bXYZ")]
        matrix = np.stack(columns, axis=1)
        np.linalg.inv(matrix)
    except (KeyError, struct.error, np.linalg.LinAlgError, ValueError):
        return None
    return MatrixProfile(curves, matrix)


def built_profile(name: str, to_xyz: Floats | None, gamma: float = 1.0) -> bytes:
    """Return a profile with a pure power as its curve; grey without a matrix.

    >>> matrix_profile(built_profile("linear", SRGB_TO_D50)).curves[0].decode(np.array(0.3))
    array(0.3)
    """
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    if gamma == 1:
        curve = b"curv" + bytes(8)
    text = name.encode("ascii")
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(1 + 78),
        b"cprt": b"text" + bytes(4) + b"CC0\0",
        b"wtpt": _xyz(_D50),
    }
    if to_xyz is None:
        tags[b"kTRC"] = curve
    else:
        for index, channel in enumerate((b"r", b"g", b"b")):
            tags[channel + b"XYZ"] = _xyz(to_xyz[:, index])
            tags[channel + b"TRC"] = curve
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        table += key + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    space = b"GRAY" if to_xyz is None else b"RGB "
    head = struct.pack(
        ">I4s4s4s4s4s", start + len(data), b"\0" * 4, b"\x02\x40\0\0", b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def linear_profile(channels: int, to_xyz: Floats | None = None) -> bytes:
    """A profile of linear light for 1 or 3 channels, with the primaries of sRGB by default."""
    matrix = SRGB_TO_D50 if to_xyz is None else to_xyz
    return built_profile("linear light", matrix if channels == 3 else None)


def primaries_to_d50(primaries: Sequence[float], white: tuple[float, float]) -> Floats:
    """The matrix from linear RGB of given chromaticities to XYZ under D50.

    Args:
        primaries: x and y of red, green and blue.
        white: x and y of white.
    """
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in np.reshape(primaries, (3, 2))]).T
    source = np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]])
    matrix = columns * np.linalg.solve(columns, source)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ source)
    return np.asarray(np.linalg.inv(_BRADFORD) @ (gains[:, None] * _BRADFORD) @ matrix)


def _to_srgb(to_xyz: Floats) -> Floats:
    # profiles round D50 differently: white stays white
    gains = SRGB_TO_D50.sum(1) / to_xyz.sum(1)
    return np.asarray(np.linalg.inv(SRGB_TO_D50) @ (gains[:, None] * to_xyz))


def _by_channel(curves: Sequence[Callable[[Floats], Floats]], values: Floats) -> Floats:
    parts = [curve(values[..., n]) for n, curve in enumerate(curves)]
    return np.stack(parts, axis=-1)


def _tags(profile: bytes) -> dict[str, bytes]:
    number = struct.unpack_from(">I", profile, 128)[0]
    if number > 200:
        raise ValueError("damaged")
    tags = {}
    for at in range(132, 132 + 12 * number, 12):
        name, start, nbytes = struct.unpack_from(">4sII", profile, at)
        tags[name.decode("latin-1")] = profile[start : start + nbytes]
    return tags


def _fixed(data: bytes, at: int, number: int) -> list[float]:
    return [value / 65536 for value in struct.unpack_from(f">{number}i", data, at)]


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def _curve(data: bytes) -> Curve:
    if data[:4] == b"para":
        return _parametric(data)
    if data[:4] != b"curv":
        raise ValueError("unknown curve")
    number = struct.unpack_from(">I", data, 8)[0]
    if number == 0:
        return Curve(np.asarray, np.asarray)
    values = np.frombuffer(data, ">u2", number, 12).astype(float)
    if number == 1:
        return _power(float(values[0]) / 256, 1, 0, 0, 0, 0, 0)
    return _table(values / 65535)


def _parametric(data: bytes) -> Curve:
    kind = struct.unpack_from(">H", data, 8)[0]
    if kind > 4:
        raise ValueError("unknown curve")
    values = _fixed(data, 12, (1, 3, 4, 5, 7)[kind])
    g, a, b, c, d, e, f = (*values, *[0.0] * (7 - len(values)))
    if kind == 0:
        return _power(g, 1, 0, 0, 0, 0, 0)
    if kind in (1, 2):  # below -b/a the curve is constant
        return _power(g, a, b, 0, -b / a, c, c)
    return _power(g, a, b, c, d, e, f)


def _power(g: float, a: float, b: float, c: float, d: float, e: float, f: float) -> Curve:
    """(a x + b)**g + e from d on, c x + f below; odd below 0."""
    if g <= 0 or a <= 0:
        raise ValueError("no curve of light")
    edge = (a * d + b) ** g + e if a * d + b > 0 else e

    def decode(values: Floats) -> Floats:
        size = np.abs(values)
        high = np.maximum(a * size + b, 0) ** g + e
        return np.asarray(np.copysign(1, values) * np.where(size >= d, high, c * size + f))

    def encode(light: Floats) -> Floats:
        size = np.abs(light)
        high = (np.maximum(size - e, 0) ** (1 / g) - b) / a
        low = (size - f) / c if c else np.full_like(size, max(d, 0.0))
        return np.asarray(np.copysign(1, light) * np.where(size >= edge, high, low))

    return Curve(decode, encode)


def _table(values: Floats) -> Curve:
    if (np.diff(values) < 0).any() or values[-1] <= values[0]:
        raise ValueError("no curve of light")
    places = np.linspace(0, 1, len(values))
    # flat parts have no inverse; the first place of each is taken
    first = np.concatenate([[True], np.diff(values) > 0])
    lows, highs = values[first], places[first]
    slope = float((values[-1] - values[-2]) * (len(values) - 1)) or 1.0

    def decode(device: Floats) -> Floats:
        size = np.abs(device)
        light = np.interp(size, places, values) + np.maximum(size - 1, 0) * slope
        return np.asarray(np.copysign(1, device) * light)

    def encode(light: Floats) -> Floats:
        size = np.abs(light)
        device = np.interp(size, lows, highs) + np.maximum(size - values[-1], 0) / slope
        return np.asarray(np.copysign(1, light) * device)

    return Curve(decode, encode)
