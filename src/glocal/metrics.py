"""How close a restored image is to its target, by the protocols of the published tables.

Every function takes two images of one shape, `restored` and `target`: arrays (h, w) or (h, w, c),
as `glocal.restore` and `glocal.images` hand them around, of uint8, uint16, or floats in [0, 1].
Integers are scaled to [0, 1]; the data range is 1. Two options belong to the protocols: `border`
pixels are cropped on each side (super-resolution tables crop by the scale), and `round8` clamps
and rounds both images to 8 bits first, as the published tables do for 8-bit data sets.

SSIM is not one number: its three protocols differ by tenths on the same image, so a figure means
something only with the protocol's name. Sums are taken in float64 and over small tiles: memory
stays small at any size. LPIPS is left out: it needs torchvision and weights to be downloaded.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ArgumentError

__all__ = ["METRICS", "Metric", "metric_named", "psnr", "psnr_y", "ssim", "ssim_3d", "ssim_y"]

RADIUS, SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2
TILE = 118
"""Side of the tiles in pixels: with the window's margins 128, where matrix products are fast."""

Pixels = NDArray[Any]
Floats = NDArray[np.float64]
Prepare = Callable[[Pixels], Floats]


class Measure(Protocol):
    """Compares two images; see the module for the arguments."""

    def __call__(
        self, restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False
    ) -> float:
        """The value of the metric."""


@dataclass(frozen=True)
class Metric:
    """A measure with its name and what is needed to compare its values with others'.

    Attributes:
        name: what it is called on the command line and in tables.
        protocol: how it is computed and where that is used, one or two sentences.
        higher_is_better: which way improvement lies.
        function: the measure itself.
    """

    name: str
    protocol: str
    higher_is_better: bool
    function: Measure


def psnr(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinity for equal images.

    >>> psnr(np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 12, np.uint8))
    42.11...

    Raises:
        ArgumentError: the images differ in shape or type, are no images, or the border is too wide.
    """
    restored, target = _checked("psnr", restored, target, border)
    return _psnr(restored, target, partial(_to_unit, round8=round8))


def psnr_y(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """PSNR in dB on the luma of colour images; grey images are their own luma.

    Luma is the Y of ITU-R BT.601 as MATLAB's `rgb2ycbcr` gives it, 16 to 235 of 255, and the peak
    is 255 nevertheless. With `round8` it is rounded to 8 bits too, as MATLAB does for uint8.

    >>> white, grey = np.full((4, 4, 3), 255, np.uint8), np.full((4, 4, 3), 253, np.uint8)
    >>> psnr_y(white, grey) - psnr(white, grey)  # 20 · log10(255 ÷ 219)
    1.32...

    Raises:
        ArgumentError: as for `psnr`.
    """
    restored, target = _checked("psnr-y", restored, target, border)
    return _psnr(restored, target, partial(_luma, round8=round8))


def ssim(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Mean SSIM of the channels, over the windows that lie wholly inside the image.

    Wang et al., Image Quality Assessment, IEEE TIP 2004: 11×11 Gaussian windows with σ 1.5,
    K = (0.01, 0.03), variances with divisor n.

    >>> image = np.linspace(0, 1, 400).reshape(20, 20)
    >>> round(ssim(image, image / 2 + 0.25), 3)
    0.812

    Raises:
        ArgumentError: as for `psnr`, or the image is smaller than a window.
    """
    restored, target = _checked("ssim", restored, target, border, least=2 * RADIUS + 1)
    return _ssim(restored, target, partial(_to_unit, round8=round8), padded=False)


def ssim_3d(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """SSIM with 11×11×11 Gaussian windows over height, width and channels, borders replicated.

    It mixes the channels and lies well above `ssim` on most photographs.

    Raises:
        ArgumentError: as for `psnr`.
    """
    restored, target = _checked("ssim-3d", restored, target, border)
    return _ssim(restored, target, partial(_to_unit, round8=round8), padded=True)


def ssim_y(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """`ssim` on the luma of colour images, as `psnr_y` defines it, with a data range of 255.

    Raises:
        ArgumentError: as for `ssim`.
    """
    restored, target = _checked("ssim-y", restored, target, border, least=2 * RADIUS + 1)
    return _ssim(restored, target, partial(_luma, round8=round8), padded=False)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                "psnr",
                "PSNR in dB over all pixels of R, G and B. Deblurring, denoising, dehazing.",
                True,
                psnr,
            ),
            Metric(
                "psnr-y",
                "PSNR in dB of Y (ITU-R BT.601, as MATLAB's rgb2ycbcr), peak 255. "
                "Deraining, super-resolution.",
                True,
                psnr_y,
            ),
            Metric(
                "ssim-3d",
                "SSIM with 11×11×11 Gaussian windows over height, width and channels, borders "
                "replicated. The RGB tables of TLC, NAFNet and HINet.",
                True,
                ssim_3d,
            ),
            Metric(
                "ssim",
                "SSIM of each channel with 11×11 Gaussian windows inside the image, averaged. "
                "BasicSR, scikit-image.",
                True,
                ssim,
            ),
            Metric(
                "ssim-y",
                "SSIM of Y (ITU-R BT.601, as MATLAB's rgb2ycbcr) with 11×11 Gaussian windows "
                "inside the image. Deraining, super-resolution.",
                True,
                ssim_y,
            ),
        )
    }
)
"""The metrics by name."""


