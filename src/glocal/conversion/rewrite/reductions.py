"""Reductions over the map: the statistics themselves, also of arithmetic that was held back."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import fx

from glocal.conversion.rewrite import lifting
from glocal.conversion.rewrite.capture import Block
from glocal.conversion.rewrite.held import Chain, Weights
from glocal.conversion.rewrite.nodes import (
    REDUCTIONS,
    argument,
    is_pointwise,
    is_size,
    is_view,
    operation,
    squares,
    tensors,
)
from glocal.conversion.rewrite.program import PRECISION, Get, Operator
from glocal.conversion.rewrite.statistics import Statistic, Statistics
from glocal.errors import ConversionError

__all__ = ["Reduction", "Reductions"]

_TRANSPOSE = Operator("aten.transpose.int")


@dataclass(frozen=True)
class Reduction:
    """What a node reduces.

    Attributes:
        kind: as in `lifting.statistic`.
        dims: of the operand, not negative.
        keepdim: whether they stay, with size 1.
        options: further arguments of `lifting.statistic`.
    """

    kind: str
    dims: tuple[int, ...]
    keepdim: bool
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, block: Block, node: fx.Node) -> Self:
        """What this node reduces."""
        name = operation(node)
        rank = block.rank(tensors(node)[0])
        if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            return cls("mean" if "avg" in name else "amax", (rank - 2, rank - 1), keepdim=True)
        dims = argument(node, "dim")
        if dims is None or dims == []:
            dims = range(rank)
        dims = tuple(d % rank for d in ([dims] if isinstance(dims, int) else dims))
        renamed = {"max": "amax", "min": "amin", "std_mean": "std", "var_mean": "var"}
        kind, options = renamed.get(name, name), {}
        if kind in ("std", "var"):
            correction, unbiased = argument(node, "correction"), argument(node, "unbiased")
            default = 1 if unbiased is None else int(unbiased)
            options["correction"] = default if correction is None else correction
        if name in ("linalg_vector_norm", "norm"):
            order = argument(node, "ord" if name == "linalg_vector_norm" else "p")
            if order not in (None, 1, 2):
                raise ConversionError(f"a norm of order {order} over the map has no local form")
            kind, options["order"] = "norm", order or 2
        return cls(kind, dims, bool(argument(node, "keepdim")), options)

    def left(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the result less its first dim, from that of the operand."""
        return tuple(
            1 if d in self.dims else n
            for d, n in enumerate(shape)
            if d and (self.keepdim or d not in self.dims)
        )


