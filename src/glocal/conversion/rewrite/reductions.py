"""Kinds, dims and options of reductions, normalisations and weighted pools."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import fx

from glocal.conversion.rewrite import polynomials, runtime
from glocal.conversion.rewrite.block import Block, MapDims
from glocal.conversion.rewrite.nodes import argument, operation, tensor_inputs
from glocal.conversion.rewrite.polynomials import Centred, Polynomial
from glocal.conversion.rewrite.terms import Coefficient, OverWindow, Pixels, compute
from glocal.errors import ConversionError

__all__ = ["Reduction", "kind_text", "norm_groups", "statistic_of"]

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

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype in which it reduces, if the code names one."""
        return self.options.get("dtype")

    @classmethod
    def of(cls, block: Block, node: fx.Node) -> Self:
        """Read the arguments of a node whose operation is one of `nodes.REDUCTIONS`.

        Raises:
            ConversionError: it is a norm of an order other than 1 or 2.
        """
        name = operation(node)
        rank = block.rank(tensor_inputs(node)[0])
        if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            if any(n != 1 for n in argument(node, "output_size")):
                raise ConversionError(f"{name} to more than one pixel has no local form")
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
        if (dtype := argument(node, "dtype")) is not None:
            options["dtype"] = dtype
        return cls(kind, dims, bool(argument(node, "keepdim")), options)

    @classmethod
    def over_pixels(cls, kind: str, where: MapDims, axes: str = "HW") -> Self:
        """Return the reduction of rows, columns or both alone, which keeps the dims."""
        places = {"H": where.rows, "W": where.columns}
        options = {"norm": {"order": 1}, "std": {"correction": 0}}.get(kind, {})
        return cls(kind, tuple(places[axis] for axis in axes), True, options)

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
        """Return the other reduced dims, as dims of the operand as (n, ..., h, w)."""
        others = [
            d
            for d in range(1, rank)
            if d not in (where.rows, where.columns) or (d == where.rows and where.channels > 1)
        ]
        return [1 + place for place, d in enumerate(others) if d in self.dims]


def statistic_of(
    p: Polynomial, reduction: Reduction, where: MapDims, shape: Sequence[int]
) -> Coefficient | None:
    """Return the statistic of a polynomial that a reduction computes, keeping dims.

    Args:
        p: the polynomial.
        reduction: of the rows and columns, and perhaps of channels.
        where: the rows and columns.
        shape: of the polynomial in the first run of the scan.

    Returns:
        None if it does not follow from statistics of the maps.
    """
    others = [d for d in reduction.dims if d not in (where.rows, where.columns)]
    number: Coefficient = Pixels(polynomials.maps_of(p)[0])

    def over_channels(function: Any, c: Coefficient) -> Coefficient:
        return compute(function, c, tuple(others), True) if others else c

    match reduction.kind:
        case "mean":
            return over_channels(torch.mean, polynomials.mean(p))
        case "sum":
            return over_channels(torch.sum, compute(operator.mul, polynomials.mean(p), number))
        case "var" | "std":
            variance = polynomials.variance(p)
            if variance is None:
                return None
            if others:
                means = polynomials.mean(p)
                centred = compute(operator.sub, means, over_channels(torch.mean, means))
                between = compute(torch.square, centred)
                variance = over_channels(torch.mean, compute(operator.add, variance, between))
                number = compute(operator.mul, number, math.prod(shape[d] for d in others))
            variance = compute(runtime.corrected, variance, number, reduction.options["correction"])
            return compute(torch.sqrt, variance) if reduction.kind == "std" else variance
        case "norm" if reduction.options["order"] == 2:
            square = polynomials.square(p)
            if square is None:
                return None
            total = compute(operator.mul, polynomials.mean(square), number)
            positive = compute(torch.clamp_min, over_channels(torch.sum, total), 0)
            return compute(torch.sqrt, positive)
        case "norm":
            made = _over_window(p, "norm")
            return made and over_channels(torch.sum, made)
        case kind:
            made = _over_window(p, kind)
            return made and over_channels(getattr(torch, kind), made)


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


def _over_window(p: Polynomial, kind: str) -> Coefficient | None:
    """Return a maximum, minimum, sum of magnitudes, or log-sum-exp over the window.

    Args:
        p: the polynomial.
        kind: "amax", "amin", "norm" (of order 1) or "logsumexp".

    Returns:
        None if it does not follow from statistics of the maps.
    """
    if isinstance(p, Centred) or kind not in ("amax", "amin", "norm", "logsumexp"):
        return None
    if kind == "norm":
        if p.constant is not None or len(p.terms) != 1:
            return None
        ((of, by),) = p.terms.items()
        total = OverWindow("norm", of)
        return total if by is None else compute(operator.mul, compute(abs, by), total)
    if p.is_unscaled:
        made: Coefficient = OverWindow(kind, p.whole)  # type: ignore[arg-type]
    elif len(p.terms) == 1 and kind in ("amax", "amin"):
        ((of, by),) = p.terms.items()
        assert by is not None
        high, low = OverWindow("amax", of), OverWindow("amin", of)
        first, second = (high, low) if kind == "amax" else (low, high)
        made = compute(runtime.extreme, by, first, second)
    else:
        return None
    return made if p.constant is None else compute(operator.add, made, p.constant)
