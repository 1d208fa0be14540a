"""The two programs of a block whose statistics come from crops.

A value without pixels that a global operation has made is a statistic, whatever operations made
it, and it stays one until it meets a map. The first program is the block as it was captured, and
records each statistic where it meets the map. The second has the recorded statistics in their
place, as maps that are interpolated between the crops; what only served to compute them is not
in it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from glocal.conversion.rewrite import crop_runtime, runtime
from glocal.conversion.rewrite.arguments import TooSmallError
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.emission import Emission, StackedWindows, Value, WindowStatistic
from glocal.conversion.rewrite.emit_meetings import emit_filter, emit_mixture, emit_product
from glocal.conversion.rewrite.meeting import (
    MOST_VALUES,
    Product,
    filter_of,
    holds_images,
    product_of,
)
from glocal.conversion.rewrite.mixtures import mixture_of
from glocal.conversion.rewrite.nodes import (
    NORMS,
    argument,
    is_pointwise,
    is_size,
    line_of,
    operation,
    tensor_inputs,
)
from glocal.conversion.rewrite.program import Program
from glocal.conversion.rewrite.reductions import norm_groups
from glocal.conversion.rewrite.rewriter import program_of
from glocal.conversion.rewrite.roles import FilterAtPixels, MixtureAtPixels, ProductAtPixels
from glocal.conversion.rewrite.statistic_forms import StatisticForm, expands
from glocal.conversion.rewrite.window_statistics import at_pixels, broadcastable, emit_ordinary
from glocal.errors import ConversionError
from glocal.ops.windows import Size

__all__ = ["record_and_replay"]


def record_and_replay(block: Block, train_size_of: Callable[[Size], Size]) -> Program:
    """Return a block's first program, which has the second as `Program.replay`.

    Args:
        block: from `capture`.
        train_size_of: (height, width) of a map at the training size, from its size in the first
            run of the scan.

    Raises:
        TooSmallError: a statistic leaves the block; a larger block may have the programs.
        ConversionError: the block has none; the message says why.
    """
    calls = [n for n in block.graph.nodes if n.op == "call_function" and not is_size(n)]
    for node in filter(block.mixes_images, calls):
        if operation(node) != "conv2d" or not holds_images(block, node.args[0]):
            raise ConversionError(
                f"{operation(node)}{line_of(node)} mixes the images of a batch, and crops are a "
                "batch"
            )
    if block.padding_guards:
        raise ConversionError("it pads the map by an amount that depends on the image size")
    block = replace(block, cells_are_channels=True)
    statistics = _statistics(block)
    results = [n for n in block.outputs if isinstance(n, fx.Node)]
    results += [node for _, node in block.mutated]
    for node in results:
        if node in statistics:
            raise TooSmallError(f"a global statistic ({operation(node)}) is returned by the block")
    needed = _needed(results, statistics)
    record = _Emitter(block, train_size_of, statistics, needed, is_replay=False)
    replay = _Emitter(block, train_size_of, statistics, needed, is_replay=True)
    return replace(record.program(), replay=replay.program())


def _statistics(block: Block) -> set[fx.Node]:
    """Return the values without pixels that depend on a global operation."""
    dependent: set[fx.Node] = set()
    for node in block.graph.nodes:
        if node in block.globals or any(n in dependent for n in node.all_input_nodes):
            dependent.add(node)
    return {
        node
        for node in dependent
        if node in block.shapes and not is_size(node) and not block.is_spatial(node)
    }


def _needed(results: list[fx.Node], statistics: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes that the results need once the statistics are known."""
    needed, queue = set(results), list(results)
    while queue:
        for operand in queue.pop().all_input_nodes:
            if operand not in needed and operand not in statistics:
                needed.add(operand)
                queue.append(operand)
    return needed


