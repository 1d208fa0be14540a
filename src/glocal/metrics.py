"""Metrics of restored images, by the protocols of published tables.

All functions take two images of the same shape and dtype, `restored` and `target`, and return a
float. An image is an array (h, w) or (h, w, c) of uint8, uint16, or floats in [0, 1], as
`glocal.restore` returns it and `glocal.images` reads it. Integers are scaled to [0, 1], so that the
data range is 1. Two options are part of a protocol:

- `border`: pixels to crop on each side first. Tables of super-resolution crop by the scale.
- `round8`: clamp and round both images to 8 bits first, as tables on 8-bit data sets do.

SSIM has three protocols, and their values differ by tenths on the same image: give the name of the
protocol with each value. `METRICS` describes them.

Images are grey or colour. An image with two or four channels is refused, because the last one is
probably alpha, which must not count.

Sums are taken in float64 over small tiles, so that memory is small at any image size. LPIPS, NIQE
and other metrics that need weights are those of pyiqa: `glocal.evaluate` takes them by name.

Longer than 300 lines: one function a metric, and their table.
"""

# Above 300 lines: public functions document their protocol in full, and share the private parts.

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glocal.arrays import LARGEST, layout_mistake
from glocal.errors import ArgumentError

__all__ = [
    "METRICS",
    "Measure",
    "Metric",
    "metric_named",
    "psnr",
    "psnr_y",
    "ssim",
    "ssim_3d",
    "ssim_y",
]

# Wang et al. (2004), section III.C: 11×11 Gaussian windows with σ 1.5 pixels, K = (0.01, 0.03).
RADIUS, SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2

# Noise of 1e-6, the rounding of a network in float32, moves few of the pixels that are rounded to 8
# bits to another level: at most 1.5e-3 dB on photographs of 48×48 pixels, and 5e-4 dB and 1e-5 of
# SSIM on 480×480 pixels.
DECIBEL_ROUNDING, SSIM_ROUNDING = 2e-3, 1e-5

TILE = 118
"""Side of a tile in pixels; with the margins of a window 128, where matrix products are fast."""

Pixels = NDArray[Any]
"""An image as the user passes it: uint8, uint16 or floats."""

Floats = NDArray[np.float64]

Prepare = Callable[[Pixels], Floats]
"""Converts a part of an image (h, w, c) to the values that a metric compares."""


class Measure(Protocol):
    """The signature of all metrics."""

    def __call__(
        self, restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False
    ) -> float:
        """The value of the metric; see `psnr` for the arguments."""


@dataclass(frozen=True)
class Metric:
    """A metric with its name and protocol.

    Attributes:
        name: on the command line and in tables ("psnr-y").
        protocol: how it is computed and which tables use it, in one or two sentences.
        higher_is_better: whether a higher value means a better image.
        function: computes the value.
        rounding: largest difference between the values of two images that differ by float32
            rounding only, before they are rounded to 8 bits.
        needs_target: whether the function uses its second image.
    """

    name: str
    protocol: str
    higher_is_better: bool
    function: Measure
    rounding: float = 0.0
    needs_target: bool = True


def psnr(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels.

    It is 10 · log10(1 ÷ the mean squared difference), with values in [0, 1]; higher is better.

    >>> psnr(np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 12, np.uint8))
    42.11...
    >>> psnr(np.zeros((4, 4)), np.full((4, 4), 0.1))
    20.0

    Args:
        restored, target: (h, w) or (h, w, c), of uint8, uint16, or floats in [0, 1]; of the same
            shape and dtype. Floats of `restored` may be outside [0, 1].
        border: pixels to crop on each side first.
        round8: clamp both images to [0, 1] and round them to multiples of 1/255 first.

    Returns:
        The ratio in dB; infinity for equal images.

    Raises:
        ArgumentError: the images differ in shape or dtype or are not images, they may have alpha
            (two or four channels), the target has floats above 1, or the border leaves no pixels.
    """
    restored, target = _checked("psnr", restored, target, border)
    return _psnr(restored, target, partial(_to_unit, round8=round8))


def psnr_y(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Return the PSNR in dB of the luma; higher is better.

    Luma is Y of ITU-R BT.601 as MATLAB's `rgb2ycbcr` computes it, from 16 to 235; the peak is 255,
    not 219. A grey image is its own luma, from 0 to 255. `round8` rounds the
    luma to 8 bits as well, as MATLAB does for uint8.

    >>> white, grey = np.full((4, 4, 3), 255, np.uint8), np.full((4, 4, 3), 253, np.uint8)
    >>> psnr_y(white, grey) - psnr(white, grey)  # 20 · log10(255 ÷ 219)
    1.32...

    Args:
        restored, target, border, round8: as for `psnr`; colour is (h, w, 3) in the order R, G, B.

    Returns:
        The ratio in dB; infinity for equal luma.

    Raises:
        ArgumentError: as for `psnr`, or the images are neither grey nor colour.
    """
    restored, target = _checked("psnr-y", restored, target, border, channels=(1, 3))
    return _psnr(restored, target, partial(_luma, round8=round8))


