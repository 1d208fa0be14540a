"""Predicates on single nodes of a captured graph."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

from glocal.ops.aten import is_elementwise

__all__ = [
    "ATTENTION",
    "NORMS",
    "PRODUCTS",
    "REDUCTIONS",
    "RESIZES",
    "SOFTMAX",
    "argument",
    "caller_of",
    "cuts",
    "ignores_neighbours",
    "is_padding",
    "is_pointwise",
    "is_size",
    "is_square",
    "is_view",
    "line_of",
    "module_of",
    "operation",
    "tensor_inputs",
]

REDUCTIONS = frozenset(
    "mean sum amax amin max min std var std_mean var_mean linalg_vector_norm norm logsumexp "
    "any all count_nonzero adaptive_avg_pool2d adaptive_max_pool2d".split()
)
"""Operations that reduce dims to a statistic."""
NORMS = frozenset("instance_norm group_norm layer_norm".split())
SOFTMAX = frozenset("softmax _softmax log_softmax".split())
PRODUCTS = frozenset("matmul bmm mm baddbmm einsum linear addmm".split())
"""Products that sum over a dim."""
ATTENTION = frozenset(["scaled_dot_product_attention"])
RESIZES = frozenset(
    "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d".split()
)
_VIEWS = frozenset(
    "view reshape _unsafe_view permute transpose t squeeze unsqueeze expand clone contiguous "
    "flatten unflatten cat split split_with_sizes chunk getitem slice select stack _to_copy alias "
    "detach repeat unbind movedim".split()
)


def operation(node: fx.Node) -> str:
    """Return the name of the operation without namespace and overload: "mean"."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name.split("::")[-1])
    return str(getattr(node.target, "__name__", node.target))


def module_of(node: fx.Node) -> str:
    """Return the path, in the block, of the innermost module that runs the operation."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()), ("",))[0]
    return str(path).removeprefix("block").removeprefix(".")


def caller_of(node: fx.Node) -> str:
    """Return the path, in the block, of the innermost module whose own code calls the operation.

    The modules of torch, such as pools, are operations themselves.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    while stack and "torch.nn.modules" in str(stack[-1][1]):
        stack.pop()
    return str(stack[-1][0] if stack else "").removeprefix("block").removeprefix(".")


def is_size(node: fx.Node) -> bool:
    """True if the value is a number computed from sizes, not a tensor."""
    return not isinstance(node.meta.get("val"), torch.Tensor | list | tuple)


def is_pointwise(node: fx.Node) -> bool:
    """True if the operation works element by element."""
    # torch tags where(condition, x, y) of tensors only.
    return is_elementwise(node.target) or (operation(node) == "where" and len(node.args) == 3)


def is_view(node: fx.Node) -> bool:
    """True if the operation moves or copies values without changing them."""
    return operation(node) in _VIEWS


def ignores_neighbours(node: fx.Node) -> bool:
    """True if a pixel of the result depends on its own pixel, or the whole map, only.

    Convolutions with a kernel above 1x1, shifts and slices of the map depend on neighbours.
    """
    name = operation(node)
    if name == "conv2d":
        weight = node.args[1]
        return isinstance(weight, fx.Node) and weight.meta["val"].shape[2:] == (1, 1)
    if name in ("slice", "select", "cat"):
        return argument(node, "dim") in (1, -3)
    known = REDUCTIONS | NORMS | SOFTMAX | PRODUCTS
    return is_pointwise(node) or is_view(node) or name in known


def is_padding(node: fx.Node) -> bool:
    """True if a node pads a tensor by an amount that depends on a size."""
    amounts = node.args[1] if "pad" in operation(node) and len(node.args) > 1 else ()
    return isinstance(amounts, Sequence) and any(isinstance(n, fx.Node) for n in amounts)


def line_of(node: fx.Node) -> str:
    """Return where the user's code calls an operation, " (net.py:12)", or ""."""
    places = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [(f, n) for f, n in places if "/torch/" not in f]
    return f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""


def cuts(node: fx.Node) -> str | None:
    """Return what a node does to the border of a map: "padded", "cut" or "joined".

    Parts of a map at regular steps are not cut: they are a smaller map of the whole. Padding that
    depends on the image has its own windows, see `padding`.
    """
    name = operation(node)
    if "pad" in name:
        return None if is_padding(node) else "padded"
    if name in ("slice", "select", "narrow", "index", "index_select"):
        step = argument(node, "step") if name == "slice" else 1
        return "cut" if step == 1 else None
    return "joined" if name in ("cat", "stack") else None


def is_square(node: fx.Node) -> bool:
    """True if the node squares its operand."""
    name = operation(node)
    if name == "mul":
        return node.args[0] is node.args[1]
    return name == "square" or (name == "pow" and node.args[1] in (2, 2.0))


def tensor_inputs(node: fx.Node) -> Sequence[fx.Node]:
    """Returns the operands that are tensors or tuples of tensors."""
    return [n for n in node.all_input_nodes if not is_size(n)]


def argument(node: fx.Node, name: str) -> Any:
    """Return an argument of an aten operation by its schema name, or None."""
    schema = getattr(node.target, "_schema", None)
    for place, known in enumerate(schema.arguments if schema else ()):
        if known.name == name:
            if name in node.kwargs:
                return node.kwargs[name]
            return node.args[place] if place < len(node.args) else known.default_value
    return None
