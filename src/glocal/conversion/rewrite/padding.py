"""Maps that a block pads by an amount that depends on the image.

The window of a pixel of such a map is as large as what the block makes of the window of the map
before: a window of 48 pixels becomes one of 64 pixels of a map that is padded to a multiple of 32.
So a window that covers the map before covers the padded one. Where the statistic meets the map
before, or the padded map after it was cut back, pixel (i, j) takes the window of (i, j) in the
padded map, without the rows above and the columns to the left that were added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import SymInt, Tensor, fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.deferred import DeferredSoftmax
from glocal.conversion.rewrite.nodes import argument, is_padding, is_size, operation, tensor_inputs
from glocal.conversion.rewrite.roles import (
    Alias,
    AtPixels,
    Combined,
    HalfReduction,
    MapReduction,
    Norm,
    NormOfCombined,
    OnStatistics,
    Ordinary,
    PixelSoftmax,
    Rearranged,
    Role,
)
from glocal.errors import ConversionError

__all__ = ["Padded", "padded_maps", "padding_below_statistic"]


@dataclass(frozen=True)
class Padded:
    """How a map was padded.

    Attributes:
        map: the map before.
        before, after: numbers of rows and of columns that were added on both sides: ints, or nodes
            of sizes.
        axes: along which the map is still padded, of "HW".
    """

    map: fx.Node
    before: tuple[Any, Any]
    after: tuple[Any, Any]
    axes: str = "HW"


def padded_maps(block: Block, roles: Mapping[fx.Node, Role]) -> dict[fx.Node, Padded]:
    """Return how maps were padded that are not cut back to their size.

    Raises:
        ConversionError: a padded map, or a statistic of it, is used in another way than is known.
    """
    walk = _Walk(block, roles)
    for node in block.graph.nodes:
        if node.op == "call_function" and not is_size(node) and node in roles:
            walk.visit(node)
    for node in block.outputs:
        if node in walk.statistics:
            raise ConversionError("the statistic of a padded map is returned")
    return walk.maps


def padding_below_statistic(block: Block, roles: Mapping[fx.Node, Role]) -> fx.Node | None:
    """Return what pads the map of a statistic; None if all maps are cut back."""
    below: dict[fx.Node, fx.Node] = {}  # by node, what pads the map
    for node in block.graph.nodes:
        if node.op != "call_function" or is_size(node):
            continue
        operands, role = tensor_inputs(node), roles.get(node)
        pad = next((below[n] for n in operands if n in below), None)
        if isinstance(role, Ordinary) and is_padding(node):
            pad = node
        if pad is None:
            continue
        if isinstance(role, MapReduction | HalfReduction | Norm | NormOfCombined | PixelSoftmax):
            return pad
        before = tensor_inputs(pad)[0]
        is_map = block.is_map(node) and block.is_map(before)
        if not is_map or _lengths(node) != _lengths(before):
            below[node] = pad
    return None


class _Walk:
    """Goes through the nodes in order.

    Attributes:
        maps: padded maps.
        statistics: statistics of padded maps.
        mixed: other maps that combine pixels and statistics of padded maps.
    """

    def __init__(self, block: Block, roles: Mapping[fx.Node, Role]) -> None:
        self.block = block
        self.roles = roles
        self.maps: dict[fx.Node, Padded] = {}
        self.statistics: dict[fx.Node, Padded] = {}
        self.mixed: set[fx.Node] = set()

    def visit(self, node: fx.Node) -> None:
        role, operands = self.roles[node], tensor_inputs(node)
        if isinstance(role, MapReduction):
            operands = [role.source]
        maps = {self.maps[n] for n in operands if n in self.maps}
        statistics = {self.statistics[n] for n in operands if n in self.statistics}
        if isinstance(role, Ordinary) and is_padding(node) and not statistics:
            self._pad(node, next(iter(maps), None))
            return
        mixed = not self.mixed.isdisjoint(operands)
        if not maps and not statistics and not mixed:
            return
        match role:
            case HalfReduction():
                return
            case MapReduction() if (
                maps and not mixed and not isinstance(role.deferred, DeferredSoftmax)
            ):
                (self.statistics[node],) = maps
                if role.form.axes == "HW":
                    return
            case OnStatistics() | Alias() if len(statistics) == 1 and not maps:
                (self.statistics[node],) = statistics
                if all(n in self.statistics for n in operands if self._is_statistic(n)):
                    return
            case Ordinary() | Norm() | NormOfCombined() | Rearranged() if not statistics:
                if self._map(node, operands, maps):
                    return
            case Combined() | AtPixels():
                if self._meets(node, operands, maps, statistics):
                    return
        raise ConversionError(f"{operation(node)} of a padded map, or of its statistic")

    def _pad(self, node: fx.Node, known: Padded | None) -> None:
        """Note a pad, perhaps of a map that was padded along the other axis."""
        source, amounts = tensor_inputs(node)[0], list(node.args[1])  # type: ignore[arg-type]
        if not self.block.is_map(source):
            raise ConversionError("it pads a tensor that is not a map")
        left, right, top, bottom = [*amounts, 0, 0][:4]
        alike = self._has_last_dims(node) and len(amounts) in (2, 4)
        if not alike:
            raise ConversionError("a map is padded that has other dims")
        axes = "H" * ((top, bottom) != (0, 0)) + "W" * ((left, right) != (0, 0))
        if known is None:
            self.maps[node] = Padded(source, (top, left), (bottom, right), axes)
        elif (known.axes, axes) == ("H", "W"):
            before, after = (known.before[0], left), (known.after[0], right)
            self.maps[node] = Padded(known.map, before, after)
        elif (known.axes, axes) == ("W", "H"):
            before, after = (top, known.before[1]), (bottom, known.after[1])
            self.maps[node] = Padded(known.map, before, after)
        else:
            raise ConversionError("a map is padded twice")

    def _map(self, node: fx.Node, operands: Sequence[fx.Node], maps: set[Padded]) -> bool:
        """Record how the result of padded maps is padded; return False if unknown."""
        if not maps:  # of mixed maps alone
            return isinstance(self.roles[node], Ordinary | Norm)
        if len(maps) > 1 or any(n not in self.maps for n in operands if self._is_map(n)):
            return False
        (padded,) = maps
        if node not in self.block.shapes:  # parts of a map
            self.maps[node] = padded
            return True
        if not self._is_map(node) or not self._has_last_dims(node):
            return False
        source = next(n for n in operands if n in self.maps)
        if source in self.block.shapes and _lengths(source) != _lengths(node):
            return self._cut(node, source, padded)
        self.maps[node] = padded
        return True

    def _cut(self, node: fx.Node, source: fx.Node, padded: Padded) -> bool:
        """Record that a slice removes the padding of an axis; return False if not."""
        if operation(node) != "slice" or argument(node, "step") != 1:
            return False
        rank = self.block.rank(node)
        axis = argument(node, "dim") % rank - (rank - 2)
        if axis < 0 or "HW"[axis] not in padded.axes:
            return False
        start = argument(node, "start") or 0
        if _expression(start) != _expression(padded.before[axis]):
            return False
        if _lengths(node)[axis] != _lengths(padded.map)[axis]:
            return False
        axes = padded.axes.replace("HW"[axis], "")
        if axes:
            self.maps[node] = replace(padded, axes=axes)
        elif isinstance(self.roles[node], Rearranged):
            self.mixed.add(node)
        return True

    def _meets(
        self,
        node: fx.Node,
        operands: Sequence[fx.Node],
        maps: set[Padded],
        statistics: set[Padded],
    ) -> bool:
        """Record what a pointwise operation returns; return False if unknown."""
        if not self._has_last_dims(node) or len(statistics) > 1:
            return False
        pixels = [n for n in operands if self._is_map(n)]
        if not maps:
            self.mixed.add(node)
            return all(_lengths(n) == _lengths(s.map) for n in pixels for s in statistics)
        (self.maps[node], *others) = maps
        if others or any(n not in self.maps for n in pixels):
            return False
        known = all(n in self.statistics for n in operands if self._is_statistic(n))
        return known and statistics <= maps

    def _is_statistic(self, node: fx.Node) -> bool:
        return isinstance(self.roles.get(node), MapReduction | OnStatistics | Alias)

    def _is_map(self, node: fx.Node) -> bool:
        return self.block.is_map(node) and not self._is_statistic(node)

    def _has_last_dims(self, node: fx.Node) -> bool:
        """True for a map (n, ..., h, w)."""
        rank = self.block.rank(node)
        return self.block.map_dims(node) == (rank - 2, rank - 1, 1)


def _lengths(node: fx.Node) -> tuple[Any, Any]:
    """Height and width of a map as expressions of the sizes of the arguments."""
    value = node.meta["val"]
    assert isinstance(value, Tensor)
    height, width = map(_expression, value.shape[-2:])
    return height, width


def _expression(size: Any) -> Any:
    if isinstance(size, fx.Node):
        size = size.meta["val"]
    return size.node.expr if isinstance(size, SymInt) else size
