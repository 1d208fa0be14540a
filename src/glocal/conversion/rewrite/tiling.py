"""Run a region of a block on overlapping windows, stacked on the batch dim, and blend."""

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from glocal.conversion.rewrite import lifting
from glocal.conversion.rewrite.capture import Block, TooSmallError
from glocal.conversion.rewrite.emitter import Emitter, Mode
from glocal.conversion.rewrite.nodes import is_size, tensors
from glocal.conversion.rewrite.program import Get
from glocal.conversion.rewrite.regions import Region, regions
from glocal.errors import ConversionError
from glocal.ops.windows import Overlap, Size

__all__ = ["Tiling"]


class Tiling(Emitter):
    """Emits nodes of regions, between cutting maps into windows and folding windows into maps."""

    def __init__(
        self,
        block: Block,
        window_of: Callable[[Size], Size],
        train_window_of: Callable[[Size], Size],
        overlap: Overlap,
    ) -> None:
        super().__init__(block, window_of)
        self.train_window_of = train_window_of
        self.overlap = overlap
        self.region_of: dict[fx.Node, Region] = {}
        for region in regions(block):
            self.region_of.update(dict.fromkeys(region.nodes, region))
        self._modes: dict[int, Mode] = {}
        self._tiled: dict[tuple[int, fx.Node], Get] = {}

    def visit_tiled(self, node: fx.Node) -> None:
        """Emit a node of a region."""
        region = self.region_of[node]
        for operand in tensors(node):  # maps first: they tell how many windows there are
            if operand not in region.nodes and self.block.spatial(operand):
                self._cut(region, operand)
        mode = self._modes.get(id(region))
        if mode is None:
            raise ConversionError("it reads no map")

        def value(n: fx.Node) -> Any:
            return self.number(n, mode) if is_size(n) else self._cut(region, n)

        self._tiled[id(region), node] = self.call(node, value)

    def _cut(self, region: Region, node: fx.Node) -> Get:
        """A value in the windows of a region."""
        key = (id(region), node)
        if key not in self._tiled:
            value = self.plain(node)
            if self.block.spatial(node):
                value = self._cut_map(region, node, value)
            elif self.block.depends_on_batch(node):
                if not self.block.batched(node):
                    raise ConversionError("the images of a batch do not lie along its first dim")
                value = self.emit(lifting.repeated, value, self._modes[id(region)].count)
            self._tiled[key] = value
        return self._tiled[key]

    def _cut_map(self, region: Region, node: fx.Node, value: Get) -> Get:
        if self.block.size(node) != region.feature:
            raise ConversionError("it mixes maps of several sizes")
        height, width = (self.train_window_of if region.grid else self.window_of)(region.feature)
        down, along = region.multiple(self.block)
        window = (max(height // down, 1) * down, max(width // along, 1) * along)
        made = self.emit(
            lifting.tiles, value, window, self.overlap, self.layout(node), self.flat_sizes(node)
        )
        if id(region) not in self._modes:
            count = self.emit(
                operator.floordiv,
                self.emit(lifting.length, made, 0),
                self.emit(lifting.length, value, 0),
            )
            self._modes[id(region)] = Mode(count, window, region.feature)
        return made

    def fold(self, node: fx.Node) -> Get:
        """The map of what a region made in its windows, overlaps blended."""
        region = self.region_of[node]
        if not self.block.is_map(node):
            raise TooSmallError("what it makes of a window leaves the block")
        if self.block.size(node) != region.feature:
            raise ConversionError("it makes a map of another size")
        return self.emit(
            lifting.untiled,
            self._tiled[id(region), node],
            self._modes[id(region)].window,
            self.overlap,
            self.layout(node),
            self.flat_sizes(node, self._modes[id(region)]),
            self.sizes(node),
        )
