"""Read the pixels of a pair, and make a target comparable with its restored image."""

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glocal.data.pairing import Pair
from glocal.errors import ArgumentError
from glocal.images.image_files import read

__all__ = ["ALPHA", "CROPPED", "GREY_DEGRADED", "GREY_TARGET", "PairImages", "matched", "read_pair"]

Floats: TypeAlias = NDArray[np.float32]

CROPPED = "the target was cropped at the right and bottom to a multiple of the scale"
GREY_DEGRADED = "the grey degraded image was repeated for the three channels of its target"
GREY_TARGET = "the grey target was repeated for the three channels of its degraded image"
ALPHA = "alpha was left out"


class PairImages(NamedTuple):
    """A degraded image and its target.

    Attributes:
        degraded: (h, w, c) float32 in [0, 1].
        target: likewise, or None.
        notes: how they differ from the files, from the constants of this module; usually empty.
    """

    degraded: Floats
    target: Floats | None
    notes: tuple[str, ...] = ()


def read_pair(pair: Pair) -> PairImages:
    """Return the pixels of a pair, degraded and target.

    The noise of `noise_sigma` follows the published colour denoising results: NumPy's legacy
    generator, seeded with 0 for every image, neither clipped nor rounded. The two views of a
    dual-pixel pair are concatenated along the channels. Alpha is left out, with a note unless the
    image is opaque. `matched` describes what else is done.

    Returns:
        Both images have one size, except that super-resolution targets are larger by an integer
        factor.

    Raises:
        ImageError: a file cannot be read.
        ArgumentError: the sizes of the images do not match.
    """
    degraded, notes = _pixels(pair.degraded)
    if pair.noise_sigma is not None:
        noise = np.random.RandomState(0).normal(0, pair.noise_sigma / 255, degraded.shape)
        return PairImages((degraded + noise).astype(np.float32), degraded, notes)
    target = None
    if pair.target is not None:
        target, more = _pixels(pair.target)
        notes += more
        if pair.centre_crop:
            target = _centre(target, degraded.shape[:2])
        size = _size(target)
        degraded, target, more = matched(degraded, target)
        notes += more
        if target is not None and not _is_multiple(target.shape[:2], degraded.shape[:2]):
            raise ArgumentError(
                f"{pair.degraded} is {_size(degraded)}, but its target {pair.target} is {size}; "
                "a target must have the size of its image, or a multiple of it"
            )
    if pair.second is not None:
        second, more = _pixels(pair.second)
        notes += more
        if second.shape != degraded.shape:
            raise ArgumentError(
                f"{pair.degraded} is {_size(degraded)}, but its second view {pair.second} is "
                f"{_size(second)}"
            )
        degraded = np.concatenate([degraded, second], axis=2)
    return PairImages(degraded, target, tuple(dict.fromkeys(notes)))


def matched(degraded: Floats, target: Floats | None) -> PairImages:
    """Return both images with equal channels and sides that differ by an integer factor.

    - A super-resolution target whose sides are no multiples of the scale is cropped at the right
      and bottom, as published tables do: 97×130 to 96×128 where the degraded image is 24×32.
    - A grey image beside a colour image is repeated for three channels.

    Images that differ otherwise are returned as they are.

    >>> small, large = np.zeros((24, 32, 3), np.float32), np.zeros((97, 130, 1), np.float32)
    >>> matched(small, large).target.shape
    (96, 128, 3)
    """
    notes = []
    if target is not None:
        scale = _scale(degraded.shape[:2], target.shape[:2])
        height, width = degraded.shape[0] * scale, degraded.shape[1] * scale
        if scale and target.shape[:2] != (height, width):
            target = target[:height, :width]
            notes.append(CROPPED)
        if (degraded.shape[2], target.shape[2]) == (1, 3):
            degraded = degraded.repeat(3, axis=2)
            notes.append(GREY_DEGRADED)
        elif (degraded.shape[2], target.shape[2]) == (3, 1):
            target = target.repeat(3, axis=2)
            notes.append(GREY_TARGET)
    return PairImages(degraded, target, tuple(notes))


def _scale(size: tuple[int, ...], target: tuple[int, ...]) -> int:
    """Return the scale whose multiples of a size are the most that fit a target; 0 if none."""
    fitting = (
        scale
        for scale in range(target[0] // size[0], 0, -1)
        if all(whole // scale == own for own, whole in zip(size, target, strict=True))
    )
    return next(fitting, 0)


def _is_multiple(target: tuple[int, ...], size: tuple[int, ...]) -> bool:
    factors = {divmod(whole, own) for own, whole in zip(size, target, strict=True)}
    return len(factors) == 1 and next(iter(factors))[1] == 0 < next(iter(factors))[0]


def _pixels(path: Path) -> tuple[Floats, tuple[str, ...]]:
    image = read(path)
    seen = image.colours.seen(image.pixels)
    translucent = image.alpha is not None and bool((image.alpha < _white(image.alpha)).any())
    pixels = (seen / np.float32(_white(seen))).astype(np.float32)
    return pixels, (ALPHA,) if translucent else ()


def _white(samples: NDArray[Any]) -> int:
    return 1 if samples.dtype.kind == "f" else int(np.iinfo(samples.dtype).max)


def _centre(target: Floats, size: tuple[int, ...]) -> Floats:
    top, left = ((own - wanted) // 2 for own, wanted in zip(target.shape, size, strict=False))
    return target if min(top, left) < 0 else target[top : top + size[0], left : left + size[1]]


def _size(pixels: Floats) -> str:
    height, width, channels = pixels.shape
    return f"{height}×{width} with {channels} channel{'s' if channels > 1 else ''}"
