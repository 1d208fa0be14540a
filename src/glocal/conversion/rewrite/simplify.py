"""Replaces nodes of a captured graph by simpler ones of the same value.

`x.flatten(2) @ torch.full((b, h * w, 1), 1 / (h * w))` is a mean: once the product is written as a
sum (`contractions`), its weights are a number that depends on the size of the map. A write in
place to a view of a whole tensor (`s[:, :, None, None].sigmoid_()`) is captured as a scatter of all
of it.
"""

from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite.nodes import argument, is_view, operation

__all__ = ["simplify"]

_JOINS = frozenset(["cat", "stack"])  # views of several tensors


def simplify(graph: fx.Graph) -> None:
    """Simplify a graph of aten operations in place."""
    for node in list(graph.nodes):
        match operation(node):
            case "mul" if len(node.args) == 2:
                _multiply_by_number(node)
            case "slice_scatter" if argument(node, "step") == 1:
                written = argument(node, "src")
                if _is_like(node, written):  # all of it
                    node.replace_all_uses_with(written)
                    _erase_unused(node)


def _multiply_by_number(node: fx.Node) -> None:
    """Multiply by a number instead of a tensor that is full of it."""
    for value, other in (node.args, node.args[::-1]):
        number = _number(other)
        if number is not None and _is_like(node, value):
            node.args = (value, number)
            _erase_unused(other)
            return


def _erase_unused(node: Any) -> None:
    """Erase a node, and what only it used."""
    if node.op == "call_function" and not node.users:
        inputs = node.all_input_nodes
        node.graph.erase_node(node)
        for each in inputs:
            _erase_unused(each)


def _number(node: Any) -> Any:
    """Return the number, or its node, that fills a tensor, or None."""
    while isinstance(node, fx.Node) and is_view(node) and operation(node) not in _JOINS:
        node = node.args[0]
    if not isinstance(node, fx.Node) or operation(node) != "full":
        return None
    return argument(node, "fill_value") if node.meta["val"].dtype.is_floating_point else None


def _is_like(node: fx.Node, value: Any) -> bool:
    """True if a value is a tensor of the shape and dtype of the result."""
    given = value.meta.get("val") if isinstance(value, fx.Node) else None
    result = node.meta["val"]
    return (
        isinstance(given, torch.Tensor)
        and given.dtype == result.dtype
        and result.dtype.is_floating_point
        and list(map(str, given.shape)) == list(map(str, result.shape))
    )
