"""Colours as networks see them: sRGB in [0, 1], whatever the profile of an image.

What a network changes is carried back to the colours of the image: a network that changes nothing
returns the samples as they were, and colours outside of sRGB or above white are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyvips
from numpy.typing import NDArray

from glocal.arrays import range_mistake
from glocal.errors import ImageError
from glocal.images.icc import (
    SRGB_TO_D50,
    colour_space,
    is_profile,
    matrix_profile,
    srgb_decoded,
    srgb_encoded,
)

__all__ = ["Colours", "colours_of", "lab_to_srgb", "profile_note"]

Floats: TypeAlias = NDArray[np.floating[Any]]

_CLOSE = 1 / 255
"""A profile is sRGB if it differs by less than a level of 8 bits: its numbers are rounded."""

_D50 = SRGB_TO_D50.sum(1)
_ROWS = 2**20
"""Pixels that are converted at a time, to need little memory beside the image."""


@dataclass(frozen=True)
class Colours:
    """Converts samples to what a network sees, and back.

    Attributes:
        dtype: of the samples.
        view: floats of the samples, white 1, to encoded sRGB without bounds; None if they are
            sRGB.
        back: the inverse of `view`, or None.
    """

    dtype: np.dtype[Any]
    view: Callable[[Floats], Floats] | None = None
    back: Callable[[Floats], Floats] | None = None

    @property
    def are_plain(self) -> bool:
        """True if the network sees the samples as they are."""
        return self.view is None and self.dtype.kind == "u"

    def seen(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return samples (h, w, c) as the network sees them, float32 unless they are plain.

        Raises:
            ImageError: floats are not finite, or far outside [0, 1].
        """
        if self.are_plain:
            return samples
        if self.dtype.kind == "f":
            self._check(samples)
        seen = np.empty(samples.shape, np.float32)
        for rows in _bands(samples.shape):
            seen[rows] = np.clip(self.viewed(samples[rows]), 0, 1)
        return seen

    def carried_back(self, samples: NDArray[Any], restored: NDArray[Any]) -> NDArray[Any]:
        """Return restored floats (h·s, w·s, c) in the colours and dtype of the samples (h, w, c).

        Samples of other channels than the restored ones are no reference: their colours outside
        of sRGB are lost.
        """
        if self.are_plain:
            return restored
        restored = restored if restored.ndim == 3 else restored[..., None]
        scale = restored.shape[0] // samples.shape[0]
        result = np.empty(restored.shape, self.dtype)
        for rows in _bands(samples.shape):
            wide = slice(rows.start * scale, rows.stop * scale)
            result[wide] = self._back(samples[rows], restored[wide], scale)
        return result

    def _back(self, samples: NDArray[Any], restored: NDArray[Any], scale: int) -> NDArray[Any]:
        viewed = self.viewed(samples)
        wanted = np.clip(np.nan_to_num(restored.astype(np.float32)), 0, 1)
        comparable = samples.shape[2] == restored.shape[2]
        if comparable:
            beyond = viewed - np.clip(viewed, 0, 1)
            if scale > 1:
                beyond = beyond.repeat(scale, 0).repeat(scale, 1)
            wanted += beyond
        if self.back is None or (samples.shape[2] != restored.shape[2]):
            return self._samples(wanted)
        values = self.back(wanted)
        if comparable and scale == 1:
            # exact where nothing changed, however the conversion rounds
            seen = np.clip(viewed, 0, 1).astype(np.float32) + (viewed - np.clip(viewed, 0, 1))
            own, same = self._floats(samples), (wanted == seen).all(-1, keepdims=True)
            values = np.where(same, own, own + (values - self.back(seen)))
        return self._samples(values)

    def viewed(self, samples: NDArray[Any]) -> Floats:
        """Return samples in encoded sRGB, with colours outside of it."""
        values = self._floats(samples)
        return values if self.view is None else np.ascontiguousarray(self.view(values), np.float32)

    def _floats(self, samples: NDArray[Any]) -> Floats:
        peak = np.iinfo(self.dtype).max if self.dtype.kind == "u" else 1
        return np.asarray(samples.astype(np.float32) / np.float32(peak))

    def _samples(self, values: Floats) -> NDArray[Any]:
        if self.dtype.kind == "u":
            peak = np.iinfo(self.dtype).max
            values = np.rint(np.clip(np.nan_to_num(values), 0, 1) * peak)
        return values.astype(self.dtype)

    def _check(self, samples: NDArray[Any]) -> None:
        least, most = float(samples.min()), float(samples.max())
        if self.view is not None and np.isfinite(least) and np.isfinite(most):
            return  # linear light has no upper bound
        if mistake := range_mistake(least, most):
            raise ImageError(f"has floating-point samples, and {mistake}")


