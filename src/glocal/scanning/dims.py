"""Dims of tensors that were seen in three runs, at the training size, higher and wider.

A dim is a sequence of factors, outermost first, so that what a view has merged can be told apart
again. How a factor changes between the runs is its role: it follows H, W, both or neither.
"""

from collections.abc import Sequence
from typing import NamedTuple

from glocal.scanning.trace import Call, Ref

__all__ = [
    "Atom",
    "Dim",
    "Operand",
    "Sizes",
    "fresh",
    "inherit",
    "map_of",
    "permuted",
    "product",
    "regroup",
    "role",
    "roles",
]

Sizes = tuple[int, int, int]
"""One dim in the three runs."""


class Atom(NamedTuple):
    """A factor of a dim: its size in the three runs, and what it is of the axis it was split off.

    Attributes:
        grid: "H" or "W" for a constant outer part of that axis, which counts cells of a grid.
        cell: "H" or "W" for a constant inner part, a window of fixed size.
    """

    sizes: Sizes
    grid: str = ""
    cell: str = ""


Dim = tuple[Atom, ...]
"""A dim: its factors, outermost first."""

Operand = tuple[Ref, tuple[Dim, ...]]
"""A tensor that a call reads, and its dims."""


def role(sizes: Sizes) -> str:
    """What a size follows: "H", "W", "HW" or "" (nothing).

    >>> role((64, 128, 64)), role((4096, 8192, 8192)), role((3, 3, 3))
    ('H', 'HW', '')
    """
    first, higher, wider = sizes
    return ("H" if higher != first else "") + ("W" if wider != first else "")


def roles(dims: Sequence[Dim]) -> set[str]:
    """All that any factor of these dims follows: a subset of {"H", "W"}."""
    return {letter for dim in dims for atom in dim for letter in role(atom.sizes)}


def fresh(first: Sequence[int], higher: Sequence[int], wider: Sequence[int]) -> tuple[Dim, ...]:
    """Dims of a tensor of unknown making, from its shapes in the three runs."""
    return tuple((Atom(sizes),) for sizes in zip(first, higher, wider, strict=True))


def product(dim: Dim) -> Sizes:
    """The size of a dim in the three runs."""
    a = b = c = 1
    for atom in dim:
        a, b, c = a * atom.sizes[0], b * atom.sizes[1], c * atom.sizes[2]
    return (a, b, c)


def map_of(refs: list[Operand]) -> tuple[Sizes, Sizes] | None:
    """Height and width of the first tensor that has factors for each."""
    for _, dims in refs:
        found = []
        for axis in "HW":
            whole = next((dim for dim in dims if _following(dim, axis)), None)
            if whole is None:
                continue
            # What a view split off the axis lies beside it, or in one dim of its own; attention
            # scores have that one twice.
            apart = (_split_off(dim, axis) for dim in dims if not _following(dim, axis))
            beside = next((atoms for atoms in apart if atoms), ())
            found.append(product((_following(whole, axis)[0], *_split_off(whole, axis), *beside)))
        if len(found) == 2:
            return found[0], found[1]
    return None


def _following(dim: Dim, axis: str) -> Dim:
    return tuple(atom for atom in dim if role(atom.sizes) == axis)


def _split_off(dim: Dim, axis: str) -> Dim:
    return tuple(atom for atom in dim if axis in (atom.grid, atom.cell))


def permuted(call: Call, dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Dims after a permute, transpose or t."""
    order = list(range(len(dims)))
    if call.name == "permute":
        order = [d % len(dims) for d in call.arguments["dims"]]
    elif len(dims) >= 2:
        a = call.arguments.get("dim0", 0) % len(dims)
        b = call.arguments.get("dim1", 1) % len(dims)
        order[a], order[b] = order[b], order[a]
    return tuple(dims[d] for d in order)


def inherit(dim: Dim, place: int, refs: list[Operand]) -> Dim:
    """The factors of an output dim, from an input that has the same dim in the same place."""
    same = [
        dims[place]
        for _, dims in refs
        if -len(dims) <= place and product(dims[place]) == product(dim)
    ]
    # Any factorisation says more than a single number.
    return max(same, key=lambda d: (any(a.grid for a in d), len(d)), default=dim)


def regroup(source: tuple[Dim, ...], target: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Dims after a view: factors are dealt out in order, and split where a dim boundary asks."""
    atoms = [atom for dim in source for atom in dim if atom.sizes != (1, 1, 1)][::-1]
    result: list[Dim] = []
    for dim in target:
        missing, taken = product(dim), []
        while missing != (1, 1, 1):
            if not atoms:
                return target
            atom = atoms.pop()
            if _divides(atom.sizes, missing):
                taken.append(atom)
                missing = _quotient(missing, atom.sizes)
            elif _divides(missing, atom.sizes):
                inner = _quotient(atom.sizes, missing)
                split = role(atom.sizes)
                outer_counts_cells = split and not role(missing) and role(inner)
                inner_is_cell = split and role(missing) and not role(inner)
                taken.append(Atom(missing, split if outer_counts_cells else atom.grid, atom.cell))
                atoms.append(Atom(inner, atom.grid, split if inner_is_cell else atom.cell))
                missing = (1, 1, 1)
            else:
                return target
        if any(set(role(atom.sizes)) - set(role(product(dim))) for atom in taken):
            taken = list(dim)  # cut across: these factors do not tell what the dim follows
        result.append(_whole_axes(taken) or (Atom((1, 1, 1)),))
    return tuple(result)


def _whole_axes(dim: Sequence[Atom]) -> Dim:
    """A dim in which the parts of an axis that lie side by side again are that axis."""
    joined: list[Atom] = []
    for atom in dim:
        outer = joined[-1] if joined else Atom((1, 1, 1))
        of_grid = outer.grid and not atom.grid and role(atom.sizes) == outer.grid
        of_cells = atom.cell and not outer.cell and role(outer.sizes) == atom.cell
        if of_grid or of_cells:
            joined[-1] = Atom(product((outer, atom)))
        else:
            joined.append(atom)
    return tuple(joined)


def _divides(part: Sizes, whole: Sizes) -> bool:
    return all(p and w % p == 0 for p, w in zip(part, whole, strict=True))


def _quotient(whole: Sizes, part: Sizes) -> Sizes:
    a, b, c = (w // p for w, p in zip(whole, part, strict=True))
    return (a, b, c)
