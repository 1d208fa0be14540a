"""Lazy maps of statistics from crops while a program is recorded.

In a program the starts of the crops, their number and the size of the image are inputs. The weights
of interpolation are therefore tensors that the program computes, and nothing branches on them. A
`ProgramMap` decides like a `GradientMap` which functions run on the values of the crops, so that a
program computes what eager mode computes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from glocal.ops.gradient_map import GradientMap
from glocal.ops.windows import AxisWindows, Size, map_scale

__all__ = ["ProgramAxis", "ProgramGrid", "ProgramMap", "hat_weights", "mix"]


def hat_weights(centres: Tensor, size: int) -> Tensor:
    """Return the weights (size, crops) of linear interpolation between centres.

    They are constant beyond the outermost centres; each row sums to 1.

    >>> hat_weights(torch.tensor([1.0, 3.0]), 5).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
    >>> hat_weights(torch.tensor([1.0]), 2).tolist()
    [[1.0], [1.0]]

    Args:
        centres: (crops,) in pixels, rising; one or more.
        size: number of pixels.
    """
    # Tensors of `crops - 1` values would refuse two crops: tracers handle a size of 1 apart.
    number = torch.arange(centres.shape[0], device=centres.device)
    pixels = torch.arange(size, device=centres.device, dtype=centres.dtype)[:, None]
    left = centres.index_select(0, (number - 1).clamp_min(0))
    is_first, is_last = number == 0, number == number[-1]
    gaps = torch.where(is_first, 1.0, centres - left)
    # The share of the way from the crop on the left that a pixel has passed.
    passed = torch.where(is_first, 1.0, ((pixels - left) / gaps).clamp(0, 1))
    right = passed.index_select(1, torch.where(is_last, number, number + 1))
    return passed - torch.where(is_last, 0.0, right)


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgramAxis(AxisWindows):
    """The crops along an axis of a map in a program; equal to itself only.

    Attributes:
        middles: (crops,), their centres in pixels of the map.
        weights: (size, crops), see `hat_weights`.
    """

    middles: Tensor
    weights: Tensor

    @property
    def interpolated(self) -> bool:
        """True: there are pixels between the centres."""
        return True

    def pixels(self) -> Any:
        """The pixel nearest to each centre, (crops,)."""
        return self.middles.round().long()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class ProgramGrid:
    """Crops of an image whose places are tensors."""

    def __init__(self, rows: Tensor, columns: Tensor, crop: Size) -> None:
        """Lay out crops.

        Args:
            rows, columns: (crops,), starts of the crops in pixels of the image, floating point;
                weights are computed in their dtype.
            crop: (height, width) of every crop.
        """
        self._starts = rows, columns
        self._crop = crop
        self._known: list[tuple[int, int, int, ProgramAxis]] = []

    def axes(self, small: Size, size: Size) -> tuple[ProgramAxis, ProgramAxis]:
        """The crops on a feature map; maps of one grid share the axes.

        Args:
            small: (height, width) of the feature map of a crop.
            size: (height, width) of the feature map of the image; symbols in a program.
        """
        return self._axis(0, small[0], size[0]), self._axis(1, small[1], size[1])

    def _axis(self, dim: int, small: int, size: int) -> ProgramAxis:
        for *known, length, axis in self._known:
            if known == [dim, small] and statically_known_true(length == size):
                return axis
        starts = self._starts[dim]
        scale = map_scale(small, self._crop[dim])
        middles = starts * scale + (small - 1) / 2
        weights = hat_weights(middles, size)
        axis = ProgramAxis(size, starts.shape[0], middles=middles, weights=weights)
        self._known.append((dim, small, size, axis))
        return axis


class ProgramMap(GradientMap):
    """A map (..., h, w) that stores one value per crop, in a program.

    Its axes are those of a `ProgramGrid`, until pixels are written into the map.
    """

    @staticmethod
    def __new__(cls, values: Tensor, axes: tuple[ProgramAxis, ProgramAxis]) -> "ProgramMap":
        """Wrap (..., crops down, crops along) as a map (..., h, w)."""
        shape = (*values.shape[:-2], axes[0].size, axes[1].size)
        new: ProgramMap = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=values.dtype, device=values.device
        )
        new.values, new.axes = values, axes
        return new

    def padded(self) -> Tensor:
        """The full map as a plain tensor."""
        rows, columns = self.axes
        if not isinstance(rows, ProgramAxis) or not isinstance(columns, ProgramAxis):
            return self.values
        down, across = (axis.weights.to(self.values.dtype) for axis in (rows, columns))
        full: Tensor = down @ (self.values @ across.mT)
        return full


def mix(matrices: Tensor, v: Tensor, rows: ProgramAxis, columns: ProgramAxis) -> Tensor:
    """`crops.mix_between` without a branch on where the crops are.

    The matrices are interpolated for each row of pixels, and stand side by side for all crops along
    the row: one product with the pixels, weighted for each crop, sums over channels and crops.

    Args:
        matrices: (crops down, crops along, b, heads, d, c).
        v: (b, heads, c, h, w).
        rows, columns: the crops on the map.
    """
    down, across = (axis.weights.to(v.dtype) for axis in (rows, columns))
    of_rows = torch.tensordot(down, matrices, 1)  # (h, crops along, b, heads, d, c)
    left = of_rows.permute(2, 3, 0, 4, 1, 5).flatten(-2)  # (b, heads, h, d, crops along · c)
    pixels = v.transpose(-3, -2).unsqueeze(-3)  # (b, heads, h, 1, c, w)
    right = (pixels * across.mT.unsqueeze(-2)).flatten(-3, -2)
    product: Tensor = (left @ right).transpose(-3, -2)  # (b, heads, d, h, w)
    return product
