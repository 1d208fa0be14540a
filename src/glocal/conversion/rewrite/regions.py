"""Find the regions of a captured block that mix pixels and must run on windows.

Attention and grid mixing have no statistic that could become a map. The nodes around them run on
overlapping windows instead, from where whole maps come in to where whole maps go out.
"""

from dataclasses import dataclass

from torch import fx

from glocal.conversion.rewrite.arguments import TooSmallError
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.meeting import product_of
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
    tensor_inputs,
)
from glocal.conversion.rewrite.spectra import FOURIER, spectral_nodes
from glocal.errors import ConversionError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Global

__all__ = ["Region", "regions"]

_ON_WINDOWS = PRODUCTS | SOFTMAX | ATTENTION | REDUCTIONS


@dataclass
class Region:
    """Nodes that run on the same windows.

    Attributes:
        nodes: the nodes.
        map_size: (height, width) of the map at the training size.
        grid: True if it mixes the cells of a grid; its windows have the training size.
        axes: the axes that it mixes; its windows cover the other one.
    """

    nodes: set[fx.Node]
    map_size: Size
    grid: bool
    axes: str = "HW"

    def cell(self, block: Block) -> Size:
        """Return (height, width) of its cells; windows contain whole cells."""
        atoms = [a for n in self.nodes for dim in block.dims.get(n, ()) for a in dim if a.cell]
        rows, columns = (max((a.sizes[0] for a in atoms if a.cell == x), default=1) for x in "HW")
        return rows, columns


def regions(block: Block, in_windows: frozenset[fx.Node] = frozenset()) -> list[Region]:
    """Find the regions of a block.

    Args:
        block: the block.
        in_windows: reductions that have to run on windows too.

    Raises:
        ConversionError: a region reads or makes something that cannot be cut into windows.
    """
    dependent = _dependent(block)
    found: list[Region] = []
    _refuse_pairs(block)
    for node, item in _seeds(block, in_windows):
        if item.feature is None:
            raise TooSmallError(f"{operation(node)} mixes a map of unknown height and width")
        grid = item.kind == "grid" or operation(node) in FOURIER
        found.append(Region({node}, item.feature, grid))
    for region in found:
        _grow(block, region, dependent)
    while pair := _pair_to_join(block, found):
        first, second = pair
        if first.grid != second.grid or first.map_size != second.map_size:
            raise ConversionError(
                "it mixes the pixels of maps of different sizes, or of a grid and a map"
            )
        found.remove(second)
        first.nodes |= second.nodes
        _grow(block, first, dependent)
    for region in found:
        mixed = {axis for n in region.nodes if n in block.globals for axis in block.globals[n].axes}
        region.axes = "".join(sorted(mixed))
    return found


def _pair_to_join(block: Block, found: list[Region]) -> tuple[Region, Region] | None:
    """Return two regions that overlap, or whose results are combined pointwise."""
    home = {node: region for region in found for node in region.nodes}
    for region in found:
        for node in region.nodes:
            for near in (node, *tensor_inputs(node)):
                if home.get(near, region) is not region:
                    return home[near], region
    for node in block.graph.nodes:
        if node.op == "call_function" and node not in home and is_pointwise(node):
            maps = [n for n in tensor_inputs(node) if n not in block.shapes or block.is_spatial(n)]
            homes = list({id(home[n]): home[n] for n in maps if n in home}.values())
            if len(homes) > 1 and all(n in home for n in maps):
                return homes[0], homes[1]
    return None


def _seeds(block: Block, in_windows: frozenset[fx.Node]) -> list[tuple[fx.Node, Global]]:
    """Return the nodes that have to run on windows, each with its global operation."""
    seeds, spectra = [], spectral_nodes(block)
    for node, item in block.globals.items():
        name = operation(node)
        if any(n in spectra for n in tensor_inputs(node)):
            continue  # the region of the first transform goes on to the inverse
        if node in in_windows or name in FOURIER:
            seeds.append((node, item))
            continue
        if item.kind == "axis" and name in REDUCTIONS:
            continue
        if item.kind == "mixing" and name in NORMS:
            continue
        if item.kind == "mixing" and name in SOFTMAX and block.map_dims(node):
            continue
        if item.kind == "statistic" and name in REDUCTIONS:
            continue
        if item.kind in ("mixing", "statistic", "axis") and name not in _ON_WINDOWS | NORMS:
            raise ConversionError(item.refusal or f"{name} over the pixels has no local form")
        seeds.append((node, item))
    # A sum of products of pixels that meets the map in a matrix product is one half of an
    # attention. Other statistics have windows of their own, and so has their product with a map,
    # unless it is the map that the attention reads: its divisor, say.
    carries: dict[fx.Node, Global] = {}
    products: set[fx.Node] = set()
    meetings: list[tuple[fx.Node, Global]] = []
    for node in block.graph.nodes:
        if (made := block.globals.get(node)) and made.kind == "statistic":
            carries[node] = made
            if operation(node) not in REDUCTIONS:
                products.add(node)
            continue
        arriving = [carries[n] for n in node.all_input_nodes if n in carries]
        if not arriving:
            continue
        if node not in block.shapes or not block.is_spatial(node):
            carries[node] = arriving[0]
            if any(n in products for n in node.all_input_nodes):
                products.add(node)
        elif operation(node) in PRODUCTS and (
            any(n in products for n in node.all_input_nodes) or not product_of(block, node)
        ):
            seeds.append((node, arriving[0]))
        else:
            meetings.append((node, arriving[0]))
    queries = {_source(n) for node, _ in seeds for n in tensor_inputs(node) if block.is_spatial(n)}
    return seeds + [
        (node, item)
        for node, item in meetings
        if operation(node) in PRODUCTS | {"mul"}
        and any(_source(n) in queries for n in tensor_inputs(node))
    ]


