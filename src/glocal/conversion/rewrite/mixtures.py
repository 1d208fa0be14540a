"""Sums of learned tensors, weighted by statistics, that act linearly on the map.

A prompt is such a sum, sum over l of w[l] · prompt[l], which is resized to the map; so are a
convolution's weights that are mixed from several kernels, and a colour table that is mixed from
several and looked up for each pixel. What follows is linear in the sum, so that it may be exchanged
with it: each learned tensor is resized, convolved or looked up as in the original, and each pixel
takes the sum of the results with the weights of its own window.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.meeting import holds_images
from glocal.conversion.rewrite.nodes import (
    RESIZES,
    argument,
    is_view,
    operation,
    tensor_inputs,
)
from glocal.conversion.rewrite.statistic_forms import StatisticForm

__all__ = ["Mixture", "mixture_of"]

_MOST_WEIGHTS = 64
_MAY_MEET = frozenset((*RESIZES, "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"))


@dataclass(frozen=True)
class Mixture:
    """A weighted sum of tensors that a node reads.

    Attributes:
        weights: a statistic with one number for each tensor of the sum.
        steps: the nodes from there to the sum in order, each linear in the one before; the last
            is the sum.
        in_channels: True if the node returns (1, images · channels, h, w).
    """

    weights: fx.Node
    steps: tuple[fx.Node, ...]
    in_channels: bool


def mixture_of(
    block: Block, node: fx.Node, forms: Mapping[fx.Node, StatisticForm]
) -> Mixture | None:
    """Return the weighted sum that a node reads and is linear in, or None.

    Args:
        block: the block of the node.
        node: reads a statistic and makes a map.
        forms: of the statistics by node.
    """
    name = operation(node)
    statistics = [n for n in tensor_inputs(node) if n in forms]
    if name in _MAY_MEET:
        last = node.args[0]
    elif name in ("matmul", "bmm", "einsum"):
        last = statistics[0]
    elif name == "conv2d" and holds_images(block, node.args[0]):
        last = node.args[1]
        if argument(node, "bias") is not None:
            return None
    else:
        return None
    if not isinstance(last, fx.Node) or statistics != [last]:
        return None
    in_channels = name == "conv2d"
    if not in_channels and not block.is_map(node):
        return None
    best: tuple[int, fx.Node, tuple[fx.Node, ...]] | None = None
    for weights in _above(block, last, forms):
        steps = _steps(block, weights, last, forms)
        number = math.prod(forms[weights].item_shape)
        if steps is not None and number <= _MOST_WEIGHTS and (not best or number <= best[0]):
            best = (number, weights, steps)
    return Mixture(best[1], best[2], in_channels) if best else None


def _above(block: Block, last: fx.Node, forms: Mapping[fx.Node, StatisticForm]) -> list[fx.Node]:
    """Return a node and the nodes per image before it in which it may be linear."""
    found = [last]
    for node in found:
        found += [n for n in _linear_in(block, node, forms) or () if n not in found]
    return [n for n in found if _is_per_image(block, n)]


def _is_per_image(block: Block, node: fx.Node) -> bool:
    """True for (images, ...), in contrast to (images · channels, ...)."""
    if node not in block.shapes or not block.is_batched(node):
        return False
    return block.shapes[node][3][0] == block.shapes[node][0][0] + 1


def _steps(
    block: Block, weights: fx.Node, last: fx.Node, forms: Mapping[fx.Node, StatisticForm]
) -> tuple[fx.Node, ...] | None:
    """Return the nodes from the weights to the sum, or None if it is not linear."""
    steps, queue = set[fx.Node](), [last]
    while queue:
        node = queue.pop()
        if node is weights or node in steps:
            continue
        sources = _linear_in(block, node, forms)
        if sources is None:
            return None
        steps.add(node)
        queue += sources
    return tuple(n for n in block.graph.nodes if n in steps)


def _linear_in(
    block: Block, node: fx.Node, forms: Mapping[fx.Node, StatisticForm]
) -> list[fx.Node] | None:
    """Return the statistics in which a node is jointly linear, or None."""
    operands, name = tensor_inputs(node), operation(node)
    sources = [n for n in operands if n in forms]
    if node not in block.shapes or any(block.is_spatial(n) for n in (node, *operands)):
        return None
    if not sources or any(n not in block.shapes for n in sources):
        return None
    alone = len(sources) == len(operands)
    if name in ("add", "sub", "cat", "stack"):
        joins = name in ("cat", "stack")
        if joins and argument(node, "dim") % block.rank(node) == 0:
            return None
        adds_zero = name == "add" and any(isinstance(n, int) and n == 0 for n in node.args)
        return sources if alone and (joins or len(operands) == 2 or adds_zero) else None
    if len(sources) != 1 or list(node.args).count(sources[0]) > 1:  # as in w * w
        return None
    (source,) = sources
    match name:
        case "mul" | "neg":
            linear = True
        case "div":
            linear = node.args[0] is source and len(node.args) == 2 and not node.kwargs
        case "sum" | "mean":
            dims = argument(node, "dim")
            dims = [dims] if isinstance(dims, int) else list(dims or [0])
            linear = all(d % block.rank(source) for d in dims)
        case "linear" | "conv2d":
            linear = node.args[0] is source and argument(node, "bias") is None
        case "matmul" | "bmm" | "mm" | "einsum":
            linear = len(operands) == 2
        case _:
            linear = is_view(node) and len(operands) == 1
            linear &= node.meta["val"].is_floating_point()
    return sources if linear else None
