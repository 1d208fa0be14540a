"""Emits reductions over the map as window statistics, also of deferred chains and softmaxes."""

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.deferred import DeferredChain, DeferredSoftmax
from glocal.conversion.rewrite.emission import Emission, Value, WindowStatistic
from glocal.conversion.rewrite.nodes import argument, is_square, operation, tensor_inputs
from glocal.conversion.rewrite.reductions import Reduction
from glocal.conversion.rewrite.roles import (
    ChainStep,
    MapReduction,
    Norm,
    PixelSoftmax,
    ScaledSoftmax,
    ViewedSoftmax,
    WeightedPool,
)
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.conversion.rewrite.strips import strip_shape, strips_from_grid, window_of_strips
from glocal.conversion.rewrite.window_statistics import (
    add_statistic,
    at_pixels,
    broadcastable,
    operand_on_windows,
    stacked,
)

__all__ = ["DeferredValues", "emit_norm"]


def emit_norm(emission: Emission, node: fx.Node, role: Norm) -> None:
    """Emit a normalisation by the statistics of each pixel's window."""
    source = tensor_inputs(node)[0]
    weight, bias = (argument(node, name) for name in ("weight", "bias"))
    normed = emission.call(
        runtime.group_norm,
        emission.value(source),
        emission.block.require_map_dims(source),
        emission.flat_sizes(source),
        role.groups,
        emission.windows_on(source).window,
        None if weight is None else emission.value(weight),
        None if bias is None else emission.value(bias),
        argument(node, "eps"),
        emission.precision,
    )
    emission.define(node, normed)


