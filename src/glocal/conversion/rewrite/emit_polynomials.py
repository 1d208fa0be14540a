"""Emit statistics of polynomials, from statistics of the maps that they combine."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.deferred import anchor, shape_of
from glocal.conversion.rewrite.emission import Emission, StackedWindows, Value, WindowStatistic
from glocal.conversion.rewrite.nodes import is_size
from glocal.conversion.rewrite.reductions import Reduction
from glocal.conversion.rewrite.roles import NormOfCombined
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.conversion.rewrite.strips import strips_from_grid, window_of_strips
from glocal.conversion.rewrite.terms import (
    Applied,
    Computed,
    Exponential,
    Given,
    Moment,
    OverWindow,
    Pixels,
    Plain,
    Product,
    Rearranged,
    Shift,
    Source,
    Total,
    Viewed,
    statistics_in,
)
from glocal.conversion.rewrite.window_statistics import operand_on_windows, stacked

__all__ = ["Combinations", "reduce_map"]


def reduce_map(
    emission: Emission, value: Value, like: fx.Node, shape: Sequence[int], reduction: Reduction
) -> WindowStatistic:
    """Return a statistic of a map.

    Args:
        emission: the emission.
        value: the map.
        like: a node with its dims.
        shape: of the map in the first run of the scan.
        reduction: of its pixels, and perhaps of channels.
    """
    where, rank = emission.block.require_map_dims(like), len(shape)
    over = reduction.reduced_channels(where, rank)

    def reduce(m: Value, windows: StackedWindows) -> Value:
        return emission.call(
            runtime.window_statistic,
            m,
            reduction.kind,
            window_of_strips(reduction.axes(where), emission.extent(windows)),
            over,
            precision=emission.precision,
            **reduction.options,
        )

    return _statistic(emission, (value,), like, shape, reduction, lambda w, m: reduce(m, w))


def _statistic(
    emission: Emission,
    values: Sequence[Value],
    like: fx.Node,
    shape: Sequence[int],
    reduction: Reduction,
    make: Callable[..., Value],
) -> WindowStatistic:
    """Return a statistic from a function of the windows and maps (n, ..., h, w)."""
    where, rank = emission.block.require_map_dims(like), len(shape)
    if (where.rows, where.columns) != (rank - 2, rank - 1):
        sizes = emission.flat_sizes(like)
        moved = {v: emission.call(runtime.as_map, v, where, sizes) for v in dict.fromkeys(values)}
        values = [moved[v] for v in values]
    axes = reduction.axes(where)
    windows = emission.windows_on(like, axes)
    grid = make(windows, *values)
    if axes != "HW":
        return strips_from_grid(emission, grid, where, shape, reduction, windows)
    windows = replace(windows, count=emission.call(runtime.window_count, grid))
    item_shape = reduction.item_shape(shape)
    is_map = len(item_shape) == 3 and item_shape[1:] == (1, 1)
    form = StatisticForm(reduction.kind, windows.map_size, item_shape, is_map)
    if is_map:
        return WindowStatistic(form, windows, grid, as_map=grid)
    windows_first = emission.call(runtime.stack_windows, grid, grid, item_shape)
    return WindowStatistic(form, windows, grid, stacked=windows_first)


class Combinations:
    """Emits maps and coefficients of polynomials, each once."""

    def __init__(self, emission: Emission) -> None:
        self.emission = emission
        self._maps: dict[Source, Value] = {}
        self._shifts: dict[Source, Value] = {}
        self._statistics: dict[tuple[Moment | OverWindow, str], WindowStatistic] = {}
        self._coefficients: dict[Any, Any] = {}

    def map_of(self, source: Source) -> Value:
        """Return a map without statistics, for each pixel."""
        if source not in self._maps:
            self._maps[source] = self._made_map(source)
        return self._maps[source]

    def _made_map(self, source: Source) -> Value:
        emission = self.emission
        match source:
            case Plain():
                return emission.value(source.node)
            case Product():
                factors = self.map_of(source.first), self.map_of(source.second)
                return emission.call(operator.mul, *factors)
            case Total():
                total, *others = map(self.map_of, source.parts)
                for other in others:
                    total = emission.call(operator.add, total, other)
                return total
            case Exponential():
                pair = emission.call(runtime.exponentials, self.map_of(source.of))
                self._shifts[source] = emission.call(operator.getitem, pair, 0)
                return emission.call(operator.getitem, pair, 1)
            case Applied():
                value = self.map_of(source.of)
                if source.negative:
                    value = emission.call(operator.neg, value)
                return emission.run(source.node, self._replacing(source.node, value))
            case Rearranged():
                value = self.map_of(source.of)
                for step in source.steps:
                    value = emission.run(step, self._replacing(step, value))
                return value

    def _replacing(self, node: fx.Node, value: Value) -> Callable[[fx.Node], Any]:
        """Return a function from operands to values that replaces the first operand."""
        return lambda n: value if n is node.args[0] else self.emission.value(n)

    # ---- statistics

    def statistic(
        self,
        coefficient: Any,
        form: StatisticForm,
        item_shape: tuple[int, ...],
        dtype: torch.dtype | None = None,
    ) -> WindowStatistic:
        """Return a statistic of a polynomial.

        Args:
            coefficient: how it is computed, with all dims kept.
            form: of the result.
            item_shape: as in `strips.strip_shape`.
            dtype: of the result; None for that of the block's input.
        """
        emission, lead = self.emission, self._lead(coefficient, form.axes)
        value = self.value(coefficient, lead)
        if dtype is None:
            value = emission.call(runtime.as_type, value, emission.example())
        else:
            value = emission.call(runtime.to_dtype, value, dtype)
        value = emission.call(runtime.with_item_shape, value, item_shape)
        return WindowStatistic(form, lead.windows, lead.grid, stacked=value)

    def moments(self, role: NormOfCombined, node: fx.Node) -> tuple[Value, Value]:
        """Return mean and variance of channel groups as maps that broadcast over a node."""
        emission, lead = self.emission, self._lead(role.mean, "HW")
        where = emission.block.require_map_dims(node)
        pair = emission.call(
            runtime.grouped_moments,
            *(self.value(c, lead) for c in (role.mean, role.variance)),
            where,
            emission.block.item_shape(node)[0],
            role.groups,
        )
        size = emission.sizes(node) if where.rows == where.columns else None
        first, second = (
            emission.call(
                runtime.broadcastable,
                emission.call(operator.getitem, pair, i),
                lead.grid,
                where,
                size,
                False,
            )
            for i in (0, 1)
        )
        return first, second

    def _lead(self, coefficient: Any, axes: str) -> WindowStatistic:
        """Return the statistic that says where the windows of a coefficient are."""
        return self._window_statistic(statistics_in(coefficient)[0], axes)

    def _window_statistic(self, wanted: Moment | OverWindow, axes: str) -> WindowStatistic:
        if (wanted, axes) not in self._statistics:
            self._statistics[wanted, axes] = self._made_statistic(wanted, axes)
        return self._statistics[wanted, axes]

    def _made_statistic(self, wanted: Moment | OverWindow, axes: str) -> WindowStatistic:
        emission, block = self.emission, self.emission.block
        maps = wanted.maps if isinstance(wanted, Moment) else (wanted.map,)
        like = anchor(maps[0])
        where = block.require_map_dims(like)
        shapes = [shape_of(block, m) for m in maps]
        shape = [max(lengths) for lengths in zip(*shapes, strict=True)]
        kind = "mean" if isinstance(wanted, Moment) else wanted.kind
        reduction = Reduction.over_pixels(kind, where, axes)
        values = [self.map_of(m) for m in maps]
        if len(maps) == 1:
            return reduce_map(emission, values[0], like, shape, reduction)
        over = reduction.reduced_channels(where, len(shape))
        return _statistic(
            emission,
            values,
            like,
            shape,
            reduction,
            lambda windows, *moved: emission.call(
                runtime.window_moment,
                moved,
                window_of_strips(axes, emission.extent(windows)),
                over,
                precision=emission.precision,
            ),
        )

    # ---- coefficients

    def value(self, coefficient: Any, lead: WindowStatistic) -> Any:
        """Return a coefficient with the windows of `lead` stacked; numbers stay numbers."""
        key = (coefficient, id(lead))
        if key not in self._coefficients:
            self._coefficients[key] = self._made_value(coefficient, lead)
        return self._coefficients[key]

    def _made_value(self, coefficient: Any, lead: WindowStatistic) -> Any:
        emission = self.emission
        match coefficient:
            case Given(fx.Node() as node):
                return operand_on_windows(emission, lead)(node)
            case Given():
                return coefficient.value
            case Computed():
                arguments = (self.value(a, lead) for a in coefficient.arguments)
                return emission.call(coefficient.function, *arguments)
            case Moment() | OverWindow():
                found = self._window_statistic(coefficient, lead.form.axes)
                if lead.form.kept:
                    return stacked(emission, found)
                return emission.call(
                    runtime.stack_windows,
                    found.grid,
                    lead.grid,
                    found.form.item_shape,
                )
            case Shift():
                self.map_of(coefficient.map)
                return self._shifts[coefficient.map]
            case Pixels():
                like = anchor(coefficient.map)
                where = emission.block.require_map_dims(like)
                value = self.map_of(coefficient.map)
                as_map = emission.call(runtime.as_map, value, where, emission.flat_sizes(like))
                window = window_of_strips(lead.form.axes, emission.extent(lead.windows))
                return emission.call(runtime.values_per_window, as_map, window, where.channels)
            case Viewed():
                return self._viewed(coefficient, lead)
            case number:
                return number

    def _viewed(self, coefficient: Viewed, lead: WindowStatistic) -> Any:
        emission = self.emission
        pixel = replace(lead.windows, window=(1, 1))
        like = emission.call(runtime.stack_windows, lead.grid, lead.grid, lead.form.item_shape)
        made = self.value(coefficient.of, lead)
        made = emission.call(runtime.expanded, made, like, coefficient.item_shape)
        for step in coefficient.steps:

            def value_of(n: fx.Node, step: fx.Node = step, made: Any = made) -> Any:
                if n is step.args[0]:
                    return made
                return emission.number(n, pixel) if is_size(n) else emission.value(n)

            made = emission.run(step, value_of)
        return made
