"""Measure the seams of crop-and-stitch: steps across the borders of tiles.

The paper (TLC, Chu et al., ECCV 2022, arXiv 2112.04491) shows inference on the full image, in
stitched crops, and with TLC: the crops leave seams.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glocal.errors import ArgumentError
from glocal.inference.geometry import AxisTiles, tile_starts

__all__ = ["amplified", "seam_map", "seam_ratio", "tile_borders"]

Image: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]


def tile_borders(size: int, tile: int) -> list[int]:
    """Return the first pixels of the second and all further tiles of an axis.

    The tiles are those of `restore(..., tiles=Tiles(tile, overlap=0, blend="cut"))`.

    >>> tile_borders(128, 64), tile_borders(100, 64), tile_borders(60, 64)
    ([64], [50], [])
    """
    tile = min(tile, size)
    starts = tile_starts(size, tile, 0)
    weights = AxisTiles(size, tile, starts).weights(1, "cut")
    return [start + int(own.nonzero()[0]) for start, own in zip(starts, weights, strict=True)][1:]


def seam_map(stitched: Image, whole: Image) -> Floats:
    """Return |stitched − whole| of each pixel, mean over channels.

    >>> import numpy as np
    >>> seam_map(np.array([[[0.5, 0.7], [0, 0]]]), np.array([[[0.5, 0.5], [0, 1]]])).round(2)
    array([[0.1, 0.5]])

    Args:
        stitched: (h, w) or (h, w, c), restored in tiles.
        whole: of the same shape and type, restored as a whole, such as with TLC.

    Returns:
        (h, w) in the unit of the images; images of integers are scaled to [0, 1].

    Raises:
        ArgumentError: the shapes or types differ.
    """
    difference = np.abs(_difference(stitched, whole))
    mean: Floats = difference.mean(2)
    return mean


def seam_ratio(
    image: Image, reference: Image, rows: Sequence[int], columns: Sequence[int]
) -> float:
    """Return how much larger the steps across tile borders are than elsewhere.

    A step is |difference between two neighbours| in (image − reference). The ratio is the mean
    step across a border divided by the mean of all other steps. An image without seams has about 1.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).random((32, 32, 3))
    >>> shifted = noise.copy()
    >>> shifted[:, 16:] += 2
    >>> flat = np.zeros((32, 32, 3))
    >>> seam_ratio(noise, flat, [16], [16]) < 1.1 < 3 < seam_ratio(shifted, flat, [16], [16])
    True

    Args:
        image: (h, w) or (h, w, c).
        reference: of the same shape and type: the target, or an image restored as a whole.
        rows, columns: the first pixels after each border, as `tile_borders` gives them.

    Returns:
        The ratio; 1 if the images are equal up to a constant, infinite if only the borders have
        steps.

    Raises:
        ArgumentError: shapes or types differ, there is no border, or one is outside the image.
    """
    difference = _difference(image, reference)
    at_borders, elsewhere = [], []
    for axis, borders in enumerate((rows, columns)):
        steps = np.abs(np.diff(difference, axis=axis)).mean(2)
        steps = steps if axis == 0 else steps.T
        if any(not 0 < border <= len(steps) for border in borders):
            raise ArgumentError(
                f"borders {list(borders)} must be inside an axis of {len(steps) + 1} pixels"
            )
        border = np.zeros(len(steps), bool)
        border[np.array(borders, int) - 1] = True
        at_borders.append(steps[border].ravel())
        elsewhere.append(steps[~border].ravel())
    seams, others = np.concatenate(at_borders), np.concatenate(elsewhere)
    if not seams.size or not others.size:
        raise ArgumentError("there is no border between tiles to measure; choose smaller tiles")
    if not others.mean():
        return float("inf") if seams.mean() else 1.0
    return float(seams.mean() / others.mean())


def amplified(seams: Floats, quantile: float = 0.99) -> tuple[NDArray[np.uint8], int]:
    """Return a seam map as a grey picture, and its amplification.

    >>> import numpy as np
    >>> picture, factor = amplified(np.array([[0.0, 0.02], [0.05, 0.1]]))
    >>> picture[..., 0].tolist(), factor
    ([[0, 51], [128, 255]], 10)

    Args:
        seams: (h, w), differences in [0, 1].
        quantile: the quantile of the values that becomes white.

    Returns:
        The picture (h, w, 1), and the integer factor, at least 1.
    """
    top = float(np.quantile(seams, quantile, method="higher"))
    factor = max(1, round(1 / top)) if top > 1 / 65536 else 1
    picture = np.rint(np.clip(seams * factor, 0, 1) * 255).astype(np.uint8)
    return picture[..., None], factor


def _difference(a: Image, b: Image) -> Floats:
    if a.shape != b.shape or a.dtype != b.dtype or a.ndim not in (2, 3) or a.size == 0:
        raise ArgumentError(
            f"the images must have the same shape and type, got {a.shape} of {a.dtype} and "
            f"{b.shape} of {b.dtype}"
        )
    peak = np.iinfo(a.dtype).max if a.dtype.kind == "u" else 1
    difference: Floats = (a.astype(np.float64) - b.astype(np.float64)) / peak
    return difference if difference.ndim == 3 else difference[..., None]