def _source(node: fx.Node) -> fx.Node:
    """Return the value of which a node is a view."""
    while is_view(node) and tensor_inputs(node):
        node = tensor_inputs(node)[0]
    return node


def _refuse_pairs(block: Block) -> None:
    """Check that no sum over pixels for each pair of channels is used as a statistic.

    A Gram matrix that is multiplied with the map is one half of an attention. One that becomes a
    factor for each channel is a statistic, and would need a map for each pair.

    Raises:
        ConversionError: one is used so.
    """
    pairs: dict[fx.Node, fx.Node] = {}
    for node in block.graph.nodes:
        name, operands = operation(node), node.all_input_nodes
        item = block.globals.get(node)
        if item and item.kind == "statistic" and name in PRODUCTS:
            weighs = any(operation(n) in SOFTMAX for n in operands)
            if not weighs and all(n in block.shapes and block.is_spatial(n) for n in operands):
                pairs[node] = node
            continue
        pair = next((pairs[n] for n in operands if n in pairs), None)
        if pair is None:
            continue
        if node not in block.shapes or not block.is_spatial(node):
            pairs[node] = pair
        elif name not in PRODUCTS:
            maps = [n for n in operands if n in block.shapes and block.is_spatial(n)]
            alike = any(block.shapes[n][0] == block.shapes[node][0] for n in maps)
            if alike or not is_pointwise(node):
                raise ConversionError(
                    f"{operation(pair)} sums over the pixels for each pair of channels, and "
                    f"{name} uses the sums as a statistic: each pair would need a map"
                )


def _grow(block: Block, region: Region, dependent: set[fx.Node]) -> None:
    """Add nodes until the region reads maps and makes maps."""
    spectra = spectral_nodes(block)
    nodes = [n for n in block.graph.nodes if n.op == "call_function" and not is_size(n)]
    size = -1
    while size != len(region.nodes):
        size = len(region.nodes)
        for node in nodes:
            if node not in region.nodes and _joins(block, region, node, spectra):
                region.nodes.add(node)
        for node in reversed(nodes):
            if node in region.nodes:
                region.nodes.update(_pulled(block, node, region, dependent | spectra))


def _joins(block: Block, region: Region, node: fx.Node, spectra: set[fx.Node]) -> bool:
    """True if a node that reads results of a region runs before they are folded."""
    inside = [n for n in tensor_inputs(node) if n in region.nodes]
    if not inside:
        return False
    if any(n in spectra or not block.is_map(n) for n in inside):
        return True
    if not (is_pointwise(node) or is_view(node)):
        return False
    if node in block.shapes and block.map_dims(node) is None:
        return False
    return all(
        n in region.nodes or (n in block.shapes and not block.is_spatial(n))
        for n in tensor_inputs(node)
    )


def _pulled(block: Block, node: fx.Node, region: Region, dependent: set[fx.Node]) -> list[fx.Node]:
    """Return the operands of a node that must be computed inside the region too."""
    result = []
    for operand in tensor_inputs(node):
        if operand in region.nodes:
            continue
        single = operand in block.shapes
        if single and not block.is_spatial(operand) and operand not in dependent:
            continue
        if single and block.map_dims(operand) and operand not in dependent:
            continue
        if operand.op == "placeholder":
            raise TooSmallError(
                "the block receives pixels in a shape that cannot be cut into windows"
            )
        result.append(operand)
    return result


def _dependent(block: Block) -> set[fx.Node]:
    """Return the values that depend on a statistic, up to the next weighted layer."""
    found: set[fx.Node] = set()
    for node in block.graph.nodes:
        if node.op != "call_function":
            continue
        item = block.globals.get(node)
        kinds = ("statistic", "mixing", "axis")
        if item and operation(node) not in NORMS and item.kind in kinds:
            found.add(node)
            continue
        passes = is_pointwise(node) or is_view(node) or operation(node) in REDUCTIONS
        if passes and any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found
