"""Split convolutions instead of their results.

`chunk` of a convolution's channels copies all of them. Two convolutions with the halves of its
weights compute the same without a copy, and engines fuse what follows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnxscript import ir

__all__ = ["split_convolutions"]


def split_convolutions(model: ir.Model) -> None:
    """Replace each split of channels that follows convolutions, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Split" or node.attributes.get_int("axis", 0) != 1:
            continue
        chain = _chain(graph, node.inputs[0])
        parts = [size for output in node.outputs if (size := _channels(output)) is not None]
        if not chain or len(parts) < len(node.outputs):
            continue
        start = 0
        for output, length in zip(node.outputs, parts, strict=True):
            _one_part(graph, node, chain, output, slice(start, start + length))
            start += length
        graph.remove([node, *(each for each, _ in chain)], safe=True)


def _chain(graph: ir.Graph, x: ir.Value | None) -> list[tuple[ir.Node, list[Any]]]:
    """The convolutions before a split and their weights, the last one first; empty if unfit."""
    chain: list[tuple[ir.Node, list[Any]]] = []
    while x is not None and (node := x.producer()) is not None:
        if node.op_type != "Conv" or len(x.uses()) != 1 or x in graph.outputs:
            return []
        weights: list[Any] = [value for value in node.inputs[1:] if value is not None]
        if any(weight.const_value is None for weight in weights):
            return []
        chain.append((node, weights))
        groups = node.attributes.get_int("group", 1)
        if groups == 1:
            return chain
        if tuple(weights[0].const_value.shape)[:2] != (groups, 1):
            return []  # not depthwise: its channels depend on others
        x = node.inputs[0]
    return []


def _channels(x: ir.Value) -> int | None:
    size = None if x.shape is None else x.shape[1]
    return size if isinstance(size, int) else None


def _one_part(
    graph: ir.Graph,
    split: ir.Node,
    chain: Sequence[tuple[ir.Node, list[Any]]],
    output: ir.Value,
    part: slice,
) -> None:
    """Compute one result of a split by convolutions with a part of the weights."""
    x: Any = chain[-1][0].inputs[0]
    for node, weights in reversed(chain):
        inputs = [x]
        for weight in weights:
            name = f"{weight.name}.part{part.start}"
            if name not in graph.initializers:
                array = np.ascontiguousarray(weight.const_value.numpy()[part])
                graph.register_initializer(ir.val(name, const_value=ir.tensor(array, name=name)))
            inputs.append(graph.initializers[name])
        attributes = dict(node.attributes)
        if node.attributes.get_int("group", 1) > 1:
            attributes["group"] = ir.AttrInt64("group", part.stop - part.start)
        name = f"{node.name}.part{part.start}"
        made = ir.Node("", "Conv", inputs, list(attributes.values()), name=name)
        graph.insert_before(split, made)
        x = made.outputs[0]
        x.dtype, x.name = output.dtype, f"{node.outputs[0].name}.part{part.start}"
    x.shape = output.shape
    ir.convenience.replace_all_uses_with(output, x)