class _Emitter:
    """Emits one of the two programs, which have the same statistics in one order."""

    def __init__(
        self,
        block: Block,
        train_size_of: Callable[[Size], Size],
        statistics: set[fx.Node],
        needed: set[fx.Node],
        *,
        is_replay: bool,
    ) -> None:
        self.block = block
        self.statistics = statistics
        self.needed = needed
        self.is_replay = is_replay
        self.emission = Emission(block, train_size_of)
        self._recorded: set[Any] = set()
        self._maps: dict[Any, Value] = {}

    def program(self) -> Program:
        """The emitted program."""
        emission, block = self.emission, self.block
        for node in block.graph.nodes:
            if node.op != "call_function" or is_size(node):
                continue
            if node in self.needed:
                self._emit(node)
            elif not self.is_replay:
                emission.define(node, emission.run(node, emission.value))
        values = [emission.value(v) if isinstance(v, fx.Node) else v for v in block.outputs]
        values += [emission.value(node) for _, node in block.mutated]
        emission.graph.output(tuple(values))
        return program_of(emission, crop_runtime.TAKING)

    def _emit(self, node: fx.Node) -> None:
        """Emit a node that the results need."""
        emission, block = self.emission, self.block
        if node in block.globals and not self._is_pixel_by_pixel(node):
            self._emit_norm(node)
            return
        met = [n for n in tensor_inputs(node) if n in self.statistics]
        for statistic in met:
            self._take(statistic, node)
        if not self.is_replay:
            emission.define(node, emission.run(node, emission.value))
        elif met:
            self._emit_meeting(node, met)
        elif is_pointwise(node) and block.is_map(node):
            emission.define(node, at_pixels(emission, node))
        else:
            emit_ordinary(emission, node)

    def _is_pixel_by_pixel(self, node: fx.Node) -> bool:
        """True if a node is global because of its statistics alone, and they come from crops."""
        maps = {n for n in tensor_inputs(node) if self.block.is_spatial(n)}
        return is_pointwise(node) and len(maps) == 1

    def _emit_norm(self, node: fx.Node) -> None:
        emission, block = self.emission, self.block
        if operation(node) not in NORMS or node not in block.shapes:
            item = block.globals[node]
            reason = "it mixes the pixels of the map" if item.kind == "mixing" else item.reason
            raise ConversionError(f"{reason} ({operation(node)}{line_of(node)})")
        source = tensor_inputs(node)[0]
        weight, bias = (argument(node, name) for name in ("weight", "bias"))
        if any(n in self.statistics for n in (weight, bias)):
            raise ConversionError(f"the weights of {operation(node)} depend on statistics")
        made = emission.call(
            crop_runtime.group_norm,
            emission.value(source),
            block.require_map_dims(source),
            emission.flat_sizes(source),
            norm_groups(block, node),
            None if weight is None else emission.value(weight),
            None if bias is None else emission.value(bias),
            argument(node, "eps"),
        )
        emission.define(node, made)

    # ---- where a statistic meets a map

    def _take(self, statistic: fx.Node, node: fx.Node) -> None:
        """Record a statistic, or read it from the records, where it meets a map."""
        emission, block = self.emission, self.block
        if not block.is_batched(statistic):
            raise ConversionError(
                f"{operation(statistic)} moves the batch of a statistic away from the first dim"
            )
        key = (statistic, block.map_sizes(node))
        if not self.is_replay:
            if key not in self._recorded:
                self._recorded.add(key)
                value = emission.value(statistic)
                emission.call(crop_runtime.record, value, *emission.sizes(node))
            return
        if key not in self._maps:
            self._maps[key] = emission.call(crop_runtime.replayed, *emission.sizes(node))
        grid, shape = self._maps[key], block.item_shape(statistic)
        is_map = len(shape) == 3 and shape[1:] == (1, 1)
        size = block.map_size(node)
        known = WindowStatistic(
            StatisticForm("statistic", size, shape, is_map),
            StackedWindows(emission.window_of(size), size, None),
            grid,
            as_map=grid if is_map else None,
        )
        if not is_map:
            known.stacked = emission.call(runtime.stack_windows, grid, grid, shape)
        emission.statistics[statistic] = known

    def _emit_meeting(self, node: fx.Node, met: list[fx.Node]) -> None:
        """Emit an operation of a map and interpolated statistics.

        Raises:
            ConversionError: it is not linear in the statistics, nor does it work pixel by pixel.
        """
        emission, block = self.emission, self.block
        forms = {n: emission.statistics[n].form for n in met}
        if is_pointwise(node):
            emission.define(node, at_pixels(emission, node))
        elif product := product_of(block, node):
            self._emit_product(node, product, met)
        elif (given := filter_of(block, node)) and given.weight in forms:
            emit_filter(emission, node, FilterAtPixels(given))
        elif expands(block, node, forms):
            known = emission.statistics[met[0]]
            where, sizes = block.require_map_dims(node), emission.sizes(node)
            value = broadcastable(emission, known, node)
            emission.define(node, emission.call(runtime.expand_to_map, value, where, sizes))
        elif (mixture := mixture_of(block, node, forms)) and mixture.steps:
            emit_mixture(emission, node, MixtureAtPixels(mixture))
        else:
            raise ConversionError(
                f"a statistic meets the map in {operation(node)}{line_of(node)}, which is neither "
                "pointwise nor linear in it"
            )

    def _emit_product(self, node: fx.Node, product: Product, met: list[fx.Node]) -> None:
        emission, block = self.emission, self.block
        plan = crop_runtime.matrix_product(product.terms, product.result)
        if plan is None or len(met) != 1 or product.added is not None:
            if product.values > MOST_VALUES:
                raise ConversionError(
                    f"{operation(node)} multiplies the map with {product.values} statistics"
                )
            emit_product(emission, node, ProductAtPixels(product))
            return
        matrix = product.operands.index(met[0])
        pixels = product.operands[1 - matrix]
        where = block.require_map_dims(pixels)
        size = emission.flat_sizes(pixels)
        made = emission.call(
            crop_runtime.product,
            emission.statistics[met[0]].grid,
            emission.call(runtime.as_map, emission.value(pixels), where, size),
            block.item_shape(met[0]),
            (product.terms[matrix], product.terms[1 - matrix]),
            product.result,
        )
        made = emission.call(runtime.from_map, made, block.require_map_dims(node))
        emission.define(node, made)