def ssim(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Return the structural similarity, mean over channels and interior windows.

    Windows lie wholly inside the image and are 11×11 Gaussian weights with σ 1.5 pixels;
    K = (0.01, 0.03); variances are biased
    (divisor n). BasicSR and scikit-image, with these parameters, compute the same.

    >>> image = np.linspace(0, 1, 400).reshape(20, 20)
    >>> round(ssim(image, image / 2 + 0.25), 3)
    0.812

    Args:
        restored, target, border, round8: as for `psnr`.

    Returns:
        A value in [-1, 1]; higher is better, 1 for equal images.

    Raises:
        ArgumentError: as for `psnr`, or fewer than 11×11 pixels are left inside the border.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity,
    IEEE TIP 13(4), 2004, equation 13.
    """
    restored, target = _checked("ssim", restored, target, border, least=2 * RADIUS + 1)
    return _ssim(restored, target, partial(_to_unit, round8=round8), padded=False)


def ssim_3d(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Return SSIM with 11×11×11 Gaussian windows over height, width and channels.

    Every pixel and channel has a window; the borders of all three axes are replicated. The windows
    mix the channels, so that the value is above `ssim` on most photographs. The RGB tables of
    TLC, NAFNet and HINet use it.

    >>> image = np.linspace(0, 1, 400).reshape(20, 20)
    >>> round(ssim_3d(image, image / 2 + 0.25), 3)
    0.744

    Args:
        restored, target, border, round8: as for `psnr`.

    Returns:
        A value in [-1, 1]; higher is better, 1 for equal images.

    Raises:
        ArgumentError: as for `psnr`.
    """
    restored, target = _checked("ssim-3d", restored, target, border)
    return _ssim(restored, target, partial(_to_unit, round8=round8), padded=True)


def ssim_y(restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False) -> float:
    """Return `ssim` of the luma that `psnr_y` defines, with a data range of 255.

    >>> image = np.linspace(0, 1, 1200).reshape(20, 20, 3)
    >>> round(ssim_y(image, image / 2 + 0.25), 3)
    0.822

    Args:
        restored, target, border, round8: as for `psnr`; colour is (h, w, 3) in the order R, G, B.

    Returns:
        A value in [-1, 1]; higher is better, 1 for equal luma.

    Raises:
        ArgumentError: as for `ssim`, or the images are neither grey nor colour.
    """
    least = 2 * RADIUS + 1
    restored, target = _checked("ssim-y", restored, target, border, least, channels=(1, 3))
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
                DECIBEL_ROUNDING,
            ),
            Metric(
                "psnr-y",
                "PSNR in dB of Y (ITU-R BT.601, as MATLAB's rgb2ycbcr), peak 255. "
                "Deraining, super-resolution.",
                True,
                psnr_y,
                DECIBEL_ROUNDING,
            ),
            Metric(
                "ssim-3d",
                "SSIM with 11×11×11 Gaussian windows over height, width and channels, borders "
                "replicated. The RGB tables of TLC, NAFNet and HINet.",
                True,
                ssim_3d,
                SSIM_ROUNDING,
            ),
            Metric(
                "ssim",
                "SSIM of each channel with 11×11 Gaussian windows inside the image, averaged. "
                "BasicSR, scikit-image.",
                True,
                ssim,
                SSIM_ROUNDING,
            ),
            Metric(
                "ssim-y",
                "SSIM of Y (ITU-R BT.601, as MATLAB's rgb2ycbcr) with 11×11 Gaussian windows "
                "inside the image. Deraining, super-resolution.",
                True,
                ssim_y,
                SSIM_ROUNDING,
            ),
        )
    }
)
"""The metrics by name, in the order of tables.

>>> [(name, metric.higher_is_better) for name, metric in METRICS.items()][:2]
[('psnr', True), ('psnr-y', True)]
"""


def metric_named(name: str) -> Metric:
    """Return the metric with this name.

    >>> metric_named("ssim-y").function is ssim_y
    True

    Raises:
        ArgumentError: no metric has this name; the message lists the names.
    """
    if name not in METRICS:
        raise ArgumentError(f"no metric is called {name!r}; choose from {', '.join(METRICS)}")
    return METRICS[name]


# --- shared parts ----------------------------------------------------------------------------


