"""Positions of a tensor's pixels in the image: mirrored, shifted, or cropped.

A call that returns a map may still combine pixels that are far apart: it adds the map to its
mirror image, or to its other half. So the place of each tensor is tracked along each axis
(`places`), for each part of the batch: parts of a map may be stacked on it.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from glocal.scanning.dims import Dim, Operand, role, roles
from glocal.scanning.effects import OTHER, Calls, effect_of
from glocal.scanning.places import WHOLE, Places
from glocal.scanning.recorder import Call

__all__ = ["UNIFORM", "Layout", "Moved", "moved", "reading_order"]

Layout = tuple[tuple[Fraction, Places], ...]
"""Shares of the batch, in order, and the places of each: parts of a map may be stacked on it."""

UNIFORM: Layout = ((Fraction(1), {}),)
"""All of the batch shows the whole map."""


class Moved(NamedTuple):
    """What a call does to the places of its operands.

    Attributes:
        outputs: layout of each output.
        strips: axes of which each output shows a constant number of pixels at the border.
        problem: why the call is global; None if it is not.
    """

    outputs: tuple[Layout, ...]
    strips: tuple[frozenset[str], ...] = ()
    problem: str | None = None


def moved(
    index: int,
    calls: Calls,
    operands: Sequence[tuple[Operand, Layout]],
    outputs: tuple[tuple[Dim, ...], ...],
) -> Moved:
    """The layouts of the outputs of a call.

    Args:
        index: of the call.
        calls: the call in the three runs.
        operands: the tensors that it reads and that depend on the image, with their layouts.
            A statistic has the layout of its map.
        outputs: dims of each output.
    """
    plain = Moved((UNIFORM,) * len(outputs))
    if not operands or not outputs:
        return plain
    call = calls[0]
    if call.name == "cat" and _dim(call, outputs[0]) == 0 and not roles([outputs[0][0]]):
        return Moved((_stacked(operands),))
    if call.name in ("slice", "split", "split_with_sizes"):
        dims = operands[0][0][1]
        if _dim(call, dims) == 0 and not roles([dims[0]]):
            return Moved(_taken(call, *operands[0]))
    shares = max((layout for _, layout in operands), key=len)
    if any(
        len(layout) > 1 and [share for share, _ in layout] != [share for share, _ in shares]
        for _, layout in operands
    ):
        return plain._replace(problem=OTHER)
    parts = []
    for number in range(len(shares)):
        given = [
            (operand, layout[number if len(layout) > 1 else 0][1]) for operand, layout in operands
        ]
        parts.append(effect_of(index, calls, given, outputs))
    problem = next((part.problem for part in parts if part.problem), None)
    if problem:
        return plain._replace(problem=problem)
    layouts = tuple(
        _merged([(share, part.outputs[n]) for (share, _), part in zip(shares, parts, strict=True)])
        for n in range(len(outputs))
    )
    return Moved(layouts, parts[0].strips)


def _dim(call: Call, dims: tuple[Dim, ...]) -> int:
    dim: int = call.arguments.get("dim", 0) % len(dims)
    return dim


def _merged(parts: Sequence[tuple[Fraction, Places]]) -> Layout:
    """A layout with one part if all parts are alike."""
    first = parts[0][1]
    if all(_alike(first, places) for _, places in parts[1:]):
        return ((Fraction(1), first),)
    return tuple(parts)


def _alike(one: Places, other: Places) -> bool:
    return all(one.get(axis, WHOLE).same(other.get(axis, WHOLE)) for axis in {*one, *other})


def _stacked(operands: Sequence[tuple[Operand, Layout]]) -> Layout:
    total = sum(ref.shape[0] for (ref, _), _ in operands)
    return _merged(
        [
            (share * Fraction(ref.shape[0], total), places)
            for (ref, _), layout in operands
            for share, places in layout
        ]
    )


def _taken(call: Call, operand: Operand, layout: Layout) -> tuple[Layout, ...]:
    """The layouts of slices of the batch."""
    images = operand[0].shape[0]
    start, result = 0, []
    if call.name == "slice":
        start = call.arguments.get("start") or 0
        start = max(0, start + images if start < 0 else start)
    for shape in call.outputs:
        first, last = Fraction(start, images), Fraction(start + shape[0], images)
        start += shape[0]
        taken, at = [], Fraction(0)
        for share, places in layout:
            inside = min(last, at + share) - max(first, at)
            if inside > 0:
                taken.append((inside / (last - first), places))
            at += share
        result.append(_merged(taken) if taken else UNIFORM)
    return tuple(result)


def reading_order(dims: Sequence[Dim]) -> str:
    """The axes in the order in which the values of a tensor lie: "HW", "WH", "H", ...

    >>> from glocal.scanning.dims import dims_of_shapes
    >>> reading_order(dims_of_shapes((3, 8, 6), (3, 16, 6), (3, 8, 12)))
    'HW'
    """
    return "".join(role(factor.sizes) for dim in dims for factor in dim)
