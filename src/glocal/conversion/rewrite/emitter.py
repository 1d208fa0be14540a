"""Emit the steps of a program: values as in the original, and sizes inside windows."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite import lifting
from glocal.conversion.rewrite.capture import Block, TooSmallError
from glocal.conversion.rewrite.nodes import is_size, operation
from glocal.conversion.rewrite.program import DEVICE, Get, Operator, Step
from glocal.errors import ConversionError
from glocal.ops.exported import smaller
from glocal.ops.windows import Size
from glocal.scanning.dims import product, role

__all__ = ["Emitter", "Mode"]

# What is a view of the original's memory need not be one of a window's; and `torch.jit.trace`
# follows sizes through methods of tensors, not through `torch.ops`.
_INSTEAD: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.view.default: lifting.reshape,
    torch.ops.aten._unsafe_view.default: lifting.reshape,
    torch.ops.aten.expand.default: lifting.expand,
    torch.sym_float: lifting.as_float,
}


@dataclass(frozen=True)
class Mode:
    """What sizes become where windows are stacked on the batch dim.

    Attributes:
        count: how many windows an image has.
        window: (height, width) of the windows on a map of the size `feature`.
        feature: (height, width) of that map in the first run of the scan.
    """

    count: Get
    window: Size
    feature: Size


class Emitter:
    """The steps of a program, and the values that stand for the nodes of the original graph."""

    def __init__(self, block: Block, window_of: Callable[[Size], Size]) -> None:
        self.block = block
        self.window_of = window_of
        self.steps: list[Step] = []
        self._values: dict[fx.Node, Get] = {}
        self._sizes: dict[Any, Get] = {}

    def emit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Get:
        """Add a step; returns its value."""
        function = _INSTEAD.get(function, function)
        if isinstance(function, torch._ops.OpOverload):
            function = Operator(str(function))
        if "device" in kwargs:  # the module may move after it was captured
            kwargs["device"] = DEVICE
        name = f"v{len(self.steps)}"
        self.steps.append(Step(name, function, args, kwargs))
        return Get(name)

    def call(self, node: fx.Node, value: Callable[[fx.Node], Any]) -> Get:
        """Emit a node's own operation, on other values."""
        args = fx.node.map_arg(node.args, value)
        kwargs = fx.node.map_arg(dict(node.kwargs), value)
        return self.emit(node.target, *args, **kwargs)  # type: ignore[arg-type]

    # ---- values as in the original

    def define(self, node: fx.Node, value: Get) -> None:
        """Say which value stands for a node's."""
        self._values[node] = value

    def plain(self, node: fx.Node) -> Get:
        """The value that stands for a node's in code that knows nothing of windows."""
        if node not in self._values:
            self._values[node] = self.number(node, None) if is_size(node) else self.late(node)
        return self._values[node]

    def late(self, node: fx.Node) -> Get:
        """Make a value that was held back until somebody asked for it."""
        raise NotImplementedError

    def example(self) -> Get:
        """A map among the inputs, of whose type results are."""
        inputs = [n for n in self.block.dims if n.op == "placeholder"]
        return self._values[next(n for n in inputs if self.block.spatial(n))]

    # ---- sizes

    def number(self, node: fx.Node, mode: Mode | None) -> Get:
        """A size, or what is computed of sizes; inside the windows of `mode`, if any."""
        key = (node, mode)
        if key not in self._sizes:
            if operation(node) == "sym_size":
                self._sizes[key] = self._dim(node, mode)
            else:
                self._sizes[key] = self.call(node, lambda n: self.number(n, mode))
        return self._sizes[key]

    def _dim(self, node: fx.Node, mode: Mode | None) -> Get:
        source, place = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(place, int)
        if mode is None:
            return self.emit(lifting.length, self.plain(source), place)
        dim = self.block.dims[source][place]
        if place == 0 and self.block.depends_on_batch(source):
            return self.emit(operator.mul, self.number(node, None), mode.count)
        follows = role(product(dim))
        if follows == "":
            return self.number(node, None)
        if follows == "HW":
            height, width = (self._length(a.sizes, mode) for a in dim if role(a.sizes))
            return self.emit(operator.mul, height, width)
        return self._length(product(dim), mode)

    def _length(self, sizes: Any, mode: Mode | None) -> Get:
        """The height or the width that has these sizes in the runs of the scan."""
        key = (sizes, mode)
        if key in self._sizes:
            return self._sizes[key]
        if mode is not None:
            axis = "HW".index(role(sizes))
            window = max(1, sizes[0] * mode.window[axis] // mode.feature[axis])
            self._sizes[key] = self.emit(smaller, self._length(sizes, None), window)
            return self._sizes[key]
        inputs = [n for n in self.block.dims if n.op == "placeholder"]
        for node in [*inputs, *self._values]:
            for place, dim in enumerate(self.block.dims.get(node, ())):
                if product(dim) == sizes:
                    self._sizes[key] = self.emit(lifting.length, self.plain(node), place)
                    return self._sizes[key]
        raise TooSmallError("the size of its map cannot be told from its arguments")

    def sizes(self, node: fx.Node, mode: Mode | None = None) -> tuple[Get, Get]:
        """Height and width of the map of a tensor; inside the windows of `mode`, if any."""
        atoms = [a for d in self.block.dims[node] for a in d]
        height = next(a.sizes for a in atoms if role(a.sizes) == "H")
        width = next(a.sizes for a in atoms if role(a.sizes) == "W")
        return self._length(height, mode), self._length(width, mode)

    def flat_sizes(self, node: fx.Node, mode: Mode | None = None) -> tuple[Get, Get] | None:
        """The same, where a layout does not tell them."""
        rows, columns, _ = self.layout(node)
        return self.sizes(node, mode) if rows == columns else None

    def layout(self, node: fx.Node) -> tuple[int, int, int]:
        """Where the map lies in a tensor; see `capture.Layout`."""
        layout = self.block.layout(node)
        if layout is None:
            raise ConversionError(f"its pixels lie in an unknown layout ({operation(node)})")
        return layout.rows, layout.columns, layout.channels

    def local_mode(self, node: fx.Node) -> Mode:
        """The mode of a map's own pixels: a size it is divided by is that of a window."""
        feature = self.block.size(node)
        return Mode(Get(""), self.window_of(feature), feature)
