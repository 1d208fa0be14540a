"""Statistics that have become one per window: what follows them, until they meet pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from glocal.conversion.rewrite import lifting
from glocal.conversion.rewrite.capture import TooSmallError
from glocal.conversion.rewrite.emitter import Mode
from glocal.conversion.rewrite.nodes import (
    RESIZES,
    argument,
    is_pointwise,
    is_size,
    operation,
    tensors,
)
from glocal.conversion.rewrite.program import Get
from glocal.conversion.rewrite.tiling import Tiling
from glocal.errors import ConversionError
from glocal.scanning.aten import SELECTING
from glocal.scanning.dims import product, role

__all__ = ["Statistic", "Statistics"]


@dataclass
class Statistic:
    """A value per image that has become a value per window.

    Attributes:
        grid: a map (·, ·, gh, gw) of the windows it is of.
        mode: what sizes are inside them.
        tail: shape of the original, less its first dim.
        stacked: (gh · gw · n, *tail), or None while nobody has asked for it.
        hosted: (n, c, gh, gw), where the original is (n, c, 1, 1) and this is at hand.
    """

    grid: Get
    mode: Mode
    tail: tuple[int, ...]
    stacked: Get | None = None
    hosted: Get | None = None


class Statistics(Tiling):
    """Emits what follows a statistic, on all windows' statistics at once."""

    def statistic(self, node: fx.Node) -> Statistic | None:
        """The statistic that stands for a node's value, if one does."""
        raise NotImplementedError

    def is_vector(self, node: fx.Node) -> bool:
        """Whether a value is a statistic, and was not broadcast over the map."""
        return self.statistic(node) is not None and not self.block.spatial(node)

    def follow(self, node: fx.Node) -> Statistic:
        """What a node makes of statistics alone."""
        block = self.block
        operands = tensors(node)
        held = [s for n in operands if (s := self.statistic(n))]
        lead, name = held[0], operation(node)
        if name in SELECTING:
            raise ConversionError(f"it selects by the rank of a statistic ({name})")
        if any(s.mode.feature != lead.mode.feature for s in held):
            raise ConversionError("statistics of maps of several sizes meet")
        strangers = [n for n in operands if self.statistic(n) is None]
        meets = any(block.spatial(n) for n in strangers)
        if block.spatial(node) and not meets:
            tail = self._without_pixels(node)
            if name in ("expand", "repeat", *RESIZES) and tail == lead.tail:
                return lead
            if is_pointwise(node):  # of statistics that were broadcast before
                made = self.call(node, self._on_windows(lead))
                return Statistic(lead.grid, lead.mode, tail, stacked=made)
            meets = True
        if meets:
            raise ConversionError(
                f"its statistic meets the map in an operation that takes no map there ({name})"
            )
        single = node in block.shapes
        if single and not block.batched(node):
            raise ConversionError("the images of a batch do not lie along its first dim")
        tail = block.tail(node) if single else ()
        if self._takes_maps(node, held, strangers):
            made = self.call(node, self._on_maps)
            return Statistic(lead.grid, lead.mode, tail, hosted=made)
        made = self.call(node, self._on_windows(lead))
        return Statistic(lead.grid, lead.mode, tail, stacked=made)

    def _on_windows(self, lead: Statistic) -> Callable[[fx.Node], Any]:
        """What values are where the statistics of all windows are stacked."""

        def value(n: fx.Node) -> Any:
            held = self.statistic(n)
            if held is not None:
                return self.stacked(held)
            if is_size(n):
                return self.number(n, lead.mode)
            if self.block.depends_on_batch(n):
                return self.emit(lifting.repeated, self.plain(n), lead.mode.count)
            return self.plain(n)

        return value

    def _on_maps(self, n: fx.Node) -> Any:
        held = self.statistic(n)
        return self.plain(n) if held is None else held.hosted

    def _takes_maps(
        self, node: fx.Node, held: Sequence[Statistic], strangers: Sequence[fx.Node]
    ) -> bool:
        """Whether what a node does to (n, c, 1, 1) it would do to every pixel of (n, c, gh, gw)."""
        if any(s.hosted is None for s in held) or any(is_size(n) for n in node.all_input_nodes):
            return False
        if any(self.block.depends_on_batch(n) for n in strangers):
            return False
        name = operation(node)
        if node in self.block.shapes:
            tail = self.block.tail(node)
            if len(tail) != 3 or tail[1:] != (1, 1):
                return False
        elif name not in ("split", "split_with_sizes", "chunk"):
            return False
        if name == "conv2d":
            weight, padding = node.args[1], argument(node, "padding")
            assert isinstance(weight, fx.Node)
            pointwise = self.block.shapes[weight][0][2:] == (1, 1) and padding in (0, [0, 0])
            return weight in strangers and pointwise
        if name in ("cat", "split", "split_with_sizes", "chunk", "softmax"):
            return argument(node, "dim") in (1, -3)
        if name in ("mean", "sum", "amax"):
            return argument(node, "dim") in (1, [1])
        return is_pointwise(node) or name in ("getitem", "clone", "_to_copy")

    def stacked(self, held: Statistic) -> Get:
        """A statistic with its windows stacked on the batch dim."""
        if held.stacked is None:
            assert held.hosted is not None
            held.stacked = self.emit(lifting.stack, held.hosted, held.grid, held.tail)
        return held.stacked

    def spread(self, held: Statistic, node: fx.Node) -> Get:
        """A statistic as a map that broadcasts against a node's value."""
        layout = self.layout(node)
        rows, columns, _ = layout
        elsewhere = self.block.size(node) != held.mode.feature
        if held.hosted is not None and layout == (2, 3, 1) and not elsewhere:
            return held.hosted
        alike = len(held.tail) == self.block.rank(node) - 1
        if not alike or held.tail[rows - 1] != 1 or held.tail[columns - 1] != 1:
            raise ConversionError("its statistic is not broadcast over the map")
        size = self.sizes(node) if elsewhere or rows == columns else None
        return self.emit(lifting.spread, self.stacked(held), held.grid, layout, size, elsewhere)

    def broadcast(self, held: Statistic, node: fx.Node) -> Get:
        """The full map of a statistic that a node broadcasts over it."""
        if not self.block.spatial(node):
            raise TooSmallError("its statistic leaves the block, or is used as weights")
        return self.emit(
            lifting.broadcast, self.spread(held, node), self.layout(node), self.sizes(node)
        )

    def _without_pixels(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of a map, less its first dim, with 1 for height and width."""
        layout = self.block.layout(node)
        return tuple(
            1 if role(product(dim)) or (layout and place in layout[:2]) else size
            for place, (dim, size) in enumerate(
                zip(self.block.dims[node], self.block.shapes[node][0], strict=True)
            )
        )[1:]