@dataclass(frozen=True)
class DeferredValues:
    """Emits deferred operations and the reductions that follow them.

    Attributes:
        emission: the emission.
        chains: by node that ends a chain, (value, shift): the map `chain.base` and None, or
            exp(map - shift) and the shift once the chain has an exponential.
        softmaxes: by node, (product, powers) as in `DeferredSoftmax`.
    """

    emission: Emission
    chains: dict[fx.Node, tuple[Value, Value | None]] = field(default_factory=dict)
    softmaxes: dict[fx.Node, tuple[Value, Value]] = field(default_factory=dict)

    # ---- what is deferred

    def emit_chain_step(self, node: fx.Node, role: ChainStep) -> None:
        """Defer a step of a chain; emit only an exponential, or a product with another map."""
        emission, source = self.emission, role.source
        value, shift = self.chains.get(source) or (emission.value(source), None)
        if node in role.chain.factors:
            (other,) = (n for n in tensor_inputs(node) if n is not source)
            value = emission.call(operator.mul, value, emission.value(other))
        elif operation(node) == "exp":
            pair = emission.call(runtime.exponentials, value)
            shift, value = (emission.call(operator.getitem, pair, i) for i in (0, 1))
        self.chains[node] = (value, shift)
        emission.defer(node, lambda: at_pixels(emission, node))

    def emit_pixel_softmax(self, node: fx.Node, role: PixelSoftmax) -> None:
        """Emit the exponentials of a softmax."""
        values = self.emission.value(tensor_inputs(node)[0])
        pair = self.emission.call(runtime.exponentials, values)
        powers = self.emission.call(operator.getitem, pair, 1)
        self._add_softmax(node, role.softmax, powers, powers)

    def emit_viewed_softmax(self, node: fx.Node, role: ViewedSoftmax) -> None:
        """Emit a view of the exponentials."""
        emission = self.emission
        _, powers = self.softmaxes[role.source]
        viewed = emission.run(node, lambda n: powers if n is role.source else emission.value(n))
        self._add_softmax(node, role.softmax, viewed, viewed)

    def emit_scaled_softmax(self, node: fx.Node, role: ScaledSoftmax) -> None:
        """Emit the product of the numerator with a map."""
        numerator, powers = self.softmaxes[role.source]
        product = self.emission.call(operator.mul, numerator, self.emission.value(role.factor))
        self._add_softmax(node, role.softmax, product, powers)

    def _add_softmax(
        self, node: fx.Node, softmax: DeferredSoftmax, product: Value, powers: Value
    ) -> None:
        emission = self.emission
        self.softmaxes[node] = (product, powers)

        def at_each_pixel() -> Value:
            where = emission.block.require_map_dims(softmax.powers)
            sums = self._reduce(powers, softmax.powers, Reduction.over_pixels("sum", where))
            below = broadcastable(emission, sums, softmax.powers)
            return self._as_result(emission.call(operator.truediv, product, below))

        emission.defer(node, at_each_pixel)

    # ---- reductions

    def emit_map_reduction(self, node: fx.Node, role: MapReduction) -> None:
        """Emit a reduction over the map as a statistic of windows."""
        match role.deferred:
            case DeferredChain():
                made = self._reduce_chain(node, role.deferred, role)
            case DeferredSoftmax():
                made = self._reduce_softmax(role.deferred, role)
            case None:
                made = self._reduce(self.emission.value(role.source), role.source, role.reduction)
        add_statistic(self.emission, node, made)

    def emit_weighted_pool(self, node: fx.Node, role: WeightedPool) -> None:
        """Emit a matrix product that sums over pixels as a window sum of products."""
        emission, matrix, vector = self.emission, role.matrix, role.vector
        powers = None if role.softmax is None else self.softmaxes[vector][1]
        row = emission.call(torch.ops.aten.transpose.int, powers or emission.value(vector), -1, -2)
        products = emission.call(operator.mul, emission.value(matrix), row)
        made = self._reduce(products, matrix, role.reduction)
        if powers is not None:
            where = emission.block.require_map_dims(vector)
            sums = self._reduce(powers, vector, Reduction.over_pixels("sum", where))
            made = self._ratio(made, sums, role.form)
        add_statistic(emission, node, made)

    def _reduce(self, value: Value, like: fx.Node, reduction: Reduction) -> WindowStatistic:
        """Return a statistic of a value with the shape of the node `like`."""
        emission, block = self.emission, self.emission.block
        where, rank = block.require_map_dims(like), block.rank(like)
        axes = reduction.axes(where)
        if (where.rows, where.columns) != (rank - 2, rank - 1):
            value = emission.call(runtime.as_map, value, where, emission.flat_sizes(like))
        windows = emission.windows_on(like, axes)
        grid = emission.call(
            runtime.window_statistic,
            value,
            reduction.kind,
            window_of_strips(axes, windows.window),
            reduction.reduced_channels(where, rank),
            precision=emission.precision,
            **reduction.options,
        )
        if axes != "HW":
            return strips_from_grid(emission, grid, like, reduction, windows)
        windows = replace(windows, count=emission.call(runtime.window_count, grid))
        item_shape = reduction.item_shape(block.shapes[like][0])
        is_map = len(item_shape) == 3 and item_shape[1:] == (1, 1)
        form = StatisticForm(reduction.kind, windows.map_size, item_shape, is_map)
        if is_map:
            return WindowStatistic(form, windows, grid, as_map=grid)
        windows_first = emission.call(runtime.stack_windows, grid, grid, item_shape)
        return WindowStatistic(form, windows, grid, stacked=windows_first)

    def _reduce_softmax(self, softmax: DeferredSoftmax, role: MapReduction) -> WindowStatistic:
        """Return a mean or a sum of values weighted by a softmax."""
        product, powers = self.softmaxes[role.source]
        above = self._reduce(product, softmax.product, role.reduction)
        below = self._reduce(powers, softmax.powers, replace(role.reduction, kind="sum"))
        return self._ratio(above, below, role.form)

    def _ratio(
        self, above: WindowStatistic, below: WindowStatistic, form: StatisticForm
    ) -> WindowStatistic:
        numerator, denominator = (stacked(self.emission, s) for s in (above, below))
        ratio = self._as_result(self.emission.call(operator.truediv, numerator, denominator))
        return WindowStatistic(form, above.windows, above.grid, stacked=ratio)

    def _as_result(self, value: Value) -> Value:
        return self.emission.call(runtime.as_type, value, self.emission.example())

    def _reduce_chain(
        self, node: fx.Node, chain: DeferredChain, role: MapReduction
    ) -> WindowStatistic:
        """Return a mean or a sum of a chain, from the mean and the variance of its map.

        The steps run on the mean of the map instead of the map. A square adds the variance, which
        earlier steps have scaled: mean(y²) = mean(y)² + var(y). An exponential has run on the map
        with a shift, and the steps before it run on the shift.
        """
        emission, block = self.emission, self.emission.block
        value, shift = self.chains[role.source]
        where = block.require_map_dims(chain.base)
        axes = role.form.axes
        mean = self._reduce(value, chain.base, Reduction.over_pixels("mean", where, axes))
        result, deviation = stacked(emission, mean), None
        if chain.has_square:
            std = self._reduce(value, chain.base, Reduction.over_pixels("std", where, axes))
            deviation = stacked(emission, std)
        previous = chain.root
        for step in chain.steps:
            if step in chain.factors:  # is in the value already
                pass
            elif is_square(step):
                result = emission.call(runtime.sum_of_squares, result, deviation)
                deviation = None
            elif operation(step) == "exp":
                result = emission.call(operator.mul, result, emission.call(torch.exp, shift))
                shift = None
            elif shift is not None:
                shift = self._step(step, previous, shift, mean)
            else:
                result = self._step(step, previous, result, mean)
                if deviation is not None and operation(step) in ("mul", "div"):
                    deviation = self._step(step, previous, deviation, mean)
            previous = step
        if role.reduction.kind == "sum":
            like = emission.call(runtime.as_map, value, where, emission.flat_sizes(chain.base))
            window, channels = window_of_strips(axes, mean.windows.window), where.channels
            number = emission.call(runtime.values_per_window, like, window, channels)
            result = emission.call(operator.mul, result, number)
        others = [d for d in role.reduction.dims if d not in (where.rows, where.columns)]
        if others:
            reduce = torch.mean if role.reduction.kind == "mean" else torch.sum
            result = emission.call(reduce, result, dim=others, keepdim=True)
        result = self._as_result(result)
        item_shape = strip_shape(emission.block, node, role.form)
        result = emission.call(runtime.with_item_shape, result, item_shape)
        return WindowStatistic(role.form, mean.windows, mean.grid, stacked=result)

    def _step(self, step: fx.Node, previous: fx.Node, value: Value, mean: WindowStatistic) -> Value:
        """Emit a step of a chain on a statistic of the map instead of the map."""
        on_windows = operand_on_windows(self.emission, mean)

        def value_of(node: fx.Node) -> Any:
            return value if node is previous else on_windows(node)

        return self.emission.run(step, value_of)
