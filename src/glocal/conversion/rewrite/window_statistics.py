"""Emit operations on window statistics, and statistics where they meet pixels."""

from collections.abc import Callable
from typing import Any

from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.emission import Emission, Value, WindowStatistic
from glocal.conversion.rewrite.nodes import argument, is_size, operation, tensor_inputs
from glocal.conversion.rewrite.reductions import kind_text
from glocal.conversion.rewrite.roles import Alias, OnStatistics
from glocal.conversion.rewrite.strips import strips_at_pixels
from glocal.errors import ConversionError

__all__ = [
    "add_statistic",
    "at_pixels",
    "broadcastable",
    "emit_alias",
    "emit_at_pixels",
    "emit_on_statistics",
    "emit_ordinary",
    "needs_resize",
    "operand_on_windows",
    "stacked",
]


def add_statistic(emission: Emission, node: fx.Node, statistic: WindowStatistic) -> None:
    """Set the local form of a node; its map is emitted if anything needs it."""
    emission.statistics[node] = statistic
    emission.defer(node, lambda: _full_map(emission, statistic, node))


def emit_alias(emission: Emission, node: fx.Node, role: Alias) -> None:
    """Emit nothing: the node has the local form of another."""
    add_statistic(emission, node, emission.statistics[role.of])


def emit_on_statistics(emission: Emission, node: fx.Node, role: OnStatistics) -> None:
    """Emit an operation on the statistics of all windows, as maps or stacked."""
    lead = emission.statistics[role.lead]
    made = WindowStatistic(role.form, lead.windows, lead.grid)
    if operation(node) == "type_as" and tensor_inputs(node)[-1] not in emission.statistics:
        like = emission.value(tensor_inputs(node)[-1])
        made.as_map, made.stacked = (
            v and emission.call(runtime.as_type, v, like) for v in (lead.as_map, lead.stacked)
        )
    elif role.form.is_map:
        made.as_map = emission.run(node, lambda n: _operand_on_map(emission, n))
    else:
        made.stacked = emission.run(node, operand_on_windows(emission, lead))
    add_statistic(emission, node, made)


def operand_on_windows(emission: Emission, lead: WindowStatistic) -> Callable[[fx.Node], Any]:
    """Return a function from operands to values with the windows of `lead` stacked."""

    def value_of(node: fx.Node) -> Any:
        if node in emission.statistics:
            return stacked(emission, emission.statistics[node])
        if emission.block.is_number(node):
            return emission.number(node, lead.windows)
        if emission.block.depends_on_batch(node):
            count = lead.windows.count
            return emission.call(runtime.repeat_for_windows, emission.value(node), count)
        return emission.value(node)

    return value_of


def _operand_on_map(emission: Emission, node: fx.Node) -> Any:
    known = emission.statistics.get(node)
    return emission.value(node) if known is None else known.as_map


def stacked(emission: Emission, statistic: WindowStatistic) -> Value:
    """Return a statistic with its windows stacked on the batch dim."""
    if statistic.stacked is None:
        statistic.stacked = emission.call(
            runtime.stack_windows, statistic.as_map, statistic.grid, statistic.form.item_shape
        )
    return statistic.stacked


def broadcastable(emission: Emission, statistic: WindowStatistic, node: fx.Node) -> Value:
    """Return a statistic as a map that broadcasts against the value of a node.

    Raises:
        ConversionError: the original does not broadcast it over rows and columns.
    """
    where, form = emission.block.require_map_dims(node), statistic.form
    if form.axes != "HW":
        return strips_at_pixels(emission, statistic, node)
    resize = needs_resize(emission, statistic, node)
    if statistic.as_map is not None and where == (2, 3, 1) and not resize:
        return _cut_back(emission, statistic, statistic.as_map, node)
    alike = len(form.item_shape) == emission.block.rank(node) - 1
    if not alike or any(form.item_shape[d - 1] != 1 for d in (where.rows, where.columns)):
        raise ConversionError(f"the global {kind_text(form.kind)} is not broadcast over the map")
    size = emission.sizes(node) if resize or where.rows == where.columns else None
    windows = stacked(emission, statistic)
    made = emission.call(runtime.broadcastable, windows, statistic.grid, where, size, resize)
    return _cut_back(emission, statistic, made, node)


def _cut_back(emission: Emission, statistic: WindowStatistic, value: Value, node: fx.Node) -> Value:
    """Return the map of a statistic of a padded map for the pixels of the map before."""
    padded = statistic.windows.padded
    if padded is None or node in emission.padded:
        return value
    starts = [
        emission.number(start, None) if isinstance(start, fx.Node) else start
        for start in padded.before
    ]
    return emission.call(runtime.cut_back, value, starts, emission.sizes(node))


def needs_resize(emission: Emission, statistic: WindowStatistic, node: fx.Node) -> bool:
    """True if a statistic meets a map of another size.

    Raises:
        ConversionError: that map is cut into cells, the pixels of which have windows of their own.
    """
    padded = statistic.windows.padded
    size = emission.block.map_size(padded.map) if padded else statistic.form.map_size
    resize = emission.size_before_padding(node) != size
    if resize and emission.block.has_cells(node):
        kind = kind_text(statistic.form.kind)
        raise ConversionError(f"the global {kind} meets a map that is cut into a grid of cells")
    return resize


def _full_map(emission: Emission, statistic: WindowStatistic, node: fx.Node) -> Value:
    """Return the full map of a statistic that a node broadcasts over the pixels."""
    return emission.call(
        runtime.expand_to_map,
        broadcastable(emission, statistic, node),
        emission.block.require_map_dims(node),
        emission.sizes(node),
    )


def emit_ordinary(emission: Emission, node: fx.Node) -> None:
    """Emit a node that depends on no statistic, as it is.

    The number with which a map is filled is computed from the sizes of a window.
    """
    fill = argument(node, "fill_value")
    if isinstance(fill, fx.Node) and is_size(fill) and emission.block.is_spatial(node):
        emission.block.require_map_dims(node)
        windows = emission.windows_on(node)
        made = emission.run_with(node, "fill_value", emission.number(fill, windows))
    else:
        made = emission.run(node, emission.value)
    emission.define(node, made)


def emit_at_pixels(emission: Emission, node: fx.Node) -> None:
    """Emit a pointwise operation of pixels and the statistics of their windows."""
    emission.define(node, at_pixels(emission, node))


def at_pixels(emission: Emission, node: fx.Node) -> Value:
    """Return a pointwise node's value for each pixel, with its window's statistics."""
    emission.block.require_map_dims(node)
    windows = emission.windows_on(node)

    def value_of(n: fx.Node) -> Any:
        if emission.block.is_number(n):
            return emission.number(n, windows)
        if n in emission.statistics:
            return broadcastable(emission, emission.statistics[n], node)
        return emission.value(n)

    return emission.run(node, value_of)
