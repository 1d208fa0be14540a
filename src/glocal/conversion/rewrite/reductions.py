"""What reductions, normalisations and weighted pools reduce: kinds, dims and options."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import fx

from glocal.conversion.rewrite.block import Block, MapDims
from glocal.conversion.rewrite.nodes import argument, operation, tensor_inputs
from glocal.errors import ConversionError

__all__ = ["Reduction", "kind_text", "norm_groups", "weighted_pool"]

_KINDS = {"max": "amax", "min": "amin", "std_mean": "std", "var_mean": "var"}
_TEXTS = {
    "amax": "maximum",
    "amin": "minimum",
    "std": "standard deviation",
    "var": "variance",
}


def kind_text(kind: str) -> str:
    """Return the name of a kind of statistic for messages ("maximum")."""
    return _TEXTS.get(kind, kind)


@dataclass(frozen=True)
class Reduction:
    """What a reduction reduces.

    Attributes:
        kind: as in `runtime.window_statistic`.
        dims: dims of the operand, not negative.
        keepdim: True if the reduced dims stay, with size 1.
        options: further arguments of `runtime.window_statistic`.
    """

    kind: str
    dims: tuple[int, ...]
    keepdim: bool
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, block: Block, node: fx.Node) -> Self:
        """Read the arguments of a node whose operation is one of `nodes.REDUCTIONS`.

        Raises:
            ConversionError: it is a norm of an order other than 1 or 2.
        """
        name = operation(node)
        rank = block.rank(tensor_inputs(node)[0])
        if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            return cls("mean" if "avg" in name else "amax", (rank - 2, rank - 1), keepdim=True)
        dims = argument(node, "dim")
        if dims is None or dims == []:
            dims = range(rank)
        dims = tuple(d % rank for d in ([dims] if isinstance(dims, int) else dims))
        kind, options = _KINDS.get(name, name), {}
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

    @classmethod
    def over_pixels(cls, kind: str, where: MapDims, axes: str = "HW") -> Self:
        """Return the reduction of rows, columns or both alone, which keeps the dims."""
        places = {"H": where.rows, "W": where.columns}
        return cls(kind, tuple(places[axis] for axis in axes), True, {"correction": 0})

    def axes(self, where: MapDims) -> str:
        """Return the axes of a map that it reduces: "HW", "H", "W" or ""."""
        return "".join(a for a, d in zip("HW", where[:2], strict=True) if d in self.dims)

    def check(self, where: MapDims) -> None:
        """Check that it reduces rows, columns or both of each image.

        Raises:
            ConversionError: it reduces other dims; the message says which.
        """
        if 0 in self.dims:
            raise ConversionError(f"{kind_text(self.kind)} over the images of a batch")
        if not self.axes(where):
            raise ConversionError(f"{kind_text(self.kind)} over neither rows nor columns")

    def is_over_one_axis(self, where: MapDims) -> bool:
        """True if it does not reduce both rows and columns."""
        return self.axes(where) != "HW"

    def with_second(self, second: "Reduction", rank: int) -> Self:
        """Return both of two reductions as one: mean(3).mean(2) is mean((2, 3)).

        Args:
            second: of the result of this one.
            rank: number of dims of the operand of this one.

        Raises:
            ConversionError: they are of different kinds.
        """
        if self.kind != second.kind or self.keepdim != second.keepdim:
            raise ConversionError(
                f"{kind_text(self.kind)} over one axis of the map and "
                f"{kind_text(second.kind)} over the other"
            )
        remaining = [d for d in range(rank) if self.keepdim or d not in self.dims]
        dims = sorted({*self.dims, *(remaining[d] for d in second.dims)})
        return replace(self, dims=tuple(dims))

    def item_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the result without its first dim, for an operand's shape."""
        return tuple(
            1 if d in self.dims else n
            for d, n in enumerate(shape)
            if d and (self.keepdim or d not in self.dims)
        )

    def reduced_channels(self, where: MapDims, rank: int) -> list[int]:
        """Return the other reduced dims, as dims of the operand in the form (n, ..., h, w)."""
        others = [
            d
            for d in range(1, rank)
            if d not in (where.rows, where.columns) or (d == where.rows and where.channels > 1)
        ]
        return [1 + place for place, d in enumerate(others) if d in self.dims]


def norm_groups(block: Block, node: fx.Node) -> int:
    """Return the number of groups of channels of a normalisation over the pixels.

    Args:
        block: the block of the node.
        node: its operation is one of `nodes.NORMS`.

    Raises:
        ConversionError: it normalises other dims, or has a weight for each pixel.
    """
    name, source = operation(node), node.args[0]
    assert isinstance(source, fx.Node)
    block.require_map_dims(source)
    if name == "instance_norm":
        return block.item_shape(source)[0]
    if name == "group_norm":
        return int(argument(node, "num_groups"))
    where, rank = block.require_map_dims(source), block.rank(source)
    outer = rank - len(argument(node, "normalized_shape"))
    if outer < 1 or min(where.rows, where.columns) < outer:
        raise ConversionError("its layer norm normalises one axis of the map only")
    if argument(node, "weight") is not None or argument(node, "bias") is not None:
        raise ConversionError("its layer norm over the map has a weight for each pixel")
    return math.prod(block.item_shape(source)[: outer - 1])


def weighted_pool(block: Block, node: fx.Node) -> tuple[fx.Node, fx.Node, Reduction]:
    """Return (matrix, vector, reduction) of a matrix product that sums over pixels.

    Args:
        block: the block of the node.
        node: a product for which `regions.pools_by_matmul` holds.

    Returns:
        the maps, the single map that weighs them, and the sum over the pixels of their product.

    Raises:
        ConversionError: it does not sum over the pixels alone.
    """
    a, b = node.args[:2]
    assert isinstance(a, fx.Node)
    assert isinstance(b, fx.Node)
    right = block.item_shape(b)[-1] == 1
    matrix, vector = (a, b) if right else (b, a)
    pixels = block.rank(node) - (1 if right else 2)
    if block.require_map_dims(matrix) != (pixels, pixels, 1):
        raise ConversionError(f"{operation(node)} does not sum over the pixels alone")
    return matrix, vector, Reduction("sum", (pixels,), keepdim=True)
