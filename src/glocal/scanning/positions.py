"""Positions of a tensor's pixels in the image: mirrored, shifted, or cropped.

A call that returns a map may still combine pixels that are far apart: it adds the map to its
mirror image, or to its other half. So the place of each tensor is tracked along each axis, from
the arguments of the three runs of a scan. Only what grows with the image counts: an offset by a
constant number of pixels is a margin, as a convolution has one.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from glocal.scanning.dims import Dim, Operand, Sizes, product, role, roles
from glocal.scanning.recorder import Call, Ref

__all__ = [
    "MIDDLE",
    "ORDER",
    "POSITIONS",
    "WHOLE",
    "Moved",
    "Place",
    "Places",
    "growing_argument",
    "moved",
    "reading_order",
]


class Place(NamedTuple):
    """The part of an axis of the image that a tensor shows.

    Attributes:
        start, end: of the part, where the axis runs from 0 to 1; start > end if it is mirrored.
        by: index of the call that cut or moved it; -1 if none did.
    """

    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)
    by: int = -1

    @property
    def length(self) -> Fraction:
        """Its signed length."""
        return self.end - self.start

    @property
    def is_part(self) -> bool:
        """It shows less than the whole axis."""
        return abs(self.length) != 1

    @property
    def is_moved(self) -> bool:
        """Its pixels lie elsewhere: mirrored, or shifted by a part of the image."""
        return self.length < 0 or (not self.is_part and self.start != 0)

    def part(self, start: Fraction, end: Fraction, by: int) -> "Place":
        """The part of it from `start` to `end`, as shares of its length."""
        return Place(self.start + start * self.length, self.start + end * self.length, by)

    def same(self, other: "Place") -> bool:
        """Whether it shows the same part."""
        return self[:2] == other[:2]


WHOLE = Place()

Places = dict[str, Place]
"""By axis, "H" or "W"; the whole axis if it is absent."""

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


Calls = tuple[Call, Call, Call]
"""One call in the three runs."""

# Pixels that sizes which are rounded, or grow by a margin, may differ from a share of the map.
_MARGIN = 2

POSITIONS = "it reads or writes the map at computed positions"
MIDDLE = "it selects values of the map by position"
_OTHER = "it combines a map with a mirrored, shifted or cropped copy of it, or a statistic of one"
ORDER = "it reads the pixels in another order"
_POOLS = frozenset(
    "avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool2d_with_indices max_pool3d_with_indices "
    "im2col col2im convolution convolution_overrideable mkldnn_convolution cudnn_convolution "
    "max_unpool2d".split()
)
_PADS = frozenset(
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d".split()
)
# Integer arguments that may change with the image, because the shape of the output or the code
# below accounts for them.
_SIZES = {
    **dict.fromkeys(
        "view _unsafe_view _reshape_alias expand as_strided zeros ones empty full rand randn "
        "new_zeros new_ones new_empty new_full new_empty_strided empty_strided resize "
        "_reshape_copy".split(),
        frozenset(["size", "stride", "storage_offset"]),
    ),
    **dict.fromkeys(["slice", "slice_scatter"], frozenset(["start", "end"])),
    **dict.fromkeys(["select", "select_scatter"], frozenset(["index"])),
    "split": frozenset(["split_size"]),
    "split_with_sizes": frozenset(["split_sizes"]),
    "constant_pad_nd": frozenset(["pad"]),
    **dict.fromkeys(_PADS, frozenset(["padding"])),
    "roll": frozenset(["shifts"]),
    "col2im": frozenset(["output_size"]),
    "max_unpool2d": frozenset(["output_size"]),
    "unfold": frozenset(["size"]),
    "repeat": frozenset(["repeats"]),
    "native_layer_norm": frozenset(["normalized_shape"]),
    "native_group_norm": frozenset(["N", "C", "HxW", "group"]),
    **dict.fromkeys(["arange", "linspace", "fill", "scalar_tensor", "masked_fill"], None),
}


def growing_argument(calls: Calls) -> str | None:
    """Why an integer argument that changes between the runs makes a call global."""
    call = calls[0]
    if call.name == "unfold" and call.arguments["size"] != calls[1].arguments["size"]:
        count = call.arguments["dimension"]
        if len({each.outputs[0][count] for each in calls}) > 1:
            return "its windows grow with the image"
    weight = call.arguments.get("weight")
    if (
        "convolution" in call.name
        and isinstance(weight, Ref)
        and any(weight.shape[2:] != each.arguments["weight"].shape[2:] for each in calls[1:])
    ):
        return "its kernel grows with the image"
    allowed = _SIZES.get(call.name, frozenset[str]())
    if _resamples(call):
        return _growing_cells(calls)
    if call.pointwise or allowed is None:
        return None
    for name, value in call.arguments.items():
        values = (value, *(other.arguments.get(name) for other in calls[1:]))
        if name in allowed or not _is_int(value) or all(v == value for v in values[1:]):
            continue
        if call.name in _POOLS:
            what = {"kernel_size": "kernel", "dilation": "kernel"}.get(name, name)
            return f"its {what} grows with the image"
        return f"its argument '{name}' changes with the image size"
    return None


def _resamples(call: Call) -> bool:
    return "adaptive" in call.name or call.name.startswith(("upsample", "_upsample"))


def _growing_cells(calls: Calls) -> str | None:
    """Whether a resized map has another scale at another image size."""
    (ref, *_), out = calls[0].refs(), calls[0].outputs[0]
    for d in range(2, len(ref.shape)):
        for other in calls[1:]:
            n, m = ref.shape[d], other.refs()[0].shape[d]
            if n == m:
                continue
            share = Fraction(other.outputs[0][d] - out[d], m - n)
            if share and abs(out[d] - share * n) > _MARGIN:
                return "the scale by which it resizes the map changes with the image size"
    return None


def _is_int(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(each, int) for each in value)
    return isinstance(value, int)


class _OnePart(NamedTuple):
    """`Moved` for one part of the batch."""

    outputs: tuple[Places, ...]
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
        return plain._replace(problem=_OTHER)
    parts = []
    for number in range(len(shares)):
        given = [
            (operand, layout[number if len(layout) > 1 else 0][1]) for operand, layout in operands
        ]
        parts.append(_moved_part(index, calls, given, outputs))
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


def _global(outputs: tuple[tuple[Dim, ...], ...], problem: str) -> _OnePart:
    """The result for a call that is global for this reason."""
    return _OnePart(tuple({} for _ in outputs), problem=problem)


def _moved_part(
    index: int,
    calls: Calls,
    operands: Sequence[tuple[Operand, Places]],
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
    """`moved` for one part of the batch."""
    name = calls[0].name
    (ref, dims), places = operands[0]
    given = calls[0].arguments
    if any(given.get(argument) is ref for argument in ("self", "input")):
        if name in ("slice", "select", "split", "split_with_sizes", "unbind"):
            return _cut(index, calls, dims, places, outputs)
        if name in ("flip", "roll", "rot90"):
            return _turned(index, calls, dims, places, outputs)
        if name == "constant_pad_nd" or name in _PADS:
            return _padded(index, calls, dims, places, outputs)
        if name == "repeat":
            return _repeated(calls, dims, places, outputs)
        if name in _AT_PLACES:
            return _at_positions(calls[0], dims, places, outputs)
    elif name in _WRITES:  # the image's values into a buffer
        return _at_positions(calls[0], outputs[0], {}, outputs)
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
                return _global(outputs, _OTHER)
    return _OnePart(tuple(_moved_only(found) for _ in outputs))


def reading_order(dims: Sequence[Dim]) -> str:
    """The axes in the order in which the values of a tensor lie: "HW", "WH", "H", ...

    >>> from glocal.scanning.dims import dims_of_shapes
    >>> reading_order(dims_of_shapes((3, 8, 6), (3, 16, 6), (3, 8, 12)))
    'HW'
    """
    return "".join(role(factor.sizes) for dim in dims for factor in dim)


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


def _cut(
    index: int,
    calls: Calls,
    dims: tuple[Dim, ...],
    places: Places,
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
    """Slices and parts of one dim."""
    given = calls[0].arguments
    dim = given.get("dim", 0) % len(dims)
    whole = product(dims[dim])
    axes = {letter for factor in dims[dim] for letter in role(factor.sizes)}
    if not axes:
        return _OnePart(tuple(_moved_only(places) for out in outputs))
    if any(factor.joined for factor in dims[dim]):  # the rows or the columns of a joined strip
        return _OnePart(tuple({} for _ in outputs), tuple(frozenset[str]() for _ in outputs))
    axis, made, strips = _axis(dims[dim]), [], []
    starts = [0, 0, 0]
    for number in range(len(calls[0].outputs)):
        if calls[0].name in ("select", "unbind"):
            lengths = [1, 1, 1]
        else:
            lengths = [call.outputs[number][dim] for call in calls]
        step = given.get("step", 1) if calls[0].name == "slice" else 1
        if calls[0].name in ("slice", "select"):
            key = "start" if calls[0].name == "slice" else "index"
            starts = [
                max(0, n + s if s < 0 else min(s, n))
                for n, s in zip(whole, (c.arguments.get(key) or 0 for c in calls), strict=True)
            ]
        if not axis:  # of flattened pixels
            if tuple(lengths) != whole:
                return _global(outputs, MIDDLE)
            made.append(places)
            strips.append(frozenset[str]())
            continue
        start, length = _share(starts, whole, axis), _share(lengths, whole, axis) * step
        if not length and start not in (0, 1):
            return _global(outputs, MIDDLE)
        strips.append(frozenset([axis] if not length else []))
        place = places.get(axis, WHOLE)
        if length and (start or length != 1):
            place = place.part(start, start + length, index)
        made.append({**places, axis: place})
        starts = [s + n for s, n in zip(starts, lengths, strict=True)]
    present = tuple(_moved_only(p) for p in made)
    return _OnePart(present, tuple(strips))


def _turned(
    index: int,
    calls: Calls,
    dims: tuple[Dim, ...],
    places: Places,
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
    """Flips, rolls and rotations."""
    given, name = calls[0].arguments, calls[0].name
    new, whole = dict(places), range(len(dims))
    along = [d % len(dims) for d in given.get("dims") or whole]
    if name == "rot90":
        turns = given.get("k", 1) % 4
        along = [d % len(dims) for d in given.get("dims", (0, 1))]
        along = {0: [], 1: along[1:], 2: along, 3: along[:1]}[turns]
    for number, dim in enumerate(along):
        axes = {letter for factor in dims[dim] for letter in role(factor.sizes)}
        if any(factor.grid for factor in dims[dim]) and not axes:
            return _global(outputs, "it moves the cells of a growing grid")
        if name == "roll":
            shifts = [_listed(call.arguments["shifts"])[number] for call in calls]
            if not given.get("dims") or len(axes) > 1:
                if axes and role((shifts[0], shifts[1], shifts[2])):
                    return _global(outputs, ORDER)
                continue
            axis = _axis(dims[dim])
            share = _share(shifts, product(dims[dim]), axis) % 1 if axis else Fraction(0)
            if share:
                place = new.get(axis, WHOLE)
                start = place.start - share * place.length
                if not place.is_part:
                    start %= 1 if place.length > 0 else -1
                    start += 1 if place.length < 0 and start <= 0 else 0
                new[axis] = Place(start, start + place.length, index)
            continue
        for axis in axes:
            place = new.get(axis, WHOLE)
            new[axis] = Place(place.end, place.start, index)
    new = {axis: WHOLE if place.same(WHOLE) else place for axis, place in new.items()}
    return _OnePart(tuple(_moved_only(new) for out in outputs))


def _listed(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _padded(
    index: int,
    calls: Calls,
    dims: tuple[Dim, ...],
    places: Places,
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
    """Handle padding: a constant is a margin, a share of the map moves its pixels."""
    key = "pad" if calls[0].name == "constant_pad_nd" else "padding"
    pads = [list(call.arguments[key]) for call in calls]
    new = dict(places)
    for number in range(len(pads[0]) // 2):
        dim = dims[-1 - number]
        axis, whole = _axis(dim), product(dim)
        before, after = ([p[2 * number + side] for p in pads] for side in (0, 1))
        if not axis:
            grows = any(role((p[0], p[1], p[2])) for p in (before, after))
            if grows and roles([dim]):  # flattened pixels; a statistic may be spread
                return _global(outputs, "its padding grows with the image")
            continue
        left, right = _share(before, whole, axis), _share(after, whole, axis)
        if (left > 0 or right > 0) and calls[0].name in _PADS:
            return _global(outputs, "its padding grows with the image")
        if left or right:
            place = new.get(axis, WHOLE).part(-left, 1 + right, index)
            new[axis] = WHOLE if place.same(WHOLE) else place
    return _OnePart(tuple(_moved_only(new) for out in outputs))


def _repeated(
    calls: Calls,
    dims: tuple[Dim, ...],
    places: Places,
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
    times = list(calls[0].arguments["repeats"])[-len(dims) :]
    if any(roles([dim]) and n != 1 for dim, n in zip(dims, times, strict=True)):
        return _global(outputs, "it puts copies of the map side by side")
    return _OnePart(tuple(_moved_only(places) for out in outputs))


# The argument that names the dim along which values move; None for all dims that are indexed.
_AT_PLACES = {
    "index": None,
    "index_put": None,
    "take": None,
    "grid_sampler_2d": None,
    "grid_sampler_3d": None,
    **dict.fromkeys(
        "index_select gather scatter scatter_add scatter_reduce index_add index_copy index_fill "
        "index_reduce".split(),
        "dim",
    ),
}
_WRITES = frozenset(_AT_PLACES) - {
    "index", "take", "grid_sampler_2d", "grid_sampler_3d", "index_select", "gather",
}  # fmt: skip


def _at_positions(
    call: Call,
    dims: tuple[Dim, ...],
    places: Places,
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
    along = range(len(dims))
    if _AT_PLACES[call.name] == "dim":
        along = range(d := call.arguments["dim"] % len(dims), d + 1)
    elif call.name in ("index", "index_put"):
        given = call.arguments["indices"]
        along = [d for d, each in enumerate(given) if each is not None]  # type: ignore[assignment]
    if any(roles([dims[d]]) or any(factor.grid for factor in dims[d]) for d in along):
        return _global(outputs, POSITIONS)
    return _OnePart(tuple(_moved_only(places) for out in outputs))


def _joined(
    index: int,
    calls: Calls,
    operands: Sequence[tuple[Operand, Places]],
    outputs: tuple[tuple[Dim, ...], ...],
) -> _OnePart:
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
                    return _OnePart(({},), problem=_OTHER)
            elif found[axis].end == place.start:
                found[axis] = Place(found[axis].start, place.end, index)
            else:
                return _OnePart(({},), problem="it puts maps, or parts of a map, side by side")
    found = {axis: WHOLE if place.same(WHOLE) else place for axis, place in found.items()}
    return _OnePart((_moved_only(found),))
