"""Normalise the arguments of a block, to capture it for every height and width.

Flattened pixels are unflattened, and a height or width among the arguments is read from the
shape of a tensor, so that each size has one source.
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

__all__ = ["Arguments", "BatchError", "TensorInput", "TooSmallError", "read_arguments"]

Shape = tuple[int, ...]


class TooSmallError(ConversionError):
    """The block lacks something that the module around it may have."""


class BatchError(ConversionError):
    """The code of the block does not treat the batch as a dim of its own."""


class TensorInput(NamedTuple):
    """A tensor argument with unflattened pixels, and its shape in three runs."""

    shapes: tuple[Shape, Shape, Shape]
    dtype: torch.dtype

    def with_batch(self, run: int, images: int) -> Shape:
        """The shape in a run with another batch size; a scan runs one image."""
        shape = self.shapes[run]
        return (images, *shape[1:]) if shape and shape[0] == 1 else shape


@dataclass(frozen=True)
class Arguments:
    """The arguments of a block.

    Attributes:
        inputs: one for each leaf of (args, kwargs), as in `program.Program`.
        structure: pytree of (args, kwargs).
        tensors: the tensors among the leaves, in order.
        leaves: the leaves in the first run.
        size_sources: for each leaf that is a height or width, the (tensor, dim) with that size.
    """

    inputs: tuple[Input, ...]
    structure: TreeSpec
    tensors: tuple[TensorInput, ...]
    leaves: tuple[Any, ...]
    size_sources: dict[int, tuple[int, int]]

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """Returns (args, kwargs) of the block for these tensors."""
        made: list[Any] = []
        queue = iter(tensors)
        for place, given in enumerate(self.inputs):
            if given.name is not None:
                tensor = next(queue)
                if given.pixels is not None:
                    tensor = tensor.flatten(given.pixels, given.pixels + 1)
                made.append(tensor)
            elif place in self.size_sources:
                source, dim = self.size_sources[place]
                made.append(tensors[source].shape[dim])
            else:
                made.append(self.leaves[place])
        return tree_unflatten(made, self.structure)


def read_arguments(runs: Sequence[Any]) -> Arguments:
    """Compares the arguments of a block in the three runs of a scan.

    Args:
        runs: (args, kwargs) of each run, with `Spec`s for tensors.

    Raises:
        ConversionError: the arguments depend on the image size, or none of them is a map.
    """
    flat = [tree_flatten(run) for run in runs]
    structure = flat[0][1]
    if any(other != structure for _, other in flat[1:]):
        raise ConversionError("the block is called with different arguments at different sizes")
    leaves = list(zip(*(values for values, _ in flat), strict=True))
    sizes = {place: role(v) for place, v in enumerate(leaves) if _are_ints(v) and role(v)}
    area = _area(sizes)
    inputs: list[Input] = []
    tensors: list[TensorInput] = []
    sources: dict[tuple[int, ...], tuple[int, int]] = {}
    for place, values in enumerate(leaves):
        if not isinstance(values[0], Spec):
            if place not in sizes and any(v is not values[0] and v != values[0] for v in values):
                raise ConversionError(f"argument {place} of the block depends on the image size")
            inputs.append(Input(None) if place in sizes else Input(None, fixed=values[0]))
            continue
        shapes = [tuple(spec.shape) for spec in values]
        lengths_of = list(zip(*shapes, strict=True))
        known = tuple(n[0] if d and not role(n) else None for d, n in enumerate(lengths_of))
        pixels = next((d for d, n in enumerate(zip(*shapes, strict=True)) if role(n) == "HW"), None)
        if pixels is not None:
            images = area and list(zip(leaves[area[0]], leaves[area[1]], strict=True))
            if not images or any(
                s[pixels] != h * w for s, (h, w) in zip(shapes, images, strict=True)
            ):
                raise TooSmallError(
                    "the block receives flattened pixels without their height and width"
                )
            shapes = [
                (*s[:pixels], *image, *s[pixels + 1 :])
                for s, image in zip(shapes, images, strict=True)
            ]
        for dim, lengths in enumerate(zip(*shapes, strict=True)):
            if role(lengths):
                sources.setdefault(lengths, (len(tensors), dim))
        inputs.append(Input(str(place), pixels, None if pixels is None else area, shape=known))
        tensors.append(TensorInput((shapes[0], shapes[1], shapes[2]), values[0].dtype))
    if not sources:
        raise TooSmallError("no argument of the block is a feature map")
    if any(leaves[place] not in sources for place in sizes):
        raise TooSmallError("an argument of the block is a size that none of its tensors has")
    size_sources = {place: sources[leaves[place]] for place in sizes}
    first = tuple(values[0] for values in leaves)
    return Arguments(tuple(inputs), structure, tuple(tensors), first, size_sources)


def _are_ints(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _area(sizes: dict[int, str]) -> tuple[int, int] | None:
    """Returns the positions of a height and a width among the leaves."""
    rows, columns = ([place for place, r in sizes.items() if r == axis] for axis in "HW")
    return (rows[0], columns[0]) if rows and columns else None