def colours_of(icc: bytes | None, dtype: np.dtype[Any], channels: int) -> Colours:
    """Return how the samples of an image are seen.

    Args:
        icc: its profile; without one the samples are sRGB.
        dtype: uint8, uint16 or float32.
        channels: 1 or 3. A profile of other colours is not used.
    """
    view, back = _conversions(icc, channels) if icc else (None, None)
    return Colours(dtype, view, back)


def profile_note(icc: bytes | None, channels: int) -> tuple[str, ...]:
    """Say how far a profile that has no matrix is followed; empty for the others."""
    if icc is None:
        return ()
    if not is_profile(icc):
        return ("the colour profile is damaged and was dropped: colours were taken as sRGB",)
    if colour_space(icc) != _SPACES[channels]:
        return (f"the colour profile is of {colour_space(icc)} and was not used",)
    if matrix_profile(icc) is not None:
        return ()
    if _conversions(icc, channels) == (None, None):
        return ("the colour profile cannot be read and was not used",)
    return ("the colour profile has tables: what the network changed is accurate to 8 bits",)


def lab_to_srgb(lab: Floats) -> Floats:
    """CIELAB under D50 (L to 100) to encoded sRGB without bounds."""
    y = (lab[..., 0] + 16) / 116
    parts = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(parts > 6 / 29, parts**3, (parts - 4 / 29) * 108 / 841) * _D50
    return srgb_encoded(xyz @ np.linalg.inv(SRGB_TO_D50).T)


_SPACES = {1: "GRAY", 3: "RGB"}


@lru_cache(maxsize=8)
def _conversions(
    icc: bytes, channels: int
) -> tuple[Callable[[Floats], Floats] | None, Callable[[Floats], Floats] | None]:
    if colour_space(icc) != _SPACES[channels]:
        return None, None
    matrix = matrix_profile(icc)
    if matrix is None:
        return _by_tables(icc, channels)

    def view(values: Floats) -> Floats:
        return srgb_encoded(matrix.linear_srgb(values))

    def back(values: Floats) -> Floats:
        return matrix.device(srgb_decoded(values))

    probe = np.random.default_rng(0).random((1024, channels))
    return (None, None) if np.abs(view(probe) - probe).max() < _CLOSE else (view, back)


def _by_tables(
    icc: bytes, channels: int
) -> tuple[Callable[[Floats], Floats] | None, Callable[[Floats], Floats] | None]:
    """Conversions by LittleCMS, through CIELAB."""

    def view(values: Floats) -> Floats:
        flat = np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16).reshape(1, -1, channels)
        kind = "rgb16" if channels == 3 else "grey16"
        device = _attached(pyvips.Image.new_from_array(flat).copy(interpretation=kind), icc)
        lab = device.icc_import(embedded=True, intent="relative", pcs="lab").numpy()
        seen = lab_to_srgb(lab.astype(float).reshape(*values.shape[:-1], 3))
        return seen[..., 1:2] if channels == 1 else seen

    def back(values: Floats) -> Floats:
        lab = _srgb_to_lab(values.repeat(3, -1) if channels == 1 else values)
        flat = pyvips.Image.new_from_array(lab.astype(np.float32).reshape(1, -1, 3))
        held = _attached(flat.copy(interpretation="lab"), icc)
        device = held.icc_export(intent="relative", depth=16, pcs="lab").numpy()
        return np.asarray(device.reshape(values.shape).astype(float) / 65535)

    try:
        view(np.zeros((1, 1, channels)))
        back(np.zeros((1, 1, channels)))
    except pyvips.Error:
        return None, None
    return view, back


def _attached(vips: pyvips.Image, icc: bytes) -> pyvips.Image:
    vips = vips.copy()
    vips.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    return vips


def _srgb_to_lab(values: Floats) -> Floats:
    ratio = srgb_decoded(values) @ SRGB_TO_D50.T / _D50
    parts = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * 841 / 108 + 4 / 29)
    x, y, z = np.moveaxis(parts, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _bands(shape: tuple[int, ...]) -> list[slice]:
    rows = max(1, _ROWS // shape[1])
    return [slice(top, min(top + rows, shape[0])) for top in range(0, shape[0], rows)]
