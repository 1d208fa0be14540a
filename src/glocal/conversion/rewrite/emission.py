"""The state of an emission: the new graph, and its values for nodes and sizes.

Functions that emit one role each (`window_statistics`, `emit_reductions`, `windowed_regions`,
`rewriter`) take an `Emission` as their first argument.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import Any, NewType

import torch
from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.arguments import TooSmallError
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.nodes import is_size, operation
from glocal.conversion.rewrite.padding import Padded
from glocal.conversion.rewrite.program import DEVICE, PRECISION
from glocal.conversion.rewrite.statistic_forms import StatisticForm
from glocal.ops.exported import smaller
from glocal.ops.windows import Size
from glocal.scanning.dims import Sizes, product, role

__all__ = ["WHOLE_AXIS", "Emission", "StackedWindows", "Value", "WindowStatistic", "along"]

Value = NewType("Value", fx.Node)
"""A node of the graph that is emitted, in contrast to one of the captured graph."""

WHOLE_AXIS = 1 << 30
"""Length of a window that covers an axis of every map."""

# A view of the original's memory need not be a view of a window's. And `torch.jit.trace` follows
# sizes through methods of tensors, but not through `torch.ops`.
_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.view.default: runtime.reshape,
    torch.ops.aten._unsafe_view.default: runtime.reshape,
    torch.ops.aten.expand.default: runtime.expand,
    torch.sym_float: runtime.as_float,
}


@dataclass(frozen=True)
class StackedWindows:
    """Windows of a map that are stacked on the batch dim.

    Attributes:
        window: (height, width) in pixels of a map of the size `map_size`.
        map_size: (height, width) of that map at the training size.
        count: number of windows of an image; None for the one window of each pixel, where
            nothing is stacked.
        padded: how the map was padded, if it is padded; `window` is that of the map before.
    """

    window: Size
    map_size: Size
    count: Value | int | None
    padded: Padded | None = None


@dataclass
class WindowStatistic:
    """An emitted statistic: one value per window instead of one per image.

    Attributes:
        form: what it looks like.
        windows: the windows that it describes.
        grid: a map (·, ·, windows down, windows along) of a statistic of these windows.
        as_map: (n, c, windows down, windows along), if its form is a map.
        stacked: (windows · n, *item_shape); for a map, None until it is needed.
    """

    form: StatisticForm
    windows: StackedWindows
    grid: Value
    as_map: Value | None = None
    stacked: Value | None = None


class Emission:
    """The graph of a local form while it is built.

    Attributes:
        block: the captured block.
        window_of: (height, width) of the window on a map, from the size of the map.
        graph: what was emitted.
        statistics: the local forms of nodes that are statistics.
        precision: the precision of window statistics, an input of the graph.
        padded: how maps are padded, from `padding.padded_maps`.
    """

    def __init__(
        self,
        block: Block,
        window_of: Callable[[Size], Size],
        padded: Mapping[fx.Node, Padded] | None = None,
    ) -> None:
        self.block = block
        self.window_of = window_of
        self.padded = padded or {}
        self.graph = fx.Graph()
        self.statistics: dict[fx.Node, WindowStatistic] = {}
        self._values: dict[fx.Node, Value] = {}
        self._deferred: dict[fx.Node, Callable[[], Value]] = {}
        self._sizes: dict[Any, Value] = {}
        self._inputs = [node for node in block.graph.nodes if node.op == "placeholder"]
        for node in self._inputs:
            self._values[node] = Value(self.graph.placeholder(node.name))
        self._device = Value(self.graph.placeholder(DEVICE))
        self.precision = Value(self.graph.placeholder(PRECISION))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        """Emit a call of a function; returns its value."""
        function = _REPLACEMENTS.get(function, function)
        if "device" in kwargs:  # the module may move after the capture
            kwargs["device"] = self._device
        node = self.graph.call_function(function, args, kwargs)
        if (getattr(function, "__module__", None) or "").startswith("glocal."):
            node.meta["is_wrapped"] = True  # unpickling traces the graph again, but not through it
        return Value(node)

    def run(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Value:
        """Emit the operation of a node on other values of its operands."""
        args = fx.node.map_arg(node.args, value_of)
        kwargs = fx.node.map_arg(dict(node.kwargs), value_of)
        return self.call(node.target, *args, **kwargs)  # type: ignore[arg-type]

    def run_with(self, node: fx.Node, name: str, value: Any) -> Value:
        """Emit the operation of a node with another value of one argument."""
        names = [known.name for known in node.target._schema.arguments]  # type: ignore[union-attr]
        values, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), self.value)
        given = dict(zip(names, values, strict=False)) | kwargs | {name: value}
        args = [given.pop(known) for known in names[: len(values)]]
        return self.call(node.target, *args, **given)  # type: ignore[arg-type]

    # ---- values

    def define(self, node: fx.Node, value: Value) -> None:
        """Set the value of a node."""
        self._values[node] = value

    def defer(self, node: fx.Node, make: Callable[[], Value]) -> None:
        """Set how the value of a node is emitted if anything needs it."""
        self._deferred[node] = make

    def value(self, node: fx.Node) -> Value:
        """Return the value of a node as the original has it: a number, a tensor or a map."""
        if node not in self._values:
            self._values[node] = (
                self.number(node, None) if is_size(node) else self._deferred[node]()
            )
        return self._values[node]

    def example(self) -> Value:
        """Return an input that is a map; results have its type."""
        return self._values[next(n for n in self._inputs if self.block.is_spatial(n))]

    # ---- sizes

    def number(self, node: fx.Node, windows: StackedWindows | None) -> Value:
        """Return the value of a size, or of a number computed from sizes.

        Args:
            node: for which `is_size` or `Block.is_number` holds.
            windows: replace sizes of the map by those of one window; None keeps them.
        """
        key = (node, windows)
        if key not in self._sizes:
            if operation(node) == "sym_size":
                self._sizes[key] = self._dim(node, windows)
            else:
                self._sizes[key] = self.run(node, lambda n: self.number(n, windows))
        return self._sizes[key]

    def _dim(self, node: fx.Node, windows: StackedWindows | None) -> Value:
        source, place = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(place, int)
        if windows is None:
            return self.call(runtime.length, self.value(source), place)
        dim = self.block.dims[source][place]
        if place == 0 and self.block.depends_on_batch(source):
            images = self.number(node, None)
            stacked = windows.count
            return images if stacked is None else self.call(operator.mul, images, stacked)
        follows = role(product(dim))
        if follows == "":
            return self.number(node, None)
        if follows == "HW":
            height, width = (self._length(a.sizes, windows) for a in dim if role(a.sizes))
            return self.call(operator.mul, height, width)
        if source in self.padded:
            axis = "HW".index(follows)
            return self._with_padding(self.padded[source], axis, windows)
        return self._length(product(dim), windows)

    def _with_padding(self, padded: Padded, axis: int, windows: StackedWindows) -> Value:
        """Return the height or width of a window after the block's padding."""
        before = replace(windows, padded=None)
        total = self._length(self.block.map_sizes(padded.map)[axis], before)
        for amount in (padded.before[axis], padded.after[axis]) * ("HW"[axis] in padded.axes):
            if isinstance(amount, fx.Node):
                amount = self.number(amount, before)
            total = self.call(operator.add, total, amount)
        return total

    def extent(self, windows: StackedWindows) -> tuple[Any, Any]:
        """Return height and width of windows, after padding if the map is padded."""
        padded = windows.padded
        if padded is None:
            return windows.window
        height, width = (
            self._with_padding(padded, axis, windows) if "HW"[axis] in padded.axes else length
            for axis, length in enumerate(windows.window)
        )
        return height, width

    def _length(self, sizes: Sizes, windows: StackedWindows | None) -> Value:
        """Return the height or the width that has these sizes in the runs of the scan."""
        key = (sizes, windows)
        if key in self._sizes:
            return self._sizes[key]
        if windows is not None:
            axis = "HW".index(role(sizes))
            window = self._in_window(sizes, axis, windows)
            self._sizes[key] = self.call(smaller, self._length(sizes, None), window)
            return self._sizes[key]
        for node in [*self._inputs, *self._values]:
            for place, dim in enumerate(
                () if node in self.padded else self.block.dims.get(node, ())
            ):
                if product(dim) == sizes:
                    self._sizes[key] = self.call(runtime.length, self.value(node), place)
                    return self._sizes[key]
        raise TooSmallError("a height or width of a map is not a size of any argument of the block")

    def _in_window(self, sizes: Sizes, axis: int, windows: StackedWindows) -> int:
        """Return a size of a map for a window: half of it, the window plus a border, ...

        Args:
            sizes: in the runs of the scan.
            axis: that it follows, 0 or 1.
            windows: the windows.
        """
        here, window = windows.map_size[axis], windows.window[axis]
        more = next((s[1 + axis] for s in self._axis_sizes(axis) if s[0] == here), None)
        if more is None or more == here:
            return max(1, sizes[0] * window // here)
        slope = Fraction(sizes[1 + axis] - sizes[0], more - here)
        offset = sizes[0] - slope * here
        if offset.denominator == 1:
            return max(1, floor(slope * window + offset))
        # A part of the size, rounded down or up.
        return max(1, (floor if offset < 0 else ceil)(slope * window))

    def _axis_sizes(self, axis: int) -> Iterator[Sizes]:
        """Yield the sizes of all heights or all widths."""
        for dims in self.block.dims.values():
            for atom in (a for dim in dims for a in dim):
                if role(atom.sizes) == "HW"[axis]:
                    yield atom.sizes

    def sizes(self, node: fx.Node, windows: StackedWindows | None = None) -> tuple[Value, Value]:
        """Return height and width of a map, or of its part in a window."""
        if node in self.padded and windows is None:  # (n, ..., h, w)
            rank, value = self.block.rank(node), self.value(node)
            rows, columns = (self.call(runtime.length, value, rank - d) for d in (2, 1))
            return rows, columns
        height, width = self.block.map_sizes(node)
        return self._length(height, windows), self._length(width, windows)

    def flat_sizes(
        self, node: fx.Node, windows: StackedWindows | None = None
    ) -> tuple[Value, Value] | None:
        """Return `sizes` of a map with flattened pixels; None where the shape shows them."""
        where = self.block.require_map_dims(node)
        return self.sizes(node, windows) if where.rows == where.columns else None

    def size_before_padding(self, node: fx.Node) -> Size:
        """Return `Block.map_size` of a map, or of the map before it was padded."""
        return self.block.map_size(self.padded[node].map if node in self.padded else node)

    def windows_on(self, node: fx.Node, axes: str = "HW") -> StackedWindows:
        """Return the unstacked windows of the pixels of a map along these axes."""
        map_size = self.size_before_padding(node)
        window = along(axes, self.window_of(map_size))
        return StackedWindows(window, map_size, None, self.padded.get(node))


def along(axes: str, window: Size) -> Size:
    """Return a window that covers the axes that are not in `axes`."""
    height, width = (n if a in axes else WHOLE_AXIS for a, n in zip("HW", window, strict=True))
    return height, width
