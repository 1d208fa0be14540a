"""The arguments of a block as maps: what a capture needs of them for every height and width.

A tensor whose pixels are flattened is unflattened, and a height or width among the arguments is
read from a map, so that each size is told in one place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from glocal.conversion.rewrite.program import Input
from glocal.errors import ConversionError
from glocal.scanning.dims import role
from glocal.scanning.trace import Spec

__all__ = ["Arguments", "TensorInput", "TooSmallError", "read_arguments"]

Shape = tuple[int, ...]


class TooSmallError(ConversionError):
    """A block alone is not enough: what it lacks may lie in the module around it."""


class TensorInput(NamedTuple):
    """A tensor among the arguments, its pixels unflattened, with its shape in the three runs."""

    shapes: tuple[Shape, Shape, Shape]
    dtype: torch.dtype

    def batched(self, run: int, images: int) -> Shape:
        """Its shape for so many images; a scan shows one."""
        shape = self.shapes[run]
        return (images, *shape[1:]) if shape and shape[0] == 1 else shape


@dataclass(frozen=True)
class Arguments:
    """How a block is called.

    Attributes:
        inputs: one for each leaf of (args, kwargs), as in `program.Program`.
        structure: of (args, kwargs).
        tensors: the tensors among the leaves, in order.
        leaves: of the first run.
        whence: which tensor and dim tells a leaf that is a size.
    """

    inputs: tuple[Input, ...]
    structure: TreeSpec
    tensors: tuple[TensorInput, ...]
    leaves: tuple[Any, ...]
    whence: dict[int, tuple[int, int]]

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """(args, kwargs) for the block, of its tensors."""
        made: list[Any] = []
        queue = iter(tensors)
        for place, given in enumerate(self.inputs):
            if given.name is not None:
                tensor = next(queue)
                if given.pixels is not None:
                    tensor = tensor.flatten(given.pixels, given.pixels + 1)
                made.append(tensor)
            elif place in self.whence:
                at, dim = self.whence[place]
                made.append(tensors[at].shape[dim])
            else:
                made.append(self.leaves[place])
        return tree_unflatten(made, self.structure)


def read_arguments(runs: Sequence[Any]) -> Arguments:
    """Read how a block was called in three runs of a scan, tensors as `Spec`s.

    Raises:
        ConversionError: it is called otherwise at other sizes, or with no map.
    """
    flat = [tree_flatten(run) for run in runs]
    structure = flat[0][1]
    if any(other != structure for _, other in flat[1:]):
        raise ConversionError("it is called with other arguments at other sizes")
    leaves = list(zip(*(values for values, _ in flat), strict=True))
    sizes = {place: role(v) for place, v in enumerate(leaves) if _are_numbers(v) and role(v)}
    area = _area(sizes)
    inputs: list[Input] = []
    tensors: list[TensorInput] = []
    told: dict[tuple[int, ...], tuple[int, int]] = {}
    for place, values in enumerate(leaves):
        if not isinstance(values[0], Spec):
            if place not in sizes and any(v is not values[0] and v != values[0] for v in values):
                raise ConversionError(f"argument {place} takes other values at other sizes")
            inputs.append(Input(None))
            continue
        shapes = [tuple(spec.shape) for spec in values]
        pixels = next((d for d, n in enumerate(zip(*shapes, strict=True)) if role(n) == "HW"), None)
        if pixels is not None:
            images = area and list(zip(leaves[area[0]], leaves[area[1]], strict=True))
            if not images or any(
                s[pixels] != h * w for s, (h, w) in zip(shapes, images, strict=True)
            ):
                raise TooSmallError("it is given flattened pixels, and not their height and width")
            shapes = [
                (*s[:pixels], *image, *s[pixels + 1 :])
                for s, image in zip(shapes, images, strict=True)
            ]
        for dim, lengths in enumerate(zip(*shapes, strict=True)):
            if role(lengths):
                told.setdefault(lengths, (len(tensors), dim))
        inputs.append(Input(str(place), pixels, None if pixels is None else area))
        tensors.append(TensorInput((shapes[0], shapes[1], shapes[2]), values[0].dtype))
    if not told:
        raise TooSmallError("none of its arguments is a map")
    if any(leaves[place] not in told for place in sizes):
        raise TooSmallError("one of its arguments is a size that none of its maps has")
    whence = {place: told[leaves[place]] for place in sizes}
    first = tuple(values[0] for values in leaves)
    return Arguments(tuple(inputs), structure, tuple(tensors), first, whence)


def _are_numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _area(sizes: dict[int, str]) -> tuple[int, int] | None:
    """Which leaves are a height and a width."""
    rows, columns = ([place for place, r in sizes.items() if r == axis] for axis in "HW")
    return (rows[0], columns[0]) if rows and columns else None
