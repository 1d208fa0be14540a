"""Local forms of statistics: from one value per image to one per window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.nodes import (
    RESIZES,
    argument,
    is_pointwise,
    operation,
    tensor_inputs,
)
from glocal.conversion.rewrite.reductions import kind_text
from glocal.conversion.rewrite.strip_reductions import StripMixingError
from glocal.errors import ConversionError
from glocal.ops.windows import Size
from glocal.scanning.aten import SELECTING
from glocal.scanning.dims import product, role

__all__ = ["StatisticForm", "expands", "form_after"]

_COPIES = ("expand", "repeat", "tile", "repeat_interleave", "replication_pad2d")
_CHUNKS = ("split", "split_with_sizes", "chunk")


@dataclass(frozen=True)
class StatisticForm:
    """What the local form of a statistic looks like.

    Attributes:
        kind: "mean", "amax", ...; that of the first statistic where several are combined.
        map_size: (height, width), at the training size, of the map whose windows it describes.
        item_shape: shape of the original statistic without its first dim.
        is_map: True if it is emitted as a map (n, c, windows down, windows along) for an original
            (n, c, 1, 1); else the windows are stacked on the batch dim, (windows · n, *item_shape).
        axes: the axes of the map that it reduces: "HW"; "W" for one value per row, which has a
            dim that follows "H"; or "H".
    """

    kind: str
    map_size: Size
    item_shape: tuple[int, ...]
    is_map: bool
    axes: str = "HW"

    @property
    def kept(self) -> str:
        """The axis of the map that it still has: "H", "W" or ""."""
        return "".join(axis for axis in "HW" if axis not in self.axes)


def expands(block: Block, node: fx.Node, forms: Mapping[fx.Node, StatisticForm]) -> bool:
    """True if a node copies a statistic to every pixel: its local form need not.

    Args:
        node: reads a statistic.
        forms: of the statistics by node.
    """
    if not block.is_spatial(node) or not _copies(node):
        return False
    operands = tensor_inputs(node)
    lead = next(forms[n] for n in operands if n in forms)
    if lead.kept and not block.is_map(node):
        return False
    maps = [n for n in operands if n not in forms and block.is_spatial(n)]
    return not maps and _without_pixels(block, node, lead.axes) == lead.item_shape


def _copies(node: fx.Node) -> bool:
    """True if a node copies the values of a dim of size 1 along that dim."""
    name = operation(node)
    if name == "pad":
        return bool(argument(node, "mode") == "replicate")
    return name in (*_COPIES, *RESIZES)


def form_after(
    block: Block, node: fx.Node, forms: Mapping[fx.Node, StatisticForm]
) -> StatisticForm:
    """Return the form of the result of a node that reads statistics and no map.

    Args:
        node: reads a statistic.
        forms: of the statistics by node.

    Raises:
        ConversionError: the result has no local form; the message says why.
    """
    name, operands = operation(node), tensor_inputs(node)
    sources = [forms[n] for n in operands if n in forms]
    others = [n for n in operands if n not in forms]
    lead = sources[0]
    what = f"the global {kind_text(lead.kind)}"
    if name in SELECTING:
        raise ConversionError(f"it selects by the rank of {what} ({name})")
    if any(form.map_size != lead.map_size for form in sources):
        raise ConversionError(f"{name} combines statistics of maps of different sizes")
    if name == "type_as" and operands[0] in forms and operands[0] is not operands[-1]:
        return forms[operands[0]]
    if any(form.axes != lead.axes for form in sources):
        raise ConversionError(f"{name} combines statistics over different axes of the map")
    if any(block.follows(n, lead.axes) for n in others) or block.follows(node, lead.axes):
        if name.startswith("conv") and node.args[1] in forms:
            raise ConversionError(f"{what} is used as convolution weights ({name})")
        if lead.kept and name in RESIZES:
            raise StripMixingError(f"{name} resizes {what} of one axis")
        if any(block.follows(n, lead.axes) for n in others) or not is_pointwise(node):
            raise ConversionError(f"{what} meets the map in {name}, which is not pointwise")
        # The statistics were broadcast over the pixels before.
        return replace(lead, item_shape=_without_pixels(block, node, lead.axes), is_map=False)
    if block.mixes_images(node):
        raise ConversionError(f"{name} mixes or selects the images of a batch")
    if lead.kept and node in block.shapes and not block.follows(node, lead.kept):
        raise ConversionError(f"{name} reduces {what} of one axis along the other")
    single = node in block.shapes
    if single and not block.is_batched(node):
        raise ConversionError(f"{name} moves the batch of {what} away from the first dim")
    item_shape = block.item_shape(node) if single else ()
    return replace(lead, item_shape=item_shape, is_map=_runs_on_map(block, node, sources, others))


def _runs_on_map(
    block: Block, node: fx.Node, forms: Sequence[StatisticForm], others: Sequence[fx.Node]
) -> bool:
    """True if the operation does to each pixel of a map what it does to a 1x1 map."""
    name = operation(node)
    if not all(form.is_map for form in forms) or any(
        block.is_number(n) for n in node.all_input_nodes
    ):
        return False
    if any(block.depends_on_batch(n) for n in others):
        return False
    if node in block.shapes:
        item_shape = block.item_shape(node)
        if len(item_shape) != 3 or item_shape[1:] != (1, 1):
            return False
    elif name not in _CHUNKS:
        return False
    if name == "conv2d":
        weight, padding = node.args[1], argument(node, "padding")
        assert isinstance(weight, fx.Node)
        pointwise = block.shapes[weight][0][2:] == (1, 1) and padding in (0, [0, 0])
        return weight in others and pointwise
    if name in ("cat", "softmax", *_CHUNKS):
        return argument(node, "dim") in (1, -3)
    if name in ("mean", "sum", "amax"):
        return argument(node, "dim") in (1, [1])
    return is_pointwise(node) or name in ("getitem", "clone", "_to_copy")


def _without_pixels(block: Block, node: fx.Node, axes: str) -> tuple[int, ...]:
    """Return the shape without the first dim, with 1 for dims that follow these axes."""
    where = block.map_dims(node) if axes == "HW" else None
    return tuple(
        1 if set(role(product(dim))) & set(axes) or (where and place in where[:2]) else size
        for place, (dim, size) in enumerate(
            zip(block.dims[node], block.shapes[node][0], strict=True)
        )
    )[1:]
