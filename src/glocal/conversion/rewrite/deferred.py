"""Arithmetic of a map with statistics that is deferred, because a reduction may follow.

At a pixel, x - mean is that pixel minus the mean of its own window. The variance of a window
needs every pixel of the window minus the mean of that one window; no map holds these numbers.
But the mean of (x - m)² is var(x) + (mean(x) - m)², which needs window statistics of x only. So
a pointwise operation on a map and statistics is not emitted at once: if a reduction follows, it
is computed from window statistics of the map; if the map itself is needed, the operations are
emitted for each pixel with the statistics of its window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.nodes import is_square, operation, tensor_inputs
from glocal.conversion.rewrite.statistic_forms import StatisticForm

__all__ = ["DeferredChain", "DeferredSoftmax", "extend_chain"]

_ADDITIONS = ("add", "sub", "rsub")
_SCALINGS = ("mul", "div")
_LINEAR = frozenset((*_ADDITIONS, *_SCALINGS, "neg"))
"""Operations whose result has a mean that follows from the mean of the operand."""


@dataclass(frozen=True)
class DeferredChain:
    """Pointwise operations on a map, each of which reads the result of the one before.

    Attributes:
        root: the map that the first step reads.
        steps: the nodes in order: arithmetic with statistics and sizes, squares, `exp`, and
            products with other maps.
        factors: those steps that multiply by another map. Such a product is computed per pixel
            before the reduction, and so is `exp`.
    """

    root: fx.Node
    steps: tuple[fx.Node, ...] = ()
    factors: tuple[fx.Node, ...] = ()

    def then(self, step: fx.Node) -> Self:
        """Return the chain with one more step."""
        return replace(self, steps=(*self.steps, step))

    def times(self, step: fx.Node) -> Self:
        """Return the chain with a product with another map as one more step."""
        return replace(self, steps=(*self.steps, step), factors=(*self.factors, step))

    @property
    def base(self) -> fx.Node:
        """The last of `root` and `factors`: the node with the shape of the map to reduce."""
        return self.factors[-1] if self.factors else self.root

    @property
    def has_square(self) -> bool:
        """True if a step is a square."""
        return any(is_square(step) for step in self.steps)

    @property
    def has_exp(self) -> bool:
        """True if a step is an exponential."""
        return any(operation(step) == "exp" for step in self.steps)

    @property
    def is_centred(self) -> bool:
        """True if a step adds or subtracts something."""
        return any(operation(step) in _ADDITIONS for step in self.steps)

    @property
    def takes_factor(self) -> bool:
        """True if another map may multiply the root instead of the result of the steps."""
        scales = all(operation(step) in _SCALINGS for step in self.steps)
        return not self.has_square and (scales or self.has_exp)

    @property
    def takes_exp(self) -> bool:
        """True if exp(steps(x)) equals exp(x) times a number per window: the steps only add."""
        if self.has_exp or self.has_square:
            return False
        before = (self.root, *self.steps)
        return all(
            operation(step) in ("add", "sub") and step.args[0] is previous
            for step, previous in zip(self.steps, before, strict=False)
        )


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


def extend_chain(
    block: Block,
    node: fx.Node,
    maps: Sequence[fx.Node],
    chains: Mapping[fx.Node, DeferredChain],
    statistics: Mapping[fx.Node, StatisticForm],
) -> tuple[DeferredChain, fx.Node] | None:
    """Return the chain that ends with a pointwise node, and the map operand that it extends.

    Args:
        block: the block of the node.
        node: a pointwise operation on maps, statistics and sizes.
        maps: its operands that are maps.
        chains: of the maps by node.
        statistics: forms of the statistics by node.

    Returns:
        None if a reduction of the result does not follow from statistics of the map.
    """
    name, maps = operation(node), list(dict.fromkeys(maps))
    if not all(block.is_map(n) for n in (node, *maps)):
        return None
    if len(maps) == 2:
        chained = [n for n in maps if n in chains]
        if name != "mul" or len(chained) != 1:
            return None
        chain = chains[chained[0]]
        if not chain.takes_factor or block.map_dims(node) != block.map_dims(chain.base):
            return None
        return chain.times(node), chained[0]
    if len(maps) != 1 or block.map_size(node) != block.map_size(maps[0]):
        return None
    source = maps[0]
    chain = chains.get(source) or DeferredChain(source)
    if is_square(node):
        allowed = not (chain.has_square or chain.has_exp)
    elif name == "exp":
        allowed = chain.takes_exp
    else:
        allowed = _is_linear(block, node, source, statistics) and (
            not chain.has_exp or name in _SCALINGS
        )
    return (chain.then(node), source) if allowed else None


def _is_linear(
    block: Block, node: fx.Node, source: fx.Node, statistics: Mapping[fx.Node, StatisticForm]
) -> bool:
    """True if the mean of the result over a window is the same operation on the mean of `source`.

    That holds if the other operand is a number, or a statistic with the dims of the map.
    """
    name = operation(node)
    if name not in _LINEAR or len(node.args) > 2 or node.kwargs.get("alpha", 1) != 1:
        return False
    if name == "div" and node.args[0] is not source:
        return False
    forms = [statistics[n] for n in tensor_inputs(node) if n in statistics]
    return all(len(form.item_shape) == block.rank(node) - 1 for form in forms)
