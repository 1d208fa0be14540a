"""Deferred arithmetic of a map with statistics: a reduction may follow.

At a pixel, x - mean is that pixel minus the mean of its own window. The variance of a window
needs every pixel of the window minus the mean of that one window; no map holds these numbers.
But the mean of (x - m)² is var(x) + (mean(x) - m)², which needs window statistics of x only. So
a pointwise operation on a map and statistics is not emitted at once: if a reduction follows, it
is computed from window statistics of the map; if the map itself is needed, the operations are
emitted for each pixel with the statistics of its window.

Which law holds. Within one block a statistic is that of the block on the window of the pixel:
every reduction of a map that was made of pixels and statistics follows from window statistics of
the maps below it (`polynomials`). That is possible for sums, products, powers, quotients by a
statistic, views, exp of a sum, and relu and its kind of a product. A reduction of another function
of both (relu(x - mean), sigmoid(x * gate)) has no such form: each window would need its own map,
so the block is refused. A layer with weights that mixes channels or neighbours (convolution,
linear, layer norm) starts anew: what follows it is local on the map that it returns. So do
normalisation layers and attention, which are complete operations with a local form of their own.

A few lines above 300: what can be deferred is one decision.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from glocal.conversion.rewrite import polynomials
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.nodes import argument, is_size, is_square, is_view, operation
from glocal.conversion.rewrite.polynomials import Affine, Centred, Polynomial
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.conversion.rewrite.terms import (
    Applied,
    Coefficient,
    Exponential,
    Given,
    Plain,
    Product,
    Rearranged,
    Source,
    Total,
    compute,
)
from glocal.scanning.dims import product, role

__all__ = [
    "SHAPED",
    "DeferredSoftmax",
    "anchor",
    "axes_of",
    "combine",
    "has_weights",
    "rearrange",
    "shape_of",
]

_STRETCHED = frozenset("relu abs leaky_relu".split())
"""Functions with f(a·x) = a·f(x) for all a ≥ 0."""
_WITH_WEIGHTS = frozenset("linear addmm mm matmul bmm baddbmm einsum layer_norm".split())
_FILLS = {
    f"{name}{ending}": fill
    for name, fill in (("ones", 1.0), ("zeros", 0.0))
    for ending in ("", "_like")
} | {"new_ones": 1.0, "new_zeros": 0.0}
"""Operations that return a tensor full of one number, whatever they read."""
SHAPED = frozenset((*_FILLS, "full", "new_full", "full_like", "new_empty", "empty_like"))
"""Operations that read the shape and the dtype of a tensor, but not its values."""


@dataclass(frozen=True)
class DeferredSoftmax:
    """A softmax over the pixels of a map, possibly times another map.

    A window's softmax is exp(x) ÷ the sum of exp(x) over the window. A sum of it over the window
    is a ratio of two sums; that of a single pixel depends on the window.

    Attributes:
        powers: node with the shape of the exponentials.
        product: node with the shape of the numerator: `powers`, or a product with another map.
    """

    powers: fx.Node
    product: fx.Node

    @property
    def is_scaled(self) -> bool:
        """True if the softmax was multiplied by another map."""
        return self.product is not self.powers


def has_weights(block: Block, node: fx.Node) -> bool:
    """True if a node mixes channels or neighbours by weights, as a layer does."""
    name = operation(node)
    if name.startswith(("conv", "_conv")):
        return True
    operands = [n for n in node.all_input_nodes if not is_size(n)]
    return name in _WITH_WEIGHTS and any(
        n in block.shapes and not block.is_spatial(n) and not block.depends_on_batch(n)
        for n in operands
    )


def combine(
    block: Block,
    node: fx.Node,
    known: Mapping[fx.Node, Polynomial],
    statistics: Mapping[fx.Node, StatisticForm],
) -> Polynomial | None:
    """Return a pointwise operation on maps, statistics and sizes as a polynomial.

    Args:
        block: the block of the node.
        node: a pointwise operation with a map among its operands.
        known: the polynomials by node; other maps contain no statistics.
        statistics: forms of the statistics by node.

    Returns:
        None if statistics of the result do not follow from statistics of the maps.
    """
    if not block.is_map(node):
        return None
    operands: list[Polynomial | Given | None] = []
    for given in node.args:
        if isinstance(given, fx.Node) and _is_map_operand(block, given, statistics):
            if (fill := _filled(block, given)) is not None:
                operands.append(Given(fill))
                continue
            if not _alike(block, given, node):
                return None
            operands.append(known.get(given) or Affine({Plain(given): None}))
        elif isinstance(given, fx.Node):
            if not _broadcasts(block, given, node, statistics):
                return None
            operands.append(Given(given))
        else:
            operands.append(Given(given) if isinstance(given, int | float) else None)
    made = _combined(block, node, operands)
    if made is None or not polynomials.maps_of(made) or len(axes_of(made, statistics)) > 1:
        return None
    return made


def axes_of(p: Polynomial, statistics: Mapping[fx.Node, StatisticForm]) -> set[str]:
    """Return the axes that the statistics in a polynomial reduce."""
    return {statistics[n].axes for n in polynomials.operands_in(p) if n in statistics}


def _combined(
    block: Block, node: fx.Node, operands: list[Polynomial | Given | None]
) -> Polynomial | None:
    """Return the polynomial of an operation from those of its operands."""
    name, first = operation(node), operands[0]
    second = operands[1] if len(operands) > 1 else None
    if name in ("add", "sub", "rsub") and first is not None and second is not None:
        return _sum(name, first, second, argument(node, "alpha"))
    if name == "mul" and isinstance(second, Affine | Centred):
        first, second = second, first
    if not isinstance(first, Affine | Centred):
        return None
    if name == "mul" and isinstance(second, Affine | Centred):
        return polynomials.times(first, second)
    if name == "mul" and isinstance(second, Given):
        return polynomials.scaled(first, second)
    if name == "div" and isinstance(second, Given) and not node.kwargs:
        return polynomials.scaled(first, second, operator.truediv)
    if is_square(node):
        return polynomials.power(first, 2)
    if name == "pow" and node.args[1] in (1, 2, 3, 4):
        return polynomials.power(first, int(node.args[1]))  # type: ignore[arg-type]
    if name == "neg":
        return polynomials.minus(first)
    if name == "exp":
        return polynomials.exponential(first)
    if name in _STRETCHED:
        return polynomials.stretched(first, node)
    return None


def _sum(
    name: str, first: Polynomial | Coefficient, second: Polynomial | Coefficient, alpha: Any
) -> Polynomial:
    """Return first + alpha · second, or with the sign or order of another name."""
    if name == "rsub":
        first, second = second, first
    if alpha != 1:  # times the operand that is subtracted, whichever comes first
        by = Given(alpha)
        if isinstance(second, Affine | Centred):
            second = polynomials.scaled(second, by)
        else:
            second = compute(operator.mul, second, by)
    if name != "add" and isinstance(second, Affine | Centred):
        second = polynomials.minus(second)
    elif name != "add":
        second = compute(operator.neg, second)
    if isinstance(first, Affine | Centred):
        if isinstance(second, Affine | Centred):
            return polynomials.plus(first, second)
        return polynomials.raised(first, second)
    assert isinstance(second, Affine | Centred)
    return polynomials.raised(second, first)


def _is_map_operand(
    block: Block, node: fx.Node, statistics: Mapping[fx.Node, StatisticForm]
) -> bool:
    return node not in statistics and not is_size(node) and block.is_spatial(node)


def _filled(block: Block, node: fx.Node) -> float | None:
    """Return the number that fills a map of at most one channel, or None."""
    where = block.map_dims(node)
    spatial = (
        where[:2] if where else [d for d in range(block.rank(node)) if _follows(block, node, d)]
    )
    if any(n != 1 for d, n in enumerate(block.shapes[node][0]) if d not in spatial and d):
        return None
    while is_view(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    fill: Any = _FILLS.get(operation(node))
    if operation(node) in ("full", "new_full", "full_like"):
        fill = argument(node, "fill_value")
    return fill if isinstance(fill, int | float) else None


def _follows(block: Block, node: fx.Node, dim: int) -> bool:
    return bool(role(product(block.dims[node][dim])))


def _alike(block: Block, operand: fx.Node, node: fx.Node) -> bool:
    """True if a map has the same rows, columns and size as the result."""
    return (
        block.is_map(operand)
        and block.rank(operand) == block.rank(node)
        and block.map_dims(operand) == block.map_dims(node)
        and block.map_size(operand) == block.map_size(node)
    )


def _broadcasts(
    block: Block, operand: fx.Node, node: fx.Node, statistics: Mapping[fx.Node, StatisticForm]
) -> bool:
    """True if an operand that is not a map has one value for all pixels of a window."""
    if block.is_number(operand):
        return True
    form = statistics.get(operand)
    if form is None:
        if operand not in block.shapes:
            return False
        batched = block.depends_on_batch(operand)
        return not batched or (
            block.is_batched(operand) and block.rank(operand) == block.rank(node)
        )
    return len(form.item_shape) == block.rank(node) - 1 and form.map_size == block.map_size(node)


def rearrange(
    block: Block,
    node: fx.Node,
    known: Mapping[fx.Node, Polynomial],
    statistics: Mapping[fx.Node, StatisticForm],
) -> Polynomial | None:
    """Return the result of a view of a polynomial as a polynomial.

    Args:
        block: the block of the node.
        node: a view, or `getitem` of the parts into which one was split.
        known: the polynomials by node.
        statistics: forms of the statistics by node.

    Returns:
        None if the view is not one of the same map.
    """
    steps, source = [node], node.args[0]
    if operation(node) == "getitem" and isinstance(source, fx.Node):
        steps, source = [source, node], source.args[0]
    if not isinstance(source, fx.Node) or source not in known:
        return None
    if not is_view(steps[0]) and not _is_sum_of_channels(node, known[source]):
        return None
    if operation(steps[0]) == "cat" or not (block.is_map(node) and block.is_map(source)):
        return None
    if block.map_size(node) != block.map_size(source):
        return None
    polynomial, shape = known[source], block.shapes[source][0]
    if not axes_of(polynomial, statistics) <= {"HW"}:
        return None
    if any(shape_of(block, m) != shape for m in polynomials.maps_of(polynomial)):
        return None
    where = block.require_map_dims(source)
    item_shape = tuple(
        (where.channels if d == where.rows == where.columns else 1)
        if d in (where.rows, where.columns)
        else n
        for d, n in enumerate(shape)
    )[1:]
    return polynomials.viewed(polynomial, steps, item_shape)


def _is_sum_of_channels(node: fx.Node, p: Polynomial) -> bool:
    """True if a node sums channels only, in the map as in the constant."""
    return operation(node) in ("mean", "sum") and isinstance(p, Affine) and p.is_unscaled


def anchor(source: Source) -> fx.Node:
    """Return a node whose dims a map has."""
    match source:
        case Plain():
            return source.node
        case Product():
            return anchor(source.first)
        case Rearranged():
            return source.steps[-1]
        case Total():
            return anchor(source.parts[0])
        case _:
            return anchor(source.of)


def shape_of(block: Block, source: Source) -> tuple[int, ...]:
    """Return the shape of a map in the first run of the scan."""
    match source:
        case Product():
            parts: tuple[Source, ...] = (source.first, source.second)
        case Total():
            parts = source.parts
        case Exponential() | Applied():
            parts = (source.of,)
        case _:
            return block.shapes[anchor(source)][0]
    shapes = [shape_of(block, part) for part in parts]
    return tuple(max(lengths) for lengths in zip(*shapes, strict=True))
