"""What a call does to the places of the tensors that it reads.

A slice shows a part, a flip the axis mirrored, a roll the axis shifted. What a call does follows
from its arguments in the three runs of a scan. Only what grows with the image counts: an offset by
a constant number of pixels is a margin, as a convolution has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from glocal.scanning.dims import Dim, Operand, Sizes, product, role, roles
from glocal.scanning.places import WHOLE, Place, Places
from glocal.scanning.recorder import Call

__all__ = ["MIDDLE", "ORDER", "OTHER", "PADS", "POSITIONS", "Calls", "Effect", "effect_of"]

Calls = tuple[Call, Call, Call]
"""One call in the three runs."""

POSITIONS = "it reads or writes the map at computed positions"
MIDDLE = "it selects values of the map by position"
OTHER = "it combines a map with a mirrored, shifted or cropped copy of it, or a statistic of one"
ORDER = "it reads the pixels in another order"
PADS = frozenset(
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d".split()
)


class Effect(NamedTuple):
    """What a call does to the places of its operands, in one part of the batch.

    Attributes:
        outputs: the places of each output.
        strips, problem: as in `positions.Moved`.
    """

    outputs: tuple[Places, ...]
    strips: tuple[frozenset[str], ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class _OneMap:
    """A call that reads one map.

    Attributes:
        index: of the call.
        calls: the call in the three runs.
        dims: of the map.
        places: of the map.
        outputs: dims of each output.
    """

    index: int
    calls: Calls
    dims: tuple[Dim, ...]
    places: Places
    outputs: tuple[tuple[Dim, ...], ...]

    @property
    def call(self) -> Call:
        """The call in the first run."""
        return self.calls[0]

    def at(self, places: Places) -> Effect:
        """The effect of a call whose outputs all have these places."""
        return Effect(tuple(_moved_only(places) for _ in self.outputs))

    def refused(self, problem: str) -> Effect:
        """The effect of a call that is global for this reason."""
        return Effect(tuple({} for _ in self.outputs), problem=problem)


def effect_of(
    index: int,
    calls: Calls,
    operands: Sequence[tuple[Operand, Places]],
    outputs: tuple[tuple[Dim, ...], ...],
) -> Effect:
    """What a call does to the places of its operands, in one part of the batch.

    Args:
        index, calls, outputs: as in `positions.moved`.
        operands: the tensors that it reads and that depend on the image, with their places.
    """
    name = calls[0].name
    (ref, dims), places = operands[0]
    read = _OneMap(index, calls, dims, places, outputs)
    given = calls[0].arguments
    if any(given.get(argument) is ref for argument in ("self", "input")):
        if name in ("slice", "select", "split", "split_with_sizes", "unbind"):
            return _cut(read)
        if name in ("flip", "roll", "rot90"):
            return _turned(read)
        if name == "constant_pad_nd" or name in PADS:
            return _padded(read)
        if name == "repeat":
            return _repeated(read)
        if name in _AT_PLACES:
            return _at_positions(read)
    elif name in _WRITES:  # the image's values into a buffer
        return _at_positions(_OneMap(index, calls, outputs[0], {}, outputs))
    if name == "cat":
        return _joined(index, calls, operands, outputs)
    found: Places = {}
    axes = {axis for (_, each), where in operands for axis in (*roles(each), *where)}
    returned = {axis for out in outputs for axis in roles(out)}
    for (_, each), where in operands:
        # A statistic has lost its axes; where it meets a map it must be a statistic of that map.
        for axis in axes if returned else (*roles(each), *where):
            place = where.get(axis, WHOLE)
            if not found.setdefault(axis, place).same(place):
                return Effect(tuple({} for _ in outputs), problem=OTHER)
    return Effect(tuple(_moved_only(found) for _ in outputs))


def _moved_only(places: Places) -> Places:
    return {axis: place for axis, place in places.items() if not place.same(WHOLE)}


def _axis(dim: Dim) -> str:
    """The axis that a dim with one growing factor follows; "" if none or several do."""
    growing = [role(factor.sizes) for factor in dim if role(factor.sizes)]
    return growing[0] if len(growing) == 1 and len(growing[0]) == 1 else ""


def _share(values: Sequence[int], sizes: Sizes, axis: str) -> Fraction:
    """How much a value grows for each pixel that the axis grows."""
    run = 1 if axis == "H" else 2
    return Fraction(values[run] - values[0], sizes[run] - sizes[0])


def _cut(read: _OneMap) -> Effect:
    """Slices and parts of one dim."""
    given = read.call.arguments
    dim = given.get("dim", 0) % len(read.dims)
    whole = product(read.dims[dim])
    axes = {letter for factor in read.dims[dim] for letter in role(factor.sizes)}
    if not axes:
        return read.at(read.places)
    if any(factor.joined for factor in read.dims[dim]):  # the rows or the columns of a joined strip
        return Effect(
            tuple({} for _ in read.outputs), tuple(frozenset[str]() for _ in read.outputs)
        )
    axis, made, strips = _axis(read.dims[dim]), [], []
    starts = [0, 0, 0]
    for number in range(len(read.call.outputs)):
        if read.call.name in ("select", "unbind"):
            lengths = [1, 1, 1]
        else:
            lengths = [call.outputs[number][dim] for call in read.calls]
        step = given.get("step", 1) if read.call.name == "slice" else 1
        if read.call.name in ("slice", "select"):
            key = "start" if read.call.name == "slice" else "index"
            starts = [
                max(0, n + s if s < 0 else min(s, n))
                for n, s in zip(whole, (c.arguments.get(key) or 0 for c in read.calls), strict=True)
            ]
        if not axis:  # of flattened pixels
            if tuple(lengths) != whole:
                return read.refused(MIDDLE)
            made.append(read.places)
            strips.append(frozenset[str]())
            continue
        start, length = _share(starts, whole, axis), _share(lengths, whole, axis) * step
        if not length and start not in (0, 1):
            return read.refused(MIDDLE)
        strips.append(frozenset([axis] if not length else []))
        place = read.places.get(axis, WHOLE)
        if length and (start or length != 1):
            place = place.part(start, start + length, read.index)
        made.append({**read.places, axis: place})
        starts = [s + n for s, n in zip(starts, lengths, strict=True)]
    return Effect(tuple(map(_moved_only, made)), tuple(strips))


def _turned(read: _OneMap) -> Effect:
    """Flips, rolls and rotations."""
    given, name = read.call.arguments, read.call.name
    new, whole = dict(read.places), range(len(read.dims))
    along = [d % len(read.dims) for d in given.get("dims") or whole]
    if name == "rot90":
        turns = given.get("k", 1) % 4
        along = [d % len(read.dims) for d in given.get("dims", (0, 1))]
        along = {0: [], 1: along[1:], 2: along, 3: along[:1]}[turns]
    for number, dim in enumerate(along):
        axes = {letter for factor in read.dims[dim] for letter in role(factor.sizes)}
        if any(factor.grid for factor in read.dims[dim]) and not axes:
            return read.refused("it moves the cells of a growing grid")
        if name == "roll":
            shifts = [_listed(call.arguments["shifts"])[number] for call in read.calls]
            if not given.get("dims") or len(axes) > 1:
                if axes and role((shifts[0], shifts[1], shifts[2])):
                    return read.refused(ORDER)
                continue
            axis = _axis(read.dims[dim])
            share = _share(shifts, product(read.dims[dim]), axis) % 1 if axis else Fraction(0)
            if share:
                place = new.get(axis, WHOLE)
                start = place.start - share * place.length
                if not place.is_part:
                    start %= 1 if place.length > 0 else -1
                    start += 1 if place.length < 0 and start <= 0 else 0
                new[axis] = Place(start, start + place.length, read.index)
            continue
        for axis in axes:
            place = new.get(axis, WHOLE)
            new[axis] = Place(place.end, place.start, read.index)
    return read.at(new)


def _listed(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _padded(read: _OneMap) -> Effect:
    """Handle padding: a constant is a margin, a share of the map moves its pixels."""
    key = "pad" if read.call.name == "constant_pad_nd" else "padding"
    pads = [list(call.arguments[key]) for call in read.calls]
    new = dict(read.places)
    for number in range(len(pads[0]) // 2):
        dim = read.dims[-1 - number]
        axis, whole = _axis(dim), product(dim)
        before, after = ([p[2 * number + side] for p in pads] for side in (0, 1))
        if not axis:
            grows = any(role((p[0], p[1], p[2])) for p in (before, after))
            if grows and roles([dim]):  # flattened pixels; a statistic may be spread
                return read.refused("its padding grows with the image")
            continue
        left, right = _share(before, whole, axis), _share(after, whole, axis)
        if (left > 0 or right > 0) and read.call.name in PADS:
            return read.refused("its padding grows with the image")
        if left or right:
            new[axis] = new.get(axis, WHOLE).part(-left, 1 + right, read.index)
    return read.at(new)


def _repeated(read: _OneMap) -> Effect:
    """Copies of a tensor, side by side."""
    times = list(read.call.arguments["repeats"])[-len(read.dims) :]
    if any(roles([dim]) and n != 1 for dim, n in zip(read.dims, times, strict=True)):
        return read.refused("it puts copies of the map side by side")
    return read.at(read.places)


# The argument that names the dim along which values move; None for all dims that are indexed.
_AT_PLACES = {
    **dict.fromkeys("index index_put take grid_sampler_2d grid_sampler_3d".split()),
    **dict.fromkeys(
        "index_select gather scatter scatter_add scatter_reduce index_add index_copy index_fill "
        "index_reduce".split(),
        "dim",
    ),
}
_WRITES = frozenset(_AT_PLACES) - {
    "index", "take", "grid_sampler_2d", "grid_sampler_3d", "index_select", "gather",
}  # fmt: skip


def _at_positions(read: _OneMap) -> Effect:
    """Reads and writes at computed positions."""
    along = range(len(read.dims))
    if _AT_PLACES[read.call.name] == "dim":
        along = range(d := read.call.arguments["dim"] % len(read.dims), d + 1)
    elif read.call.name in ("index", "index_put"):
        given = read.call.arguments["indices"]
        along = [d for d, each in enumerate(given) if each is not None]  # type: ignore[assignment]
    if any(roles([read.dims[d]]) or any(factor.grid for factor in read.dims[d]) for d in along):
        return read.refused(POSITIONS)
    return read.at(read.places)


def _joined(
    index: int,
    calls: Calls,
    operands: Sequence[tuple[Operand, Places]],
    outputs: tuple[tuple[Dim, ...], ...],
) -> Effect:
    """Concatenation: along an axis, the parts must follow each other."""
    (out,) = outputs
    dim = calls[0].arguments.get("dim", 0) % len(out)
    along = roles([out[dim]])
    found: Places = {}
    for (_, dims), where in operands:
        for axis in roles(dims):
            place = where.get(axis, WHOLE)
            if axis not in found:
                found[axis] = place
            elif axis not in along or axis not in roles([dims[dim]]):
                if not found[axis].same(place):
                    return Effect(({},), problem=OTHER)
            elif found[axis].end == place.start:
                found[axis] = Place(found[axis].start, place.end, index)
            else:
                return Effect(({},), problem="it puts maps, or parts of a map, side by side")
    return Effect((_moved_only(found),))
