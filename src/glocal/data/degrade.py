"""Synthetic degradations whose strength varies over the image, as real ones do.

Every function takes an image (h, w, 1) or (h, w, 3) of floats in [0, 1], a strength and a seed,
and returns a new float32 image of the same shape; one seed gives one result. Values are neither
clipped nor rounded, except by `jpeg`. What varies follows smooth random maps with a scale of about
300 pixels, because real blur and haze do: with the same degradation everywhere, global statistics
would tell a network nearly as much as local ones.
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

from glocal.data.fields import SmoothMaps, average_at, bands, evenly
from glocal.errors import ArgumentError
from glocal.images.images import Image, decode, encode

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
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

Floats: TypeAlias = NDArray[np.float32]


class Degrade(Protocol):
    """Degrades an image; see the module for the arguments."""

    def __call__(self, image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
        """The degraded image."""


@dataclass(frozen=True)
class Degradation:
    """A kind of degradation.

    Attributes:
        name: what it is called on the command line.
        meaning: what its strength is, with the unit.
        default: the strength where none is given.
        least, greatest: the range of strengths.
        function: the degradation itself.
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
        kind: a name of `DEGRADATIONS`.
        strength: in the unit of that kind; its default where None.
        seed: of all that is random.

    Raises:
        ArgumentError: there is no such kind, its strength is out of range, or the image is none.
    """
    chosen, strength = settings(kind, strength)
    return chosen.function(image, strength, seed)


def settings(kind: str, strength: float | None) -> tuple[Degradation, float]:
    """The degradation of a name and its strength, judged.

    Raises:
        ArgumentError: there is no such kind, or its strength is out of range.
    """
    if kind not in DEGRADATIONS:
        raise ArgumentError(f"no degradation is called {kind!r}; use {', '.join(DEGRADATIONS)}")
    chosen = DEGRADATIONS[kind]
    strength = chosen.default if strength is None else float(strength)
    if not chosen.least <= strength <= chosen.greatest:
        raise ArgumentError(
            f"{kind} takes a strength of {chosen.least:g} to {chosen.greatest:g} "
            f"({chosen.meaning}), got {strength:g}"
        )
    return chosen, strength


# --- the degradations ------------------------------------------------------------------------


def motion_blur(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Average every pixel along its own short, slightly bent path, as a shaken camera does.

    The lengths of the paths are spread evenly over 0 to `strength` pixels, so that some regions
    stay nearly sharp; their directions are free.
    """
    image = _checked(image)
    maps = SmoothMaps(4, image, seed)
    taps = 2 * math.ceil(strength / 2) + 1
    times = [(k + 0.5) / taps - 0.5 for k in range(taps)]

    def offsets(rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        length, across, along, bending = maps.rows(rows)
        angle = torch.atan2(across, along)
        length = strength * evenly(length)
        x, y = length * angle.cos(), length * angle.sin()
        bend = BEND * bending.clamp(-2, 2)
        for t in times:
            # the mean of t² over the path, so that bending moves nothing
            side = (t * t - 1 / 12) * bend
            yield t * y + side * x, t * x - side * y

    return image.copy() if strength == 0 else average_at(image, offsets)


def defocus_blur(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Average every pixel over its own disc, as a lens does off its plane of focus.

    The radii run from 0 where a smooth, depth-like map crosses the plane of focus to `strength`
    pixels where it is farthest from it.
    """
    image = _checked(image)
    maps = SmoothMaps(1, image, seed)
    # a sunflower and its mirror image: evenly over the disc, centred, one point for each pixel
    count = 4 + math.ceil(math.pi / 2 * strength**2)
    radii = [math.sqrt((k + 0.5) / count) for k in range(count)]
    half = [
        (r * math.sin(k * GOLDEN_ANGLE), r * math.cos(k * GOLDEN_ANGLE))
        for k, r in enumerate(radii)
    ]
    points = half + [(-y, -x) for y, x in half]

    def offsets(rows: range) -> Iterator[tuple[Tensor, Tensor]]:
        (depth,) = maps.rows(rows)
        radius = strength * (2 * evenly(depth) - 1).abs()
        for y, x in points:
            yield y * radius, x * radius

    return image.copy() if strength == 0 else average_at(image, offsets)


def gaussian_noise(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Add white Gaussian noise of deviation `strength`/255, the same everywhere."""
    image = _checked(image)
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.asarray(image + np.float32(strength / 255) * noise, np.float32)


def poisson_noise(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Count photons: noise of variance x · (strength/255)² where the image is x.

    White stands for (255 ÷ strength)² photons; the noise of a white pixel has the deviation
    `strength`/255.
    """
    image = _checked(image)
    if strength == 0:
        return image.copy()
    photons = (255 / strength) ** 2
    rng = np.random.default_rng(seed)
    result = np.empty_like(image)
    for rows in bands(len(image)):
        part = slice(rows.start, rows.stop)
        result[part] = rng.poisson(image[part].clip(0).astype(np.float64) * photons) / photons
    return result


def haze(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Lay haze over the image by the atmospheric scattering model.

    I = J · t + A · (1 − t) with t = exp(−β · d), on the stored (gamma-encoded) values, as RESIDE
    does: β is `strength`, the depth d in [0, 1] rises to the top of the image and varies with a
    smooth map, and the grey airlight A is drawn from [0.8, 1].

    Source: Narasimhan and Nayar, Vision and the Atmosphere, IJCV 2002; RESIDE, arXiv 1712.04143.
    """
    image = _checked(image)
    maps = SmoothMaps(1, image, seed)
    airlight = np.float32(maps.rng.uniform(0.8, 1))
    result = np.empty_like(image)
    for rows in bands(len(image)):
        (relief,) = maps.rows(rows)
        height = 1 - (torch.arange(rows.start, rows.stop, dtype=torch.float32) + 0.5) / len(image)
        depth = 0.6 * height[:, None] + 0.4 * evenly(relief)
        through = (-strength * depth).exp().numpy()[..., None]
        part = slice(rows.start, rows.stop)
        result[part] = image[part] * through + airlight * (1 - through)
    return result


def jpeg(image: NDArray[Any], strength: float, seed: int = 0) -> Floats:
    """Write and read a JPEG file of quality `strength`, 8 bits, colours at full resolution.

    Nothing is random in it: the seed changes nothing.
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
"""The kinds of degradation by name."""


def _checked(image: NDArray[Any]) -> Floats:
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ArgumentError(f"an image is (h, w, 1) or (h, w, 3), got {image.shape}")
    if image.dtype.kind != "f":
        raise ArgumentError(f"an image is of floats in [0, 1], got {image.dtype}")
    return np.ascontiguousarray(image, np.float32)
