"""Synthetic degradations that vary over the image, as real blur and haze do.

Every function takes an image (h, w, 1) or (h, w, 3) of floats in [0, 1], a strength and a seed, and
returns a new float32 image of the same shape; equal seeds give equal results. Values are neither
clipped nor rounded, except by `jpeg`. Blur and haze follow smooth random fields with a scale of
about 300 pixels: were they uniform, global statistics would serve a network nearly as well as local
ones.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glocal.data.random_fields import SmoothFields, average_at_offsets, row_bands, to_uniform
from glocal.errors import ArgumentError
from glocal.images.image_files import Image, decode, encode

__all__ = [
    "DEGRADATIONS",
    "Degradation",
    "defocus_blur",
    "degrade",
    "gaussian_noise",
    "haze",
    "jpeg",
    "motion_blur",
    "poisson_noise",
]

BEND = 0.25
"""Curvature of the motion paths: enough to look hand-held, too little to form loops."""
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
"""Angle between successive points of a sunflower spiral, which covers a disc evenly."""

Floats: TypeAlias = NDArray[np.float32]


class Degrade(Protocol):
    """Signature of the functions that degrade an image."""

    def __call__(self, image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
        """Return the degraded image."""


@dataclass(frozen=True)
class Degradation:
    """A kind of degradation.

    Attributes:
        name: name on the command line.
        meaning: meaning and unit of the strength.
        default: default strength.
        least, greatest: smallest and largest strength.
        function: degrades an image.
    """

    name: str
    meaning: str
    default: float
    least: float
    greatest: float
    function: Degrade


def degrade(image: NDArray[Any], kind: str, strength: float | None = None, seed: int = 0) -> Floats:
    """Degrade an image by one of `DEGRADATIONS`.

    >>> image = np.full((32, 48, 3), 0.5)
    >>> degraded = degrade(image, "noise", strength=10, seed=3)
    >>> bool((degraded == gaussian_noise(image, 10, seed=3)).all())
    True

    Args:
        image: (h, w, 1) or (h, w, 3), floats in [0, 1].
        kind: a name in `DEGRADATIONS`.
        strength: in the unit of the kind; None: its default.
        seed: seed of all random numbers.

    Raises:
        ArgumentError: the kind is unknown, the strength out of range, or the image has another
            shape or dtype.
    """
    chosen, strength = settings(kind, strength)
    return chosen.function(image, strength, seed)


def settings(kind: str, strength: float | None) -> tuple[Degradation, float]:
    """The degradation with a name, and its strength.

    Raises:
        ArgumentError: the kind is unknown, or the strength is out of range.
    """
    if kind not in DEGRADATIONS:
        raise ArgumentError(f"unknown degradation {kind!r}; use one of {', '.join(DEGRADATIONS)}")
    chosen = DEGRADATIONS[kind]
    strength = chosen.default if strength is None else float(strength)
    if not chosen.least <= strength <= chosen.greatest:
        raise ArgumentError(
            f"the strength of {kind} must be {chosen.least:g} to {chosen.greatest:g} "
            f"({chosen.meaning}), got {strength:g}"
        )
    return chosen, strength


# --- the degradations ------------------------------------------------------------------------


def motion_blur(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Blur every pixel along its own short, curved path, as camera shake does.

    Path lengths are uniform on 0 to `strength` pixels, so that some regions stay nearly sharp;
    directions are arbitrary.
    """
    image = _checked(image)
    maps = SmoothFields(4, image, seed)
    taps = 2 * math.ceil(strength / 2) + 1
    times = [(k + 0.5) / taps - 0.5 for k in range(taps)]

    def offsets(rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        length, across, along, bending = maps.rows(rows)
        angle = torch.atan2(across, along)
        length = strength * to_uniform(length)
        x, y = length * angle.cos(), length * angle.sin()
        bend = BEND * bending.clamp(-2, 2)
        for t in times:
            # minus the mean of t² over the path, so that curvature does not shift the image
            side = (t * t - 1 / 12) * bend
            yield t * y + side * x, t * x - side * y

    return image.copy() if strength == 0 else average_at_offsets(image, offsets)


def defocus_blur(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Blur every pixel over its own disc, as a lens does outside its plane of focus.

    Radii range from 0, where a smooth depth field crosses the plane of focus, to `strength`
    pixels, where it is farthest from it.
    """
    image = _checked(image)
    maps = SmoothFields(1, image, seed)
    # a sunflower spiral and its mirror image: even, centred, about one point per pixel of the disc
    count = 4 + math.ceil(math.pi / 2 * strength**2)
    radii = [math.sqrt((k + 0.5) / count) for k in range(count)]
    half = [
        (r * math.sin(k * GOLDEN_ANGLE), r * math.cos(k * GOLDEN_ANGLE))
        for k, r in enumerate(radii)
    ]
    points = half + [(-y, -x) for y, x in half]

    def offsets(rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        (depth,) = maps.rows(rows)
        radius = strength * (2 * to_uniform(depth) - 1).abs()
        for y, x in points:
            yield y * radius, x * radius

    return image.copy() if strength == 0 else average_at_offsets(image, offsets)


def gaussian_noise(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Add white Gaussian noise of standard deviation `strength`/255."""
    image = _checked(image)
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.asarray(image + np.float32(strength / 255) * noise, np.float32)


def poisson_noise(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Add photon noise: Poisson noise of variance x · (strength/255)² at value x.

    White equals (255 ÷ strength)² photons, so the standard deviation at white is `strength`/255.
    """
    image = _checked(image)
    if strength == 0:
        return image.copy()
    photons = (255 / strength) ** 2
    rng = np.random.default_rng(seed)
    result = np.empty_like(image)
    for rows in row_bands(len(image)):
        part = slice(rows.start, rows.stop)
        result[part] = rng.poisson(image[part].clip(0).astype(np.float64) * photons) / photons
    return result


def haze(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Add haze by the atmospheric scattering model.

    I = J · t + A · (1 − t) with t = exp(−β · d), on gamma-encoded values, as RESIDE does. β is
    `strength`; the depth d in [0, 1] increases to the top of the image and varies with a smooth
    random field; the grey airlight A is uniform on [0.8, 1].

    Source: Narasimhan and Nayar, Vision and the Atmosphere, IJCV 2002; RESIDE, arXiv 1712.04143.
    """
    image = _checked(image)
    maps = SmoothFields(1, image, seed)
    airlight = np.float32(maps.rng.uniform(0.8, 1))
    result = np.empty_like(image)
    for rows in row_bands(len(image)):
        (relief,) = maps.rows(rows)
        height = 1 - (torch.arange(rows.start, rows.stop, dtype=torch.float32) + 0.5) / len(image)
        depth = 0.6 * height[:, None] + 0.4 * to_uniform(relief)
        through = (-strength * depth).exp().numpy()[..., None]
        part = slice(rows.start, rows.stop)
        result[part] = image[part] * through + airlight * (1 - through)
    return result


def jpeg(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Compress to 8-bit JPEG of quality `strength`, without chroma subsampling.

    Deterministic: the seed has no effect.
    """
    samples = np.rint(_checked(image).clip(0, 1) * 255).astype(np.uint8)
    data, _ = encode(Image(samples), ".jpg", quality=round(strength))
    return decode(data).pixels.astype(np.float32) / np.float32(255)


DEGRADATIONS: Mapping[str, Degradation] = MappingProxyType(
    {
        each.name: each
        for each in (
            Degradation("motion", "longest path in pixels", 11, 0, 64, motion_blur),
            Degradation("defocus", "largest radius in pixels", 5, 0, 16, defocus_blur),
            Degradation("noise", "standard deviation in 1/255", 25, 0, 255, gaussian_noise),
            Degradation("poisson", "deviation at white in 1/255", 15, 0, 255, poisson_noise),
            Degradation("haze", "scattering × depth", 1.5, 0, 10, haze),
            Degradation("jpeg", "JPEG quality", 30, 1, 100, jpeg),
        )
    }
)
"""All degradations by name."""


def _checked(image: NDArray[Any]) -> Floats:
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ArgumentError(f"the image must be (h, w, 1) or (h, w, 3), got shape {image.shape}")
    if image.dtype.kind != "f":
        raise ArgumentError(f"the image must be floats in [0, 1], got {image.dtype}")
    return np.ascontiguousarray(image, np.float32)
