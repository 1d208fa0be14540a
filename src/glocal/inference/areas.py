"""Find areas where a local result has structure that nothing in the image explains.

Statistics of a window may be extreme where the image is flat; users see colour mosaics and
checkerboards there. A difference between local and full-image result is no sign of them: where the
strength of a degradation varies, local statistics restore more strongly, which is their gain. Such
a result follows the image and the full-image result up to contrast and brightness; a mosaic follows
neither.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CELL", "Areas", "parting_areas"]

CELL = 16
"""Side in pixels of the cells that are compared. Structure is that of 3 × 3 cells."""

FLOOR = 5 / 255
"""In an area, the structure of the difference that nothing explains has at least this root mean
square, ..."""

FAR, FAR_IN_FLAT = 5.0, 3.0
"""... and at least so many times its median over the image. The second number counts where it
exceeds the structure of image and full-image result, which would hide it. By windows on eight
photographs, as they are and with a flat dark area, only the replication's dehazing HINet reaches
that, in one of them beside the dark area. Its other networks and the embedded one stay below."""

AROUND = 0.5
"""An area extends over the neighbouring cells that reach this share of these bounds, ..."""

FAR_APART = 5.0
"""... and over those in which the whole difference has so many times its median."""

CONTRAST = 2 / 255
"""Fainter structure of the image explains little: its gain would have to be large."""


@dataclass(frozen=True)
class Areas:
    """Areas of an image, or of a batch of them.

    Attributes:
        weight: of the full-image result, (b, 1, h, w) in [0, 1].
        difference: largest root mean square difference of the results in a cell of the areas; 0
            without areas.
    """

    weight: Tensor
    difference: float

    @property
    def share(self) -> float:
        """Share of the full-image result in the blend, 0 to 1."""
        return float(self.weight.mean())

    def blended(self, local: Tensor, full: Tensor) -> Tensor:
        """The local result, faded into the full-image result in the areas; both (b, c, h, w).

        Outside the areas it is the local result, bit for bit.
        """
        weight = self.weight.to(local)
        return torch.where(weight > 0, torch.lerp(local, full, weight), local)


def parting_areas(local: Tensor, full: Tensor, image: Tensor) -> Areas:
    """Find the areas where a local result parts from the full-image result far more than elsewhere.

    >>> full = torch.full((1, 3, 256, 256), 0.5)
    >>> local = full.clone()
    >>> local[..., 96:160, 96:160] += 0.2 * torch.randn(1, 3, 64, 64)
    >>> areas = parting_areas(local, full, full)
    >>> bool((areas.weight[..., 96:160, 96:160] == 1).all()), float(areas.weight[0, 0, 0, 0])
    (True, 0.0)

    Args:
        local: (b, c, h, w) in [0, 1], restored with local statistics.
        full: the same, restored with statistics of the whole image.
        image: (b, c', h', w') that was restored, of any size and number of channels.
    """
    local, full, image = (each.detach().to(torch.float32) for each in (local, full, image))
    apart = local - full
    structure, other = _structures(apart, full, _alike(image, full))
    far = torch.where(structure > other, FAR_IN_FLAT, FAR)
    bound = (far * _median(structure)).clamp(min=FLOOR)
    difference = _root_mean(_by_cells(apart.square()))
    far_apart = difference > (FAR_APART * _median(difference)).clamp(min=FLOOR)
    cells = _grown(structure > bound, (structure > AROUND * bound) | far_apart)
    largest = float((difference * cells).amax()) if cells.any() else 0.0
    return Areas(_faded(cells)[..., : local.shape[-2], : local.shape[-1]], largest)


def _alike(image: Tensor, result: Tensor) -> Tensor:
    """The image in the size and channels of a result."""
    if image.shape[1] != result.shape[1]:
        image = image.mean(1, keepdim=True).expand(-1, result.shape[1], -1, -1)
    if image.shape[-2:] == result.shape[-2:]:
        return image
    size = [result.shape[-2], result.shape[-1]]
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _structures(apart: Tensor, full: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return structure of `apart` that the two maps do not explain, and their own.

    Root mean squares (b, 1, rows, columns) in each 3 × 3 cells. A ridge regression explains
    `apart`, channel by channel.
    """
    means = [_around(_by_cells(each)) for each in (apart, full, image)]
    maps = (apart, full, image)

    def covariance(i: int, j: int) -> Tensor:
        return _around(_by_cells(maps[i] * maps[j])) - means[i] * means[j]

    ridge = CONTRAST**2
    by_full, by_image, both = covariance(0, 1), covariance(0, 2), covariance(1, 2)
    of_full, of_image = covariance(1, 1) + ridge, covariance(2, 2) + ridge
    other = of_full + of_image - ridge
    determinant = of_full * of_image - both**2
    slope_full = (by_full * of_image - by_image * both) / determinant
    slope_image = (by_image * of_full - by_full * both) / determinant
    left = covariance(0, 0) - slope_full * by_full - slope_image * by_image
    return _root_mean(left), _root_mean(other)


def _by_cells(x: Tensor) -> Tensor:
    """Means over cells; those at the far borders may be smaller."""
    padding = [0, -x.shape[-1] % CELL, 0, -x.shape[-2] % CELL]
    if not any(padding):
        return F.avg_pool2d(x, CELL)
    inside = F.pad(torch.ones_like(x[:1, :1]), padding)
    return F.avg_pool2d(F.pad(x, padding), CELL) / F.avg_pool2d(inside, CELL)


def _root_mean(squares: Tensor) -> Tensor:
    return squares.mean(1, keepdim=True).clamp(min=0).sqrt()


def _around(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)


def _median(cells: Tensor) -> Tensor:
    return cells.flatten(1).median(1).values[:, None, None, None]


def _grown(core: Tensor, candidates: Tensor) -> Tensor:
    """The cells of `core`, and the candidates that are connected with them."""
    while True:
        grown = (_dilated(core) & candidates) | core
        if bool((grown == core).all()):
            return core
        core = grown


def _dilated(cells: Tensor) -> Tensor:
    return F.max_pool2d(cells.to(torch.float32), 3, 1, 1) > 0


def _faded(cells: Tensor) -> Tensor:
    """Weights of pixels: 1 in the cells, 0 two cells away from them.

    Each of two box filters has a side of more than a cell, so that neighbouring pixels differ by
    less than 1 / `CELL`.
    """
    weight = _dilated(cells).to(torch.float32)
    weight = weight.repeat_interleave(CELL, -2).repeat_interleave(CELL, -1)
    for _ in range(2):
        weight = F.pad(weight, [CELL // 2] * 4, mode="replicate")
        weight = F.avg_pool2d(F.avg_pool2d(weight, (CELL + 1, 1), 1), (1, CELL + 1), 1)
    return weight.clamp(0, 1)
