"""A captured block: its graph, with its maps, batches and global operations."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from glocal.conversion.rewrite.dtypes import Follows
from glocal.conversion.rewrite.nodes import argument, is_size, operation, tensor_inputs
from glocal.conversion.rewrite.program import Input
from glocal.errors import ConversionError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Global
from glocal.scanning.dims import Dim, Sizes, role

__all__ = ["Block", "MapDims"]


# Operations with a dim along which no values are combined or selected.
_KEEP_IMAGES = frozenset("squeeze unsqueeze expand repeat_interleave stack".split())
_NARROW = (torch.float32, torch.complex64, torch.float16, torch.bfloat16, torch.complex32)


class MapDims(NamedTuple):
    """The dims of a tensor that hold the rows and columns of a feature map.

    Attributes:
        rows, columns: positions of the dims; equal if one dim holds the flattened pixels.
        channels: outer factor of a flattened dim that holds channels as well as pixels.
    """

    rows: int
    columns: int
    channels: int = 1


@dataclass(frozen=True)
class Block:
    """A captured block.

    Attributes:
        graph: aten operations without side effects.
        inputs, call: as in `program.Program`.
        parameters: placeholder names to paths of parameters and buffers.
        constants: placeholder names to tensors.
        outputs: leaves of the result: nodes and constants.
        returns: as in `program.Program`.
        mutated: (leaf, node): the value that the block writes to a tensor argument.
        globals: the global operations by node.
        shapes: shapes of each tensor at the training size, higher, wider, and with another batch.
        dims: dims of each tensor as factors.
        mixing: the nodes whose arithmetic mixes the images of a batch.
        cells_are_channels: True if a map that is cut into a grid of cells is a map of one cell, and
            the cells are channels: nothing in the block mixes them.
        floats: what in the graph follows the floating-point type of the inputs.
        guards: as in `program.Program`.
        padding_guards: those under which the image is padded as in the capture.
        follows_padding: True if the block pads a map by an amount that depends on the image, and
            takes the same path where another amount is needed.
    """

    graph: fx.Graph
    inputs: tuple[Input, ...]
    call: Any
    parameters: dict[str, str]
    constants: dict[str, Tensor]
    outputs: tuple[Any, ...]
    returns: Any
    mutated: tuple[tuple[int, fx.Node], ...]
    globals: dict[fx.Node, Global]
    shapes: dict[fx.Node, tuple[tuple[int, ...], ...]]
    dims: dict[fx.Node, tuple[Dim, ...]]
    mixing: frozenset[fx.Node] = frozenset()
    cells_are_channels: bool = False
    floats: Follows = field(default_factory=Follows)

    @property
    def is_narrow(self) -> bool:
        """True if the block computes in single or half precision whatever its inputs are."""
        leaves = (leaf for n in self.graph.nodes for leaf in tree_leaves((n.args, dict(n.kwargs))))
        own = self.floats.dtype if self.floats.types else None
        return any(t in _NARROW and t != own for t in leaves if isinstance(t, torch.dtype))

    guards: tuple[str, ...] = ()
    padding_guards: tuple[str, ...] = ()
    follows_padding: bool = False

    def map_dims(self, node: fx.Node) -> MapDims | None:
        """Return the dims of the map in a tensor (n, ..., h, w, ...), or None."""
        if not self.is_batched(node):
            return None
        places: list[tuple[int, str]] = []
        channels = 1
        for place, dim in enumerate(self.dims[node]):
            atoms = [atom for atom in dim if atom.sizes != (1, 1, 1)]
            follow = [role(atom.sizes) for atom in atoms]
            if "HW" in follow or (self.counts_cells(dim) and not self.cells_are_channels):
                return None
            if not any(follow):
                continue
            inner = [letter for letter in follow if letter]
            if follow[-len(inner) :] != inner:
                return None
            for atom in atoms[: -len(inner)]:
                channels *= atom.sizes[0]
            places += [(place, letter) for letter in inner]
        if [letter for _, letter in sorted(places, key=lambda p: p[1])] != ["H", "W"]:
            return None
        rows, columns = (place for place, _ in sorted(places, key=lambda p: p[1]))
        transposed = rows == columns and places[0][1] != "H"
        if transposed or (channels > 1 and rows != columns):
            return None
        return MapDims(rows, columns, channels)

    def counts_cells(self, dim: Dim) -> bool:
        """True if a dim counts the cells of a grid, or the pixels of fixed-size cells."""
        return any((atom.grid or atom.cell) and atom.sizes != (1, 1, 1) for atom in dim)

    def has_cells(self, node: fx.Node) -> bool:
        """True if `counts_cells` for a dim of a tensor."""
        return any(self.counts_cells(dim) for dim in self.dims.get(node, ()))

    def require_map_dims(self, node: fx.Node) -> MapDims:
        """Return `map_dims`.

        Raises:
            ConversionError: the tensor is not a map.
        """
        dims = self.map_dims(node)
        if dims is None:
            raise ConversionError(
                f"the rows and columns of a map cannot be identified (result of {operation(node)})"
            )
        return dims

    def is_map(self, node: fx.Node) -> bool:
        """True if the value is a tensor with the rows and columns of one feature map."""
        return node in self.shapes and self.map_dims(node) is not None

    def is_spatial(self, node: fx.Node) -> bool:
        """True if a dim of the tensor changes with the height or width of the image."""
        return any(role(atom.sizes) for dim in self.dims.get(node, ()) for atom in dim)

    def follows(self, node: fx.Node, axes: str) -> bool:
        """True if a dim of the tensor changes with one of these image axes ("H", "W")."""
        return any(self.follows_axis(dim, axes) for dim in self.dims.get(node, ()))

    @staticmethod
    def follows_axis(dim: Dim, axes: str) -> bool:
        """True if a dim changes with one of these axes."""
        return any(set(role(atom.sizes)) & set(axes) for atom in dim)

    def is_number(self, node: fx.Node) -> bool:
        """True for a size, or a tensor without pixels that is computed from sizes alone."""
        if is_size(node):
            return True
        if node.op != "call_function" or node not in self.shapes or self.is_spatial(node):
            return False
        operands = node.all_input_nodes
        return bool(operands) and all(map(self.is_number, operands))

    def is_batched(self, node: fx.Node) -> bool:
        """True if the first dim of the tensor, and no other, is the batch."""
        first, _, _, more = self.shapes[node]
        grows = [a != b for a, b in zip(first, more, strict=True)]
        return bool(grows) and grows[0] and not any(grows[1:])

    @property
    def folds_batch(self) -> bool:
        """True if a tensor has the batch in another dim than its first."""
        return any(self.depends_on_batch(n) and not self.is_batched(n) for n in self.shapes)

    def depends_on_batch(self, node: fx.Node) -> bool:
        """True if any dim of the tensor changes with the batch size."""
        return node in self.shapes and self.shapes[node][0] != self.shapes[node][3]

    def mixes_images(self, node: fx.Node) -> bool:
        """True if a node works along the batch, which also stacks the windows.

        It may combine, select, join or reorder images; a slice of all of them does not count.
        """
        if node in self.mixing:
            return True
        name = operation(node)
        dims = argument(node, "dims" if name in ("flip", "roll") else "dim")
        operands = [n for n in tensor_inputs(node) if n in self.shapes]
        if dims is None or name in _KEEP_IMAGES:
            return False
        if name == "slice" and self.shapes[node] == self.shapes[operands[0]]:
            return False
        listed = [dims] if isinstance(dims, int) else dims
        return any(
            -self.rank(n) <= d < self.rank(n) and self.shapes[n][0][d] != self.shapes[n][3][d]
            for n in operands
            for d in listed
        )

    def map_sizes(self, node: fx.Node) -> tuple[Sizes, Sizes]:
        """Return the height and the width of a map in the three runs of the scan."""
        atoms = [a for d in self.dims[node] for a in d]
        height = next(a.sizes for a in atoms if role(a.sizes) == "H")
        width = next(a.sizes for a in atoms if role(a.sizes) == "W")
        return height, width

    def map_size(self, node: fx.Node) -> Size:
        """Return (height, width) of a map at the training size."""
        height, width = self.map_sizes(node)
        return height[0], width[0]

    def rank(self, node: fx.Node) -> int:
        """Return the number of dims of a tensor."""
        return len(self.shapes[node][0])

    def item_shape(self, node: fx.Node) -> tuple[int, ...]:
        """Return the shape of a tensor at the training size without its first dim."""
        return self.shapes[node][0][1:]