class Reductions(Statistics):
    """Emits reductions."""

    def over(self, value: Get, at: fx.Node, how: Reduction | str) -> Statistic:
        """A statistic of a value that has the shape of the value of the node `at`.

        Args:
            value, at: what to reduce.
            how: a reduction; or a kind, to reduce height and width alone and keep the dims.
        """
        layout = self.layout(at)
        rows, columns, channels = layout
        rank, shape = self.block.rank(at), self.block.shapes[at][0]
        if isinstance(how, str):
            how = Reduction(how, (rows, columns), True, {"correction": 0})
        if 0 in how.dims:
            raise ConversionError("it mixes the images of a batch")
        if rows not in how.dims or columns not in how.dims:
            raise ConversionError("it mixes one axis only")
        # What is left of the dims in the map (n, ..., h, w), and which of them are mixed too.
        left = [d for d in range(1, rank) if d not in layout[:2] or (d == rows and channels > 1)]
        mixed = [1 + place for place, d in enumerate(left) if d in how.dims]
        if (rows, columns) != (rank - 2, rank - 1):
            value = self.emit(lifting.as_map, value, layout, self.flat_sizes(at))
        mode = self.local_mode(at)
        options = {**how.options, "precision": PRECISION}
        grid = self.emit(lifting.statistic, value, how.kind, mode.window, mixed, **options)
        mode = replace(mode, count=self.emit(lifting.count, grid))
        tail = how.left(shape)
        if len(tail) == 3 and tail[1:] == (1, 1):
            return Statistic(grid, mode, tail, hosted=grid)
        return Statistic(grid, mode, tail, stacked=self.emit(lifting.stack, grid, grid, tail))

    # ---- of chains

    def is_shown(self, node: fx.Node) -> bool:
        """Whether a map is used for anything but statistics."""
        for user in node.users:
            if operation(user) in REDUCTIONS:
                continue
            if not (is_pointwise(user) or is_view(user)) or self.is_shown(user):
                return True
        return False

    def belongs(self, chain: Chain, node: fx.Node) -> bool:
        """Whether the arithmetic before a reduction is a part of the statistic.

        A centred square is, always: it is a variance. Else it is if nothing but statistics see
        it; a map that is used as a map is one, and its statistic is the local one of that map.
        """
        centred = chain.square and chain.centred
        return centred or chain.shift is not None or not self.is_shown(node)

    def over_chain(self, chain: Chain, source: fx.Node, how: Reduction) -> Statistic:
        """A mean or a sum of what a chain makes, the value of the node `source`."""
        if how.kind not in ("mean", "sum"):
            raise ConversionError(f"{how.kind} of a map and a statistic has no local form")
        mean = self.over(chain.value, chain.at, "mean")
        result, offset, deviation = self.stacked(mean), chain.shift, None
        if chain.square:
            deviation = self.stacked(self.over(chain.value, chain.at, "std"))
        previous = chain.root
        for step in chain.steps:
            if squares(step):
                assert deviation is not None
                result = self.emit(lifting.sum_of_squares, result, deviation)
                deviation = None
            elif operation(step) == "exp":
                assert offset is not None
                result = self.emit(operator.mul, result, self.emit(torch.exp, offset))
                offset = None
            elif offset is not None:
                offset = self._again(step, previous, offset, mean)
            else:
                result = self._again(step, previous, result, mean)
                if deviation is not None and operation(step) in ("mul", "div"):
                    deviation = self._again(step, previous, deviation, mean)
            previous = step
        layout = self.layout(chain.at)
        if how.kind == "sum":
            like = self.emit(lifting.as_map, chain.value, layout, self.flat_sizes(chain.at))
            pixels = self.emit(lifting.pixels, like, mean.mode.window, layout[2])
            result = self.emit(operator.mul, result, pixels)
        others = [d for d in how.dims if d not in layout[:2]]
        if others:
            reduce = torch.mean if how.kind == "mean" else torch.sum
            result = self.emit(reduce, result, dim=others, keepdim=True)
        tail = how.left(self.block.shapes[source][0])
        result = self.emit(
            lifting.with_tail, self.emit(lifting.as_type, result, self.example()), tail
        )
        return Statistic(mean.grid, mean.mode, tail, stacked=result)

    def _again(self, step: fx.Node, previous: fx.Node, value: Get, lead: Statistic) -> Get:
        """A step of a chain, on a statistic of the map instead of the map."""

        def pick(n: fx.Node) -> Any:
            if n is previous:
                return value
            if is_size(n):
                return self.number(n, lead.mode)
            held = self.statistic(n)
            return self.plain(n) if held is None else self.stacked(held)

        return self.call(step, pick)

    # ---- of a softmax over the map

    def over_weights(self, weights: Weights, how: Reduction) -> Statistic:
        """A mean or a sum of values weighted by a softmax."""
        if how.kind not in ("mean", "sum"):
            raise ConversionError(f"{how.kind} of a softmax over the map has no local form")
        above = self.over(weights.values, weights.at, how)
        below = self.over(weights.powers, weights.powers_at, replace(how, kind="sum"))
        return self._ratio(above, self.stacked(below))

    def _ratio(self, above: Statistic, below: Get) -> Statistic:
        ratio = self.emit(operator.truediv, self.stacked(above), below)
        ratio = self.emit(lifting.as_type, ratio, self.example())
        return Statistic(above.grid, above.mode, above.tail, stacked=ratio)

    def pool(self, node: fx.Node, weights: Weights | None) -> Statistic:
        """A product of matrices that sums over pixels, weighted by one map."""
        a, b = node.args[:2]
        assert isinstance(a, fx.Node)
        assert isinstance(b, fx.Node)
        right = self.block.tail(b)[-1] == 1
        vector, matrix = (b, a) if right else (a, b)
        place = self.block.rank(node) - (1 if right else 2)
        if self.layout(matrix) != (place, place, 1):
            raise ConversionError("its pixels lie in an unknown layout (matmul)")
        row = self.emit(_TRANSPOSE, weights.powers if weights else self.plain(vector), -1, -2)
        products = self.emit(operator.mul, self.plain(matrix), row)
        total = self.over(products, matrix, "sum")
        if weights is None:
            return total
        return self._ratio(total, self.stacked(self.over(weights.powers, vector, "sum")))
