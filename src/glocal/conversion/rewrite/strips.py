"""Statistics of rows or columns ("strips"): strip pools, coordinate attention.

`x.mean(3)` reduces the width and keeps the height. At a pixel its local form is the mean of the
pixel's row over the columns of the pixel's window. The windows lie along the reduced axis only,
so a convolution along a strip sees the whole strip, as in the original.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from glocal.conversion.rewrite import strip_runtime
from glocal.conversion.rewrite.block import MapDims
from glocal.conversion.rewrite.emission import Emission, StackedWindows, Value, WindowStatistic
from glocal.conversion.rewrite.reductions import Reduction, kind_text
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.errors import ConversionError
from glocal.ops.windows import Size

__all__ = ["strip_shape", "strips_at_pixels", "strips_from_grid", "window_of_strips"]


def window_of_strips(axes: str, window: Size) -> Size:
    """Return a statistic's window: one row or column if it reduces one axis.

    Args:
        axes: that the statistic reduces.
        window: covers the other axis.
    """
    height, width = (n if a in axes else 1 for a, n in zip("HW", window, strict=True))
    return height, width


def strip_shape(form: StatisticForm, reduction: Reduction, where: MapDims) -> tuple[int, ...]:
    """Return the item shape of a statistic, with -1 for the length of a strip.

    Args:
        form: of the statistic.
        reduction: that makes it.
        where: rows and columns of the map that it reduces.
    """
    if not form.kept:
        return form.item_shape
    length = where.rows if form.kept == "H" else where.columns
    place = length - 1 - sum(d < length for d in reduction.dims) * (not reduction.keepdim)
    return (*form.item_shape[:place], -1, *form.item_shape[place + 1 :])


def strips_from_grid(
    emission: Emission,
    grid: Value,
    where: MapDims,
    shape: Sequence[int],
    reduction: Reduction,
    windows: StackedWindows,
) -> WindowStatistic:
    """Return a statistic over one axis with its windows stacked on the batch dim.

    Args:
        emission: the emission.
        grid: the map of the statistic, as `runtime.window_statistic` returns it.
        where: rows and columns of the map.
        shape: of the map in the first run of the scan.
        reduction: of that map.
        windows: that cover the other axis.
    """
    if where.rows == where.columns:
        raise ConversionError(f"{kind_text(reduction.kind)} over one axis of flattened pixels")
    axes = reduction.axes(where)
    kept = where.rows if axes == "W" else where.columns
    remaining = [d for d in range(1, len(shape)) if d not in reduction.dims]
    others = tuple(shape[d] for d in remaining if d != kept)
    form = StatisticForm(reduction.kind, windows.map_size, reduction.item_shape(shape), False, axes)
    item_shape = strip_shape(form, reduction, where)
    count = emission.call(strip_runtime.strip_count, grid, axes)
    stacked = emission.call(
        strip_runtime.stack_strips, grid, grid, axes, others, remaining.index(kept), item_shape
    )
    return WindowStatistic(form, replace(windows, count=count), grid, stacked=stacked)


def strips_at_pixels(emission: Emission, statistic: WindowStatistic, node: fx.Node) -> Value:
    """Return a statistic over one axis as a map that broadcasts against a node.

    Raises:
        ConversionError: the original does not broadcast it along the axis that it reduces.
    """
    block, form = emission.block, statistic.form
    where, what = block.require_map_dims(node), f"the {kind_text(form.kind)} over one axis"
    if block.map_size(node) != form.map_size or where.rows == where.columns:
        raise ConversionError(f"{what} meets a map of another size")
    reduced, kept = where[:2] if form.axes == "H" else where[1::-1]
    length = form.map_size["HW".index(form.kept)]
    alike = len(form.item_shape) == block.rank(node) - 1
    if not alike or (form.item_shape[reduced - 1], form.item_shape[kept - 1]) != (1, length):
        raise ConversionError(f"{what} is not broadcast along that axis")
    return emission.call(
        strip_runtime.broadcastable_strips, statistic.stacked, statistic.grid, form.axes, where
    )