def _checked(
    name: str,
    restored: Pixels,
    target: Pixels,
    border: int,
    least: int = 1,
    channels: tuple[int, ...] = (),
) -> tuple[Pixels, Pixels]:
    """Both images as (h, w, c) without the border.

    Args:
        name: of the metric, for messages.
        least: pixels that an axis must have inside the border.
        channels: how many the images may have; any number but those with alpha if empty.

    Raises:
        ArgumentError: as for `psnr`.
    """
    for image in (restored, target):
        if not isinstance(image, np.ndarray):
            raise ArgumentError(f"{name} compares NumPy arrays, got a {type(image).__name__}")
        if image.ndim == 3 and image.shape[2] in (2, 4):
            count = image.shape[2]
            raise ArgumentError(
                f"{name} takes grey or colour, got {count} channels, the last probably alpha; pass "
                f"image[..., :{count - 1}], or channels of raw images one by one"
            )
    if restored.shape != target.shape or restored.dtype != target.dtype:
        raise ArgumentError(
            f"{name} compares images of the same shape and dtype, got "
            f"{restored.shape} {restored.dtype} and {target.shape} {target.dtype}"
        )
    kind = target.dtype
    if target.ndim not in (2, 3) or (kind.kind != "f" and kind not in (np.uint8, np.uint16)):
        raise ArgumentError(
            f"{name} takes (h, w) or (h, w, c) of uint8, uint16 or floats in [0, 1], "
            f"got {target.shape} {kind}"
        )
    if mistake := layout_mistake(target.shape, channels_last=True):
        raise ArgumentError(f"{name} takes (h, w) or (h, w, c), got {target.shape}: {mistake}")
    if target.ndim == 3 and channels and target.shape[2] not in channels:
        raise ArgumentError(f"{name} takes grey or colour images, got {target.shape[2]} channels")
    height, width = target.shape[0] - 2 * border, target.shape[1] - 2 * border
    if border < 0 or height < least or width < least:
        raise ArgumentError(
            f"{name} needs at least {least}×{least} pixels inside the border, got an image of "
            f"{target.shape[0]}×{target.shape[1]} and a border of {border}"
        )
    # The output of a network may exceed 1; a target that does is probably in [0, 255].
    if kind.kind == "f" and target.max() > 1.001:
        raise ArgumentError(
            f"the target has values up to {target.max():.4g}; scale floats to [0, 1]"
        )
    if kind.kind == "f" and restored.max() > LARGEST:
        raise ArgumentError(
            f"the restored image has values up to {restored.max():.4g}; scale floats to [0, 1]"
        )
    inside = slice(border, border + height), slice(border, border + width)
    shape = (height, width, -1)
    return restored[inside].reshape(shape), target[inside].reshape(shape)


def _to_unit(part: Pixels, round8: bool) -> Floats:
    """Values scaled to [0, 1]."""
    peak = 1.0 if part.dtype.kind == "f" else float(np.iinfo(part.dtype).max)
    unit = part.astype(np.float64) / peak
    return np.rint(unit.clip(0, 1) * 255) / 255 if round8 else unit


def _luma(part: Pixels, round8: bool) -> Floats:
    """Return luma (h, w, 1) with 255 scaled to 1; a grey image is its own."""
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
    """Mean SSIM of the windows, computed tile by tile.

    Args:
        padded: replicate borders, so that every pixel has a window, and filter the channels too.
    """
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
    """Evaluate equation 13 of Wang et al. on window means of x, y, x², y² and xy."""
    structure = (2 * x * y + C1) * (2 * (xy - x * y) + C2)
    energy = (x * x + y * y + C1) * ((xx - x * x) + (yy - y * y) + C2)
    return np.asarray(structure / energy)


def _reads(size: int, padded: bool) -> Iterator[NDArray[np.intp]]:
    """Yield the indices that each tile reads; border pixels repeat if padded."""
    margin = RADIUS if padded else 0
    for start in range(-margin, size - 2 * RADIUS + margin, TILE):
        stop = min(start + TILE + 2 * RADIUS, size + margin)
        yield np.arange(start, stop).clip(0, size - 1)


def _gaussian() -> Floats:
    """The weights of a window along one axis; their sum is 1."""
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return np.asarray(weights / weights.sum(), np.float64)


def _filter(size: int) -> Floats:
    """The matrix that filters size + 2 · RADIUS values along an axis to size values."""
    matrix = np.zeros((size, size + 2 * RADIUS))
    for offset, weight in enumerate(_gaussian()):
        matrix[np.arange(size), np.arange(size) + offset] = weight
    return matrix


def _channel_filter(channels: int) -> Floats:
    """The matrix that filters the channels; the first and the last are replicated."""
    matrix = np.zeros((channels, channels))
    for offset, weight in enumerate(_gaussian(), -RADIUS):
        for channel in range(channels):
            matrix[channel, min(max(channel + offset, 0), channels - 1)] += weight
    return matrix
