"""Finds the reductions of one axis of a map in a captured block."""

from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.nodes import REDUCTIONS, operation, tensor_inputs
from glocal.conversion.rewrite.reductions import Reduction
from glocal.errors import ConversionError

__all__ = ["StripMixingError", "has_second_half", "strip_reductions"]


class StripMixingError(ConversionError):
    """Statistics of rows or columns are mixed along the other axis.

    They have no map of their own then; the block may run on windows of the map.
    """


def strip_reductions(block: Block) -> frozenset[fx.Node]:
    """Return the reductions of rows or of columns that no second one completes."""
    found = set()
    for node in block.globals:
        source = next(iter(tensor_inputs(node)), None)
        if operation(node) not in REDUCTIONS or source is None or source not in block.shapes:
            continue
        where = block.map_dims(source)
        if where and Reduction.of(block, node).is_over_one_axis(where):
            found.add(node)
    return frozenset(found)


def has_second_half(block: Block, node: fx.Node) -> bool:
    """True if every user of a reduction of one axis reduces the other axis."""
    users = list(node.users)
    if node not in block.shapes:  # (values, places)
        users = [user for value in users if value.args[1] == 0 for user in value.users]
    return bool(users) and all(
        operation(user) in REDUCTIONS and not block.is_spatial(user) for user in users
    )
