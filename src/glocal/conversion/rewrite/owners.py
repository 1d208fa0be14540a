"""Which module owns a statistic, and which statistics are in a map.

The law of windows holds within the module that owns a statistic. An operation of another module
reduces the local result, as where each module is converted alone.
"""

from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.deferred import has_weights
from glocal.conversion.rewrite.nodes import caller_of, is_size, module_of, tensor_inputs
from glocal.scanning.modules import ancestors

__all__ = ["is_of_others"]


def is_of_others(block: Block, node: fx.Node, source: fx.Node) -> bool:
    """True for a reduction of a map whose statistics belong to other modules.

    Args:
        block: that contains them.
        node: the global operation.
        source: the map that it reads.
    """
    homes = {_owner(block, node), caller_of(node)}  # its own result may leave its caller
    below = _statistics_below(block, source)
    return bool(below) and all(_owner(block, n) not in homes for n in below)


def _owner(block: Block, statistic: fx.Node) -> str:
    """Return the path of the module that computes a statistic and combines it."""
    paths, queue, seen = [module_of(statistic)], [statistic], {statistic}
    while queue:
        for user in queue.pop().users:
            if user not in seen and user.op == "call_function" and not is_size(user):
                seen.add(user)
                paths.append(module_of(user))
                if user in block.shapes and not block.is_spatial(user):
                    queue.append(user)
    above = [set(ancestors(path)) for path in paths]
    return next(p for p in ancestors(paths[0]) if all(p in each for each in above))


def _statistics_below(block: Block, node: fx.Node) -> set[fx.Node]:
    """Return the global statistics in a value, up to the next layer with weights."""
    found, queue, seen = set[fx.Node](), [node], {node}
    while queue:
        at = queue.pop()
        item = block.globals.get(at)
        if item and item.kind == "statistic":
            found.add(at)
        for operand in () if has_weights(block, at) else tensor_inputs(at):
            if operand not in seen:
                seen.add(operand)
                queue.append(operand)
    return found
