"""Rows and columns joined to one strip: coordinate attention.

`torch.cat([x.mean(3, True), x.mean(2, True).transpose(2, 3)], 2)` has h + w values per channel.
The windows of its two parts differ, so each part runs alone, until the strip is split again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.emission import Emission, WindowStatistic
from glocal.conversion.rewrite.nodes import (
    argument,
    is_pointwise,
    is_size,
    operation,
    tensor_inputs,
)
from glocal.conversion.rewrite.roles import Joined, OnJoined, StripPart
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.conversion.rewrite.strip_reductions import StripMixingError
from glocal.conversion.rewrite.window_statistics import add_statistic, operand_on_windows
from glocal.errors import ConversionError
from glocal.scanning.dims import product

__all__ = [
    "emit_on_joined",
    "emit_part",
    "join",
    "on_joined",
]

# Operations that treat the values along a strip alike and independently.
_ALIKE = frozenset(
    "batch_norm _native_batch_norm_legit_no_training clone _to_copy alias detach dropout getitem "
    "prelu hardswish log_sigmoid masked_fill".split()
)


def join(block: Block, node: fx.Node, statistics: Mapping[fx.Node, StatisticForm]) -> Joined | None:
    """Return the joined strips that a node makes of statistics, or None."""
    if operation(node) != "cat" or node not in block.shapes:
        return None
    operands: list[fx.Node] = list(tensor_inputs(node))
    parts = [statistics[n] for n in operands if n in statistics and statistics[n].kept]
    number = len(argument(node, "tensors"))
    if len(parts) != number or len({form.axes for form in parts}) == 1:
        return None
    dim: int = argument(node, "dim") % block.rank(node)
    for n, form in zip(operands, parts, strict=True):
        if block.follows(n, form.axes) or not block.follows_axis(block.dims[n][dim], form.kept):
            return None
    return Joined(tuple(parts), dim)


def on_joined(
    block: Block, node: fx.Node, joined: Mapping[fx.Node, Joined], splits: set[fx.Node]
) -> OnJoined | StripPart | None:
    """Return the role of a node that reads joined strips; None if it splits them.

    Args:
        block: of the node.
        node: reads joined strips.
        joined: the joined strips by node.
        splits: the nodes that split joined strips into their parts; the node is added if it does.

    Raises:
        ConversionError: it mixes the values along the strips.
    """
    name, operands = operation(node), tensor_inputs(node)
    source = next(n for n in operands if n in joined)
    strips = joined[source]
    dim = strips.dim
    along = argument(node, "dim") if name in ("split", "split_with_sizes", "slice") else None
    if source in splits:
        of, place = splits_source(source), int(node.args[1])  # type: ignore[arg-type]
        return _part(block, node, of, joined[of], place)
    if along is not None and along % block.rank(source) == dim:
        if name != "slice":
            splits.add(node)
            return None
        is_first = argument(node, "start") in (None, 0)
        if not is_first and not _is_rest(node, source, dim):
            raise ConversionError("slice takes other values than rows or columns of joined strips")
        return _part(block, node, source, strips, 0 if is_first else len(strips.parts) - 1)
    others = [n for n in operands if n not in joined]
    same = all(joined[n].dim == dim and len(joined[n].parts) == len(strips.parts)
               for n in operands if n in joined)  # fmt: skip
    if not same or any(block.is_spatial(n) for n in others):
        raise ConversionError(f"{name} combines joined rows and columns with a map")
    moved = _dim_after(block, node, source, dim)
    if moved is None:
        raise StripMixingError(f"{name} mixes rows and columns that are joined to one strip")
    parts = tuple(
        replace(form, item_shape=_shape_of_part(block, node, moved, _length(form)))
        for form in strips.parts
    )
    return OnJoined(Joined(parts, moved))


def _is_rest(node: fx.Node, source: fx.Node, dim: int) -> bool:
    """True if a slice takes all values of a strip from its start on."""
    start = argument(node, "start")
    if not isinstance(start, fx.Node):
        return False
    begin, taken, whole = (
        size.node.expr if isinstance(size, torch.SymInt) else size
        for size in (start.meta["val"], node.meta["val"].shape[dim], source.meta["val"].shape[dim])
    )
    return bool(begin + taken == whole)


def splits_source(node: fx.Node) -> fx.Node:
    """Return the joined strips that a node splits."""
    return tensor_inputs(node)[0]


def _length(form: StatisticForm) -> int:
    return form.map_size["HW".index(form.kept)]


def _part(block: Block, node: fx.Node, of: fx.Node, strips: Joined, place: int) -> StripPart:
    form = strips.parts[place]
    dim = block.dims[node][strips.dim]
    if product(dim)[0] != _length(form) or not block.follows_axis(dim, form.kept):
        raise ConversionError(
            f"{operation(node)} splits joined rows and columns into other parts than they have"
        )
    if block.follows_axis(dim, form.axes):
        raise ConversionError(f"{operation(node)} takes a part of both rows and columns")
    return StripPart(of, place, replace(form, item_shape=block.item_shape(node)))


def _shape_of_part(block: Block, node: fx.Node, dim: int, length: int) -> tuple[int, ...]:
    if node not in block.shapes:
        return ()
    shape = list(block.item_shape(node))
    shape[dim - 1] = length
    return tuple(shape)


def _dim_after(block: Block, node: fx.Node, source: fx.Node, dim: int) -> int | None:
    """Return the joined dim of the result; None if the operation mixes along it."""
    name = operation(node)
    rank = block.rank(source) if source in block.shapes else 0
    if is_pointwise(node):
        return dim if node in block.shapes and block.rank(node) == rank else None
    if name in _ALIKE:
        return dim if dim != 1 or "batch_norm" not in name else None
    if name in ("conv1d", "conv2d"):
        weight = node.args[1]
        plain = isinstance(weight, fx.Node) and set(block.shapes[weight][0][2:]) == {1}
        steps, padding = argument(node, "stride"), argument(node, "padding")
        ones = set(steps if isinstance(steps, Sequence) else [steps]) == {1}
        none = not any(padding) if isinstance(padding, Sequence) else not padding
        return dim if plain and ones and none and dim > 1 else None
    if name == "linear":
        return dim if dim != rank - 1 else None
    if name in ("split", "split_with_sizes", "chunk"):
        return dim
    if name == "permute":
        order: list[int] = [d % rank for d in argument(node, "dims")]
        return order.index(dim)
    if name == "transpose":
        a, b = (int(argument(node, key)) % rank for key in ("dim0", "dim1"))
        return {a: b, b: a}.get(dim, dim)
    if name == "unsqueeze":
        return dim + int(argument(node, "dim") % (rank + 1) <= dim)
    if name == "squeeze" and isinstance(argument(node, "dim"), int):
        return dim - int(argument(node, "dim") % rank < dim)
    return None


# ---- emission


def emit_on_joined(
    emission: Emission, values: dict[fx.Node, list[WindowStatistic]], node: fx.Node, role: OnJoined
) -> None:
    """Emit a node on each part of joined strips.

    Args:
        emission: the emission.
        values: the parts by node; gets those of the node.
        node: joins statistics, or reads joined strips.
        role: its role.
    """
    sources = [n for n in tensor_inputs(node) if n in values]
    if not sources:
        values[node] = [emission.statistics[n] for n in tensor_inputs(node)]
        return
    made = []
    for place, form in enumerate(role.joined.parts):
        lead = values[sources[0]][place]
        value_of = _value_of_part(emission, values, place, lead)
        made.append(
            WindowStatistic(form, lead.windows, lead.grid, stacked=emission.run(node, value_of))
        )
    values[node] = made


def _value_of_part(
    emission: Emission,
    values: dict[fx.Node, list[WindowStatistic]],
    place: int,
    lead: WindowStatistic,
) -> Callable[[fx.Node], Any]:
    on_windows = operand_on_windows(emission, lead)

    def value_of(node: fx.Node) -> Any:
        if is_size(node) or node not in values:
            return on_windows(node)
        return values[node][place].stacked

    return value_of


def emit_part(
    emission: Emission, values: dict[fx.Node, list[WindowStatistic]], node: fx.Node, role: StripPart
) -> None:
    """Emit nothing: the node is one of the joined strips."""
    part = values[role.of][role.part]
    made = WindowStatistic(role.form, part.windows, part.grid, stacked=part.stacked)
    add_statistic(emission, node, made)
