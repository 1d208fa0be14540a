"""Functions of rewritten blocks for statistics of rows and columns ("strips").

`x.mean(3)` has one value per row. Its local form has one per row and window of columns: the
windows lie along the reduced axis alone and are stacked on the batch dim, (windows · n, ...), with
the whole other axis in each.
"""

from collections.abc import Sequence

from torch import Tensor

from glocal.conversion.rewrite.runtime import Where, from_map
from glocal.ops.window_map import values_like, values_of

__all__ = ["broadcastable_strips", "stack_strips", "strip_count"]


def strip_count(grid: Tensor, axis: str) -> int:
    """Return the number of windows along an axis of a map of statistics."""
    values, _ = values_of(grid)
    return values.shape[_place(axis)]


def stack_strips(
    statistics: Tensor,
    grid: Tensor,
    axis: str,
    others: Sequence[int],
    kept: int,
    item_shape: Sequence[int],
) -> Tensor:
    """Stack windows along one axis: (n, k, h, w) to (windows · n, *item_shape).

    Args:
        statistics: a map of k statistics for each row (axis "W") or column (axis "H") and window.
        grid: the map of statistics that says where the windows are.
        axis: that the statistics reduce.
        others: the sizes whose product is k.
        kept: the place of the other axis among `others`, as it is in the result.
        item_shape: of the result, with -1 for the length of the other axis.
    """
    values = values_like(statistics, grid).movedim(_place(axis), 0)  # (windows, n, k, length)
    values = values.flatten(0, 1).unflatten(1, others) if others else values.flatten(0, 2)
    values = values.movedim(-1, 1 + kept)
    return values.reshape(values.shape[0], *item_shape)


def broadcastable_strips(stacked: Tensor, grid: Tensor, axis: str, where: Where) -> Tensor:
    """Make a map that broadcasts from stacked statistics of rows or columns.

    Args:
        stacked: (windows · n, ...), with size 1 at the dim of `axis`.
        grid: says where the windows are.
        axis: that the statistics reduce.
        where: rows and columns of the map.
    """
    rows, columns, _ = where
    reduced = columns if axis == "W" else rows
    _, as_in_grid = values_of(grid)
    windows = stacked.unflatten(0, (strip_count(grid, axis), -1))
    values = windows.squeeze(1 + reduced).movedim(0, reduced)
    return from_map(as_in_grid(values.movedim((rows, columns), (-2, -1))), where)


def _place(axis: str) -> int:
    return -1 if axis == "W" else -2
