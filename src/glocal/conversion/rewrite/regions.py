"""Which part of a captured block has to run window by window: regions that mix pixels.

Attention and grid mixing have no statistic that could become a map. The nodes around them are run
on overlapping windows instead, from where whole maps come in to where whole maps go out.
"""

from dataclasses import dataclass

from torch import fx

from glocal.conversion.rewrite.capture import Block, TooSmallError
from glocal.conversion.rewrite.nodes import (
    ATTENTION,
    NORMS,
    PRODUCTS,
    REDUCTIONS,
    SOFTMAX,
    is_pointwise,
    is_size,
    is_view,
    operation,
    tensors,
)
from glocal.errors import ConversionError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Global

__all__ = ["Region", "pools_by_matmul", "regions"]

_ON_WINDOWS = PRODUCTS | SOFTMAX | ATTENTION | REDUCTIONS


@dataclass
class Region:
    """Nodes that run on windows together.

    Attributes:
        nodes: in no order.
        feature: (height, width) of the map at the training size.
        grid: whether it mixes the cells of a grid, which wants windows of the training size.
    """

    nodes: set[fx.Node]
    feature: Size
    grid: bool

    def multiple(self, block: Block) -> Size:
        """(height, width) of the cells that it cuts maps into; windows are multiples of them."""
        atoms = [a for n in self.nodes for dim in block.dims.get(n, ()) for a in dim if a.cell]
        rows, columns = (max((a.sizes[0] for a in atoms if a.cell == x), default=1) for x in "HW")
        return rows, columns


def regions(block: Block) -> list[Region]:
    """The regions of a block.

    Raises:
        ConversionError: what one reads or makes cannot be cut into windows.
    """
    tainted = _tainted(block)
    found: list[Region] = []
    for node, item in _seeds(block):
        if item.feature is None:
            raise TooSmallError("the size of its map cannot be told")
        found.append(Region({node}, item.feature, item.kind == "grid"))
    for region in found:
        _grow(block, region, tainted)
    while pair := _joined(block, found):
        first, second = pair
        if first.grid != second.grid or first.feature != second.feature:
            raise ConversionError("it mixes maps of several sizes, or a grid and the whole map")
        found.remove(second)
        first.nodes |= second.nodes
        _grow(block, first, tainted)
    return found


def _joined(block: Block, found: list[Region]) -> tuple[Region, Region] | None:
    """Two regions that overlap, or whose maps meet before anything else is done to them."""
    home = {node: region for region in found for node in region.nodes}
    for region in found:
        for node in region.nodes:
            for near in (node, *tensors(node)):
                if home.get(near, region) is not region:
                    return home[near], region
    for node in block.graph.nodes:
        if node.op == "call_function" and node not in home and is_pointwise(node):
            maps = [n for n in tensors(node) if n not in block.shapes or block.spatial(n)]
            homes = list({id(home[n]): home[n] for n in maps if n in home}.values())
            if len(homes) > 1 and all(n in home for n in maps):
                return homes[0], homes[1]
    return None


def _seeds(block: Block) -> list[tuple[fx.Node, Global]]:
    """The nodes that have to run on windows, each with its global operation."""
    seeds = []
    for node, item in block.globals.items():
        name = operation(node)
        if item.kind == "mixing" and name in NORMS:
            continue
        if item.kind == "mixing" and name in SOFTMAX and block.layout(node):
            continue
        if item.kind == "statistic" and (name in REDUCTIONS or pools_by_matmul(block, node)):
            continue
        if item.kind in ("mixing", "statistic") and name not in _ON_WINDOWS:
            raise ConversionError(f"{name} over the map has no local form")
        seeds.append((node, item))
    # A statistic that meets the map in a product of matrices is one half of an attention.
    carries: dict[fx.Node, Global] = {}
    for node in block.graph.nodes:
        if (made := block.globals.get(node)) and made.kind == "statistic":
            carries[node] = made
            continue
        held = [carries[n] for n in node.all_input_nodes if n in carries]
        if not held:
            continue
        if node not in block.shapes or not block.spatial(node):
            carries[node] = held[0]
        elif operation(node) in PRODUCTS:
            seeds.append((node, held[0]))
    return seeds


def pools_by_matmul(block: Block, node: fx.Node) -> bool:
    """Whether a product of matrices is a sum over pixels weighted by one map."""
    if operation(node) not in ("matmul", "bmm") or len(tensors(node)) != 2:
        return False
    a, b = node.args[:2]
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
        return False
    if not (block.layout(a) and block.layout(b)) or len(block.tail(a)) != len(block.tail(b)):
        return False
    return block.tail(b)[-1] == 1 or block.tail(a)[-2] == 1


def _grow(block: Block, region: Region, tainted: set[fx.Node]) -> None:
    nodes = [n for n in block.graph.nodes if n.op == "call_function" and not is_size(n)]
    size = -1
    while size != len(region.nodes):
        size = len(region.nodes)
        for node in nodes:
            if node not in region.nodes and _joins(block, region, node):
                region.nodes.add(node)
        for node in reversed(nodes):
            if node in region.nodes:
                region.nodes.update(_pulled(block, node, region, tainted))


def _joins(block: Block, region: Region, node: fx.Node) -> bool:
    """Whether what a region has made has to, or may, go through a node before it is folded."""
    inside = [n for n in tensors(node) if n in region.nodes]
    if not inside:
        return False
    if any(not block.is_map(n) for n in inside):
        return True
    if not (is_pointwise(node) or is_view(node)):
        return False
    if node in block.shapes and block.layout(node) is None:
        return False
    return all(
        n in region.nodes or (n in block.shapes and not block.spatial(n)) for n in tensors(node)
    )


def _pulled(block: Block, node: fx.Node, region: Region, tainted: set[fx.Node]) -> list[fx.Node]:
    """Operands of a node that must be made inside the region too."""
    result = []
    for operand in tensors(node):
        if operand in region.nodes:
            continue
        plain = operand in block.shapes
        if plain and not block.spatial(operand) and operand not in tainted:
            continue
        if plain and block.layout(operand) and operand not in tainted:
            continue
        if operand.op == "placeholder":
            raise TooSmallError("it reads pixels in a layout that cannot be cut into windows")
        result.append(operand)
    return result


def _tainted(block: Block) -> set[fx.Node]:
    """Values that hold a statistic of the map, up to the next layer with weights."""
    found: set[fx.Node] = set()
    for node in block.graph.nodes:
        if node.op != "call_function":
            continue
        item = block.globals.get(node)
        if item and operation(node) not in NORMS and item.kind in ("statistic", "mixing"):
            found.add(node)
            continue
        passes = is_pointwise(node) or is_view(node) or operation(node) in REDUCTIONS
        if passes and any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found
