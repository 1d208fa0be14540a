"""Dims of tensors in three runs: at the training size, higher, and wider.

A size that changes with the height of the input *follows* H; one that changes with the width
follows W. A dim is a sequence of factors, outermost first: after a view merges dims, or splits
one, the factors still tell which part follows which axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

from glocal.scanning.recorder import Call, Ref

__all__ = [
    "Dim",
    "Factor",
    "MapSize",
    "Operand",
    "Sizes",
    "dims_of_shapes",
    "inherit",
    "joined",
    "map_size",
    "permuted",
    "product",
    "regroup",
    "role",
    "roles",
    "unfolded",
    "windowed",
]

Sizes = tuple[int, int, int]
"""One size in the three runs."""

MapSize = tuple[Sizes, Sizes]
"""Height and width of a map."""


class Factor(NamedTuple):
    """A factor of a dim.

    Attributes:
        sizes: its size in the three runs.
        grid: "H" or "W" if it is the constant outer part of that axis. It counts the cells of a
            grid; the cells grow with the image.
        cell: "H" or "W" if it is the constant inner part of that axis: a cell of fixed size.
        joined: it is a height plus a width, of rows and columns that are joined to one strip.
    """

    sizes: Sizes
    grid: str = ""
    cell: str = ""
    joined: bool = False


ONE = Factor((1, 1, 1))

Dim = tuple[Factor, ...]
"""A dim: its factors, outermost first."""

Operand = tuple[Ref, tuple[Dim, ...]]
"""A tensor that a call reads, and its dims."""


def role(sizes: Sizes) -> str:
    """What a size follows: "H", "W", "HW" (both) or "" (neither).

    >>> role((64, 128, 64)), role((4096, 8192, 8192)), role((3, 3, 3))
    ('H', 'HW', '')
    """
    first, higher, wider = sizes
    return ("H" if higher != first else "") + ("W" if wider != first else "")


def roles(dims: Sequence[Dim]) -> set[str]:
    """The axes that any factor of these dims follows: a subset of {"H", "W"}.

    >>> sorted(roles(dims_of_shapes((1, 3, 8, 8), (1, 3, 16, 8), (1, 3, 8, 16))))
    ['H', 'W']
    """
    return {axis for dim in dims for factor in dim for axis in role(factor.sizes)}


def dims_of_shapes(
    first: Sequence[int], higher: Sequence[int], wider: Sequence[int]
) -> tuple[Dim, ...]:
    """Dims of one factor each, from the shapes of a tensor in the three runs.

    >>> dims_of_shapes((3, 8), (3, 16), (3, 8))[1]
    (Factor(sizes=(8, 16, 8), grid='', cell='', joined=False),)
    """
    return tuple((Factor(sizes),) for sizes in zip(first, higher, wider, strict=True))


def product(dim: Dim) -> Sizes:
    """The size of a dim in the three runs.

    >>> product((Factor((8, 16, 8)), Factor((4, 4, 8))))
    (32, 64, 64)
    """
    a = b = c = 1
    for factor in dim:
        a, b, c = a * factor.sizes[0], b * factor.sizes[1], c * factor.sizes[2]
    return (a, b, c)


def map_size(refs: list[Operand]) -> MapSize | None:
    """Height and width of the first tensor that has both; None if no tensor has."""
    for _, dims in refs:
        found = []
        for axis in "HW":
            whole = next((dim for dim in dims if _following(dim, axis)), None)
            if whole is None:
                continue
            # A view puts the part that it splits off an axis beside the rest, or into a dim of its
            # own. Attention scores have that dim twice; it counts once.
            apart = (_split_off(dim, axis) for dim in dims if not _following(dim, axis))
            beside = next((factors for factors in apart if factors), ())
            found.append(product((_following(whole, axis)[0], *_split_off(whole, axis), *beside)))
        if len(found) == 2:
            return found[0], found[1]
    return None


def _following(dim: Dim, axis: str) -> Dim:
    return tuple(factor for factor in dim if role(factor.sizes) == axis)


def _split_off(dim: Dim, axis: str) -> Dim:
    return tuple(factor for factor in dim if axis in (factor.grid, factor.cell))


def permuted(call: Call, dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Return the dims of the output of a permute, transpose, t or rot90."""
    order = list(range(len(dims)))
    if call.name == "permute":
        order = [d % len(dims) for d in call.arguments["dims"]]
    elif call.name == "rot90":
        if call.arguments.get("k", 1) % 2:
            a, b = call.arguments.get("dims", (0, 1))
            order[a], order[b] = order[b], order[a]
    elif len(dims) >= 2:
        a = call.arguments.get("dim0", 0) % len(dims)
        b = call.arguments.get("dim1", 1) % len(dims)
        order[a], order[b] = order[b], order[a]
    return tuple(dims[d] for d in order)


