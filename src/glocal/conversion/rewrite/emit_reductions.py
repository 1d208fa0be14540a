"""Emits reductions over the map as window statistics, also of what was deferred."""

import operator
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.deferred import DeferredSoftmax
from glocal.conversion.rewrite.emission import Emission, Value, WindowStatistic
from glocal.conversion.rewrite.emit_polynomials import Combinations, reduce_map
from glocal.conversion.rewrite.nodes import argument, tensor_inputs
from glocal.conversion.rewrite.reductions import Reduction
from glocal.conversion.rewrite.roles import (
    MapReduction,
    Norm,
    NormOfCombined,
    PixelSoftmax,
    ScaledSoftmax,
    ViewedSoftmax,
)
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.conversion.rewrite.strips import strip_shape
from glocal.conversion.rewrite.window_statistics import (
    add_statistic,
    broadcastable,
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
        emission.extent(emission.windows_on(source)),
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
        softmaxes: by node, (product, powers) as in `DeferredSoftmax`.
    """

    emission: Emission
    softmaxes: dict[fx.Node, tuple[Value, Value]] = field(default_factory=dict)

    @cached_property
    def combinations(self) -> Combinations:
        """Emits statistics of maps that combine pixels and statistics."""
        return Combinations(self.emission)

    # ---- what is deferred

    def emit_pixel_softmax(self, node: fx.Node, role: PixelSoftmax) -> None:
        """Emit the exponentials of a softmax."""
        values = self.combinations.map_of(role.of)
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
            case None:
                made = self._reduce(self.emission.value(role.source), role.source, role.reduction)
            case DeferredSoftmax():
                made = self._reduce_softmax(role.deferred, role)
            case statistic:
                where = self.emission.block.require_map_dims(role.source)
                item_shape = strip_shape(role.form, role.reduction, where)
                made = self.combinations.statistic(
                    statistic, role.form, item_shape, role.reduction.dtype
                )
        add_statistic(self.emission, node, made)

    def emit_norm_of_combined(self, node: fx.Node, role: NormOfCombined) -> None:
        """Emit a normalisation of a map that combines pixels and statistics."""
        emission = self.emission
        source = tensor_inputs(node)[0]
        weight, bias = (argument(node, name) for name in ("weight", "bias"))
        mean, variance = self.combinations.moments(role, source)
        normed = emission.call(
            runtime.normalise,
            emission.value(source),
            mean,
            variance,
            None if weight is None else emission.value(weight),
            None if bias is None else emission.value(bias),
            argument(node, "eps"),
        )
        emission.define(node, normed)

    def _reduce(self, value: Value, like: fx.Node, reduction: Reduction) -> WindowStatistic:
        """Return a statistic of a value with the shape of the node `like`."""
        shape = self.emission.block.shapes[like][0]
        return reduce_map(self.emission, value, like, shape, reduction)

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