def metric_named(name: str) -> Metric:
    """The metric of that name.

    >>> metric_named("ssim-y").function is ssim_y
    True

    Raises:
        ArgumentError: there is none.
    """
    if name not in METRICS:
        raise ArgumentError(f"no metric is called {name!r}; there are {', '.join(METRICS)}")
    return METRICS[name]


# --- what the metrics share ------------------------------------------------------------------


def _checked(
    name: str, restored: Pixels, target: Pixels, border: int, least: int = 1
) -> tuple[Pixels, Pixels]:
    """Both images as (h, w, c) without the border."""
    if restored.shape != target.shape or restored.dtype != target.dtype:
        raise ArgumentError(
            f"{name} compares images of one shape and type, got {restored.shape} {restored.dtype} "
            f"and {target.shape} {target.dtype}"
        )
    kind = target.dtype
    if target.ndim not in (2, 3) or (kind.kind != "f" and kind not in (np.uint8, np.uint16)):
        raise ArgumentError(
            f"{name} takes (h, w) or (h, w, c) of uint8, uint16 or floats in [0, 1], "
            f"got {target.shape} {kind}"
        )
    height, width = target.shape[0] - 2 * border, target.shape[1] - 2 * border
    if border < 0 or height < least or width < least:
        raise ArgumentError(
            f"{name} needs at least {least}×{least} pixels inside of the border, got "
            f"{target.shape[0]}×{target.shape[1]} and a border of {border}"
        )
    # a network may overshoot a little; a target never does
    if kind.kind == "f" and target.max() > 1.001:
        raise ArgumentError(f"the target reaches {target.max():.4g}; floats are in [0, 1]")
    inside = slice(border, border + height), slice(border, border + width)
    shape = (height, width, -1)
    return restored[inside].reshape(shape), target[inside].reshape(shape)


def _to_unit(part: Pixels, round8: bool) -> Floats:
    peak = 1.0 if part.dtype.kind == "f" else float(np.iinfo(part.dtype).max)
    unit = part.astype(np.float64) / peak
    return np.rint(unit.clip(0, 1) * 255) / 255 if round8 else unit


def _luma(part: Pixels, round8: bool) -> Floats:
    unit = _to_unit(part, round8)
    if unit.shape[2] != 3:
        return unit
    y = unit @ np.array([[65.481], [128.553], [24.966]]) + 16
    return np.asarray((np.floor(y + 0.5) if round8 else y) / 255)


def _psnr(restored: Pixels, target: Pixels, prepare: Prepare) -> float:
    total, count = 0.0, 0
    for top in range(0, len(target), TILE):
        rows = slice(top, top + TILE)
        difference = prepare(restored[rows]) - prepare(target[rows])
        total += float(np.square(difference).sum())
        count += difference.size
    return math.inf if total == 0 else 10 * math.log10(count / total)


def _ssim(restored: Pixels, target: Pixels, prepare: Prepare, *, padded: bool) -> float:
    """Mean of the SSIM map; padded: of every pixel, windows over the channels too."""
    total, count = 0.0, 0
    for rows in _reads(len(target), padded):
        down = _filter(len(rows) - 2 * RADIUS)
        for columns in _reads(target.shape[1], padded):
            across = _filter(len(columns) - 2 * RADIUS).T
            at = np.ix_(rows, columns)
            x = prepare(restored[at]).transpose(2, 0, 1)
            y = prepare(target[at]).transpose(2, 0, 1)
            means = down @ np.stack([x, y, x * x, y * y, x * y]) @ across
            if padded:
                means = np.tensordot(_channel_filter(len(x)), means, (1, 1)).swapaxes(0, 1)
            values = _ssim_of(*means)
            total += float(values.sum())
            count += values.size
    return total / count


def _ssim_of(x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Equation 13 of Wang et al. from the windows' means of x, y, x², y² and xy."""
    structure = (2 * x * y + C1) * (2 * (xy - x * y) + C2)
    energy = (x * x + y * y + C1) * ((xx - x * x) + (yy - y * y) + C2)
    return np.asarray(structure / energy)


def _reads(size: int, padded: bool) -> Iterator[NDArray[np.intp]]:
    """Which pixels of an axis each tile reads, margins included; repeated where padded."""
    margin = RADIUS if padded else 0
    for start in range(-margin, size - 2 * RADIUS + margin, TILE):
        stop = min(start + TILE + 2 * RADIUS, size + margin)
        yield np.arange(start, stop).clip(0, size - 1)


def _gaussian() -> Floats:
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return np.asarray(weights / weights.sum(), np.float64)


def _filter(size: int) -> Floats:
    """The matrix that filters size + 2 · RADIUS values to size values."""
    matrix = np.zeros((size, size + 2 * RADIUS))
    for offset, weight in enumerate(_gaussian()):
        matrix[np.arange(size), np.arange(size) + offset] = weight
    return matrix


def _channel_filter(channels: int) -> Floats:
    """The matrix that filters values of the channels, the outermost replicated."""
    matrix = np.zeros((channels, channels))
    for offset, weight in enumerate(_gaussian(), -RADIUS):
        for channel in range(channels):
            matrix[channel, min(max(channel + offset, 0), channels - 1)] += weight
    return matrix
