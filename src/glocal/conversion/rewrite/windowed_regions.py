"""Emit regions that mix pixels: unfold windows, run on all, fold and blend."""

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.arguments import TooSmallError
from glocal.conversion.rewrite.emission import Emission, StackedWindows, Value, along
from glocal.conversion.rewrite.nodes import operation, tensor_inputs
from glocal.conversion.rewrite.regions import Region
from glocal.conversion.rewrite.roles import InWindows
from glocal.errors import ConversionError
from glocal.ops.windows import Overlap, Size

__all__ = ["WindowedRegions"]


class WindowedRegions:
    """Emits the nodes of regions.

    Args:
        emission: the emission.
        train_window_of: (height, width) of the window on a map for regions that mix the cells
            of a grid, from the size of the map.
        overlap: of the windows.
    """

    def __init__(
        self, emission: Emission, train_window_of: Callable[[Size], Size], overlap: Overlap
    ) -> None:
        self.emission = emission
        self.train_window_of = train_window_of
        self.overlap = overlap
        self._windows: dict[int, StackedWindows] = {}
        self._values: dict[tuple[int, fx.Node], Value] = {}

    def emit(self, node: fx.Node, role: InWindows) -> None:
        """Emit a node on all windows of its region."""
        emission, region = self.emission, role.region
        for operand in tensor_inputs(node):  # maps first: they give the number of windows
            if operand not in region.nodes and emission.block.follows(operand, region.axes):
                self._in_windows(region, operand)
        windows = self._windows.get(id(region))
        if windows is None:
            raise ConversionError(f"{operation(node)} mixes pixels before it reads a map")

        def value_of(n: fx.Node) -> Any:
            if emission.block.is_number(n):
                return emission.number(n, windows)
            return self._in_windows(region, n)

        self._values[id(region), node] = emission.run(node, value_of)
        emission.defer(node, lambda: self._folded(node, region))

    def _in_windows(self, region: Region, node: fx.Node) -> Value:
        """Return a value in the windows of a region."""
        emission, key = self.emission, (id(region), node)
        if key not in self._values:
            value = emission.value(node)
            if emission.block.follows(node, region.axes):
                value = self._unfolded(region, node, value)
            elif emission.block.depends_on_batch(node):
                if not emission.block.is_batched(node):
                    raise ConversionError(
                        f"{operation(node)} moves the batch away from the first dim"
                    )
                count = self._windows[id(region)].count
                value = emission.call(runtime.repeat_for_windows, value, count)
            self._values[key] = value
        return self._values[key]

    def _unfolded(self, region: Region, node: fx.Node, value: Value) -> Value:
        """Cut a map into the windows of a region, whole cells of a grid each."""
        emission, block = self.emission, self.emission.block
        if block.map_size(node) != region.map_size:
            raise ConversionError("it mixes the pixels of maps of different sizes")
        window_of = self.train_window_of if region.grid else emission.window_of
        window = _in_cells(along(region.axes, window_of(region.map_size)), region.cell(block))
        made = emission.call(
            runtime.unfold_windows,
            value,
            window,
            self.overlap.share,
            self.overlap.blend,
            block.require_map_dims(node),
            emission.flat_sizes(node),
        )
        if id(region) not in self._windows:
            lengths = (emission.call(runtime.length, v, 0) for v in (made, value))
            count = emission.call(operator.floordiv, *lengths)
            self._windows[id(region)] = StackedWindows(window, region.map_size, count)
        return made

    def _folded(self, node: fx.Node, region: Region) -> Value:
        """Return the map of a node, with overlapping windows blended."""
        emission, block = self.emission, self.emission.block
        name = operation(node)
        if not block.is_map(node):
            raise TooSmallError(f"it mixes pixels, and {name} ends the block before it has a map")
        if block.map_size(node) != region.map_size:
            raise ConversionError(f"it mixes pixels, and {name} changes the size of the map")
        windows = self._windows[id(region)]
        return emission.call(
            runtime.fold_windows,
            self._values[id(region), node],
            windows.window,
            self.overlap.share,
            self.overlap.blend,
            block.require_map_dims(node),
            emission.flat_sizes(node, windows),
            emission.sizes(node),
        )


def _in_cells(window: Size, cell: Size) -> Size:
    """Round a window down to whole cells, one at least."""
    rows, columns = (max(k // n, 1) * n for k, n in zip(window, cell, strict=True))
    return rows, columns