def unfolded(call: Call, dims: tuple[Dim, ...]) -> Dim:
    """Return the last dim of the output of an unfold (im2col): flattened positions."""
    factors = []
    for axis, dim in enumerate(dims[2:]):
        kernel, dilation, padding, stride = (
            call.arguments[name][axis] for name in ("kernel_size", "dilation", "padding", "stride")
        )
        a, b, c = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size in product(dim)
        )
        factors.append(Factor((a, b, c)))
    return tuple(factors)


def joined(along: int, dims: tuple[Dim, ...], refs: list[Operand]) -> tuple[Dim, ...]:
    """Return the dims of the output of a cat; mark rows joined with columns.

    Args:
        along: the dim of the cat.
        dims: of the output, one factor each.
        refs: the inputs.
    """
    made = [inherit(dim, place - len(dims), refs) for place, dim in enumerate(dims)]
    parts = [read[along] for _, read in refs if -len(read) <= along < len(read)]
    if {role(product(part)) for part in parts} == {"H", "W"}:
        (factor,) = dims[along]
        made[along] = (factor._replace(joined=True),)
    return tuple(made)


def windowed(call: Call, source: tuple[Dim, ...], target: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Return the dims of the output of Tensor.unfold: windows, and values in each.

    Args:
        call: the unfold.
        source: dims of the input.
        target: dims of the output, one factor each.
    """
    place = call.arguments["dimension"] % len(source)
    ((count,), (size,)) = target[place], target[-1]
    axis = "".join(role(factor.sizes) for factor in source[place])
    if len(axis) == 1 and not role(count.sizes) and role(size.sizes):
        count = Factor(count.sizes, axis)
    elif len(axis) == 1 and call.arguments["step"] == call.arguments["size"]:
        size = Factor(size.sizes, "", axis)
    return (*source[:place], (count,), *source[place + 1 :], (size,))


def inherit(dim: Dim, place: int, refs: list[Operand]) -> Dim:
    """Return the factors of an output dim, from an input dim of its size and place.

    Args:
        dim: of the output.
        place: its index from the end, -1 for the last dim, as broadcasting counts.
        refs: the inputs.
    """
    same = [
        dims[place]
        for _, dims in refs
        if -len(dims) <= place and product(dims[place]) == product(dim)
    ]
    # Prefer known grids, then the finest factors: they tell more than one number does.
    return max(same, key=lambda d: (any(f.grid for f in d), len(d)), default=dim)


def regroup(source: tuple[Dim, ...], target: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Dims of the output of a view, with the factors of its input.

    The factors of the input fill the dims of the output in order. One that crosses the border
    between two dims is split there.

    Args:
        source: dims of the input.
        target: dims of the output, one factor each; returned as they are if the sizes of a dim
            cannot be made from whole factors.

    >>> (rows,) = dims_of_shapes((64,), (128,), (64,))
    >>> count, cells = dims_of_shapes((8, 8), (8, 16), (8, 8))
    >>> [factor.grid for (factor,) in regroup((rows,), (count, cells))]  # a grid of 8 growing cells
    ['H', '']
    """
    factors = [f for dim in source for f in dim if f.sizes != ONE.sizes][::-1]
    result: list[Dim] = []
    for dim in target:
        missing, taken = product(dim), []
        while missing != ONE.sizes:
            if not factors:
                return target
            factor = factors.pop()
            if _divides(factor.sizes, missing):
                taken.append(factor)
                missing = _quotient(missing, factor.sizes)
            elif _divides(missing, factor.sizes):
                inner = _quotient(factor.sizes, missing)
                axis = role(factor.sizes)
                outer_is_grid = axis and not role(missing) and role(inner)
                inner_is_cell = axis and role(missing) and not role(inner)
                taken.append(Factor(missing, axis if outer_is_grid else factor.grid, factor.cell))
                factors.append(Factor(inner, factor.grid, axis if inner_is_cell else factor.cell))
                missing = ONE.sizes
            else:
                return target
        if any(set(role(factor.sizes)) - set(role(product(dim))) for factor in taken):
            # The view cuts across the axes: a factor follows an axis that the whole dim does not.
            taken = list(dim)
        result.append(_joined(taken) or (ONE,))
    return tuple(result)


def _joined(dim: Sequence[Factor]) -> Dim:
    """Return a dim with adjacent outer and inner parts of an axis as one factor."""
    joined: list[Factor] = []
    for factor in dim:
        outer = joined[-1] if joined else ONE
        grid_of_cells = outer.grid and not factor.grid and role(factor.sizes) == outer.grid
        cells_of_axis = factor.cell and not outer.cell and role(outer.sizes) == factor.cell
        if grid_of_cells or cells_of_axis:
            joined[-1] = Factor(product((outer, factor)))
        else:
            joined.append(factor)
    return tuple(joined)


def _divides(part: Sizes, whole: Sizes) -> bool:
    return all(p and w % p == 0 for p, w in zip(part, whole, strict=True))


def _quotient(whole: Sizes, part: Sizes) -> Sizes:
    a, b, c = (w // p for w, p in zip(whole, part, strict=True))
    return (a, b, c)
