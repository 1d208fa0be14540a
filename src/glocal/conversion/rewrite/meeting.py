"""Products and filters that combine statistics with a map.

A colour matrix or a filter that is predicted from a pooled map is a statistic. In its local form
each pixel has its own matrix or filter, that of its window, and the operation applies it there:
out[p] = matrix[window of p] · x[p], and for a filter the sum of its taps times the shifted map.
"""

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from glocal.conversion.rewrite.block import Block, MapDims
from glocal.conversion.rewrite.nodes import argument, is_pointwise, is_view, operation
from glocal.scanning.dims import role

__all__ = [
    "DROPPED",
    "MOST_VALUES",
    "Filter",
    "Product",
    "filter_of",
    "holds_images",
    "pixels_of",
    "product_of",
]

DROPPED = "."
"""In a term: a dim of size 1 that broadcasts, and is left out."""
MOST_VALUES = 1024
"""Values of a predicted matrix or filter up to which each pixel may have its own."""


@dataclass(frozen=True)
class Product:
    """A product of a map, statistics and other tensors, which sums over no pixels.

    Attributes:
        operands: the factors.
        terms: a letter for each dim of each operand but its pixels; equal letters are multiplied.
        result: the letters of the result, which has pixels. Other letters are summed.
        summed: those letters, and the sizes of their dims.
        values: of a statistic for each image, at most.
        added: a tensor to which the product is added, or None.
    """

    operands: tuple[fx.Node, ...]
    terms: tuple[str, ...]
    result: str
    summed: dict[str, int]
    values: int
    added: fx.Node | None = None


@dataclass(frozen=True)
class Filter:
    """A convolution of each image of a batch with its own, predicted weights.

    Attributes:
        source: the map (1, images · channels, h, w), or (images, channels, h, w) for one image.
        weight, bias: predicted: (images · out, channels / groups, kh, kw), and (images · out).
        shape: of the weights of an image: (groups, out, channels, kh, kw), the latter two of
            channels in a group.
        padding: at each end of rows and columns.
    """

    source: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    shape: tuple[int, int, int, int, int]
    padding: tuple[int, int]


def product_of(block: Block, node: fx.Node) -> Product | None:
    """Return the product of a node if each pixel may have a matrix of its own.

    Args:
        block: the block of the node.
        node: any operation.

    Returns:
        None if the node is no product of a map and values per image, or sums over pixels.
    """
    labelled = _labelled(block, node)
    where = block.map_dims(node) if node in block.shapes else None
    if labelled is None or where is None or where.channels > 1:
        return None
    operands, terms, result = labelled
    pixels = {result[where.rows], result[where.columns]}
    images, values, found = result[0], 0, []
    sizes: dict[str, int] = {}
    for operand, term in zip(operands, terms, strict=True):
        if block.is_spatial(operand):
            place = pixels_of(block, operand)
            if place is None or place.channels > 1 or (images in term) != (term[0] == images):
                return None
            if block.depends_on_batch(operand) and term[0] != images:
                return None
            if [term[d] for d in place[:2]] != [result[d] for d in where[:2]]:
                return None
        elif block.depends_on_batch(operand):
            if not block.is_batched(operand) or term[0] != images:
                return None
            values = max(values, math.prod(block.item_shape(operand)))
        elif images in term:
            return None
        if not block.is_spatial(operand) and pixels & set(term):
            return None
        sizes.update(zip(term, block.shapes[operand][0], strict=True))
        found.append("".join(letter for letter in term if letter not in pixels))
    kept = "".join(letter for letter in result if letter not in pixels)
    letters = "".join(dict.fromkeys("".join(found))).replace(DROPPED, "")
    if not set(kept) <= set(letters):
        return None
    summed = {letter: sizes[letter] for letter in letters if letter not in kept}
    added = node.args[0] if operation(node) == "baddbmm" else None
    assert added is None or isinstance(added, fx.Node)
    return Product(tuple(operands), tuple(found), kept, summed, values, added)


def pixels_of(block: Block, node: fx.Node) -> MapDims | None:
    """Return the dims of the map in a tensor, even without a batch dim."""
    if block.depends_on_batch(node):
        return block.map_dims(node)
    follow = [[role(a.sizes) for a in dim if role(a.sizes)] for dim in block.dims[node]]
    if [f for f in follow if f] not in ([["H"], ["W"]], [["W"], ["H"]]):
        return None
    return MapDims(follow.index(["H"]), follow.index(["W"]))


_Labelled = tuple[Sequence[fx.Node], Sequence[str], str]


def _labelled(block: Block, node: fx.Node) -> _Labelled | None:
    """Return the operands of a product, and the letters of their dims and the result."""
    name = operation(node)
    if name == "einsum":
        return _of_einsum(block, node)
    if name == "baddbmm":
        if node.kwargs.get("alpha", 1) != 1 or node.kwargs.get("beta", 1) != 1:
            return None
        pair = node.args[1:3]
    elif name in ("matmul", "bmm"):
        pair = node.args[:2]
    else:
        return None
    a, b = pair
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
        return None
    if min(block.rank(a), block.rank(b)) < 2:
        return None
    outer = string.ascii_lowercase[: max(block.rank(a), block.rank(b)) - 2]
    left = outer[len(outer) - block.rank(a) + 2 :] + "XY"
    right = outer[len(outer) - block.rank(b) + 2 :] + "YZ"
    return _broadcast(block, [a, b], [left, right], outer + "XZ")


def _of_einsum(block: Block, node: fx.Node) -> _Labelled | None:
    equation, operands = node.args[0], node.args[1]
    assert isinstance(equation, str)
    assert isinstance(operands, Sequence)
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = [n for n in string.ascii_letters if n not in equation]
    ranks = [block.rank(n) for n in operands]  # type: ignore[arg-type]
    more = max((r - len(t) + 3 for r, t in zip(ranks, terms, strict=True) if "..." in t), default=0)
    rest = "".join(letters[:more])
    terms = [
        t.replace("...", rest[more - (r - len(t) + 3) :] if "..." in t else "")
        for r, t in zip(ranks, terms, strict=True)
    ]
    if not arrow:
        joined = "".join(terms)
        result = rest + "".join(sorted({n for n in joined if joined.count(n) == 1} - set(rest)))
    result = result.replace("...", rest)
    if any(len(set(t)) != len(t) for t in terms):
        return None
    return _broadcast(block, list(operands), terms, result)  # type: ignore[arg-type]


def _broadcast(
    block: Block, operands: Sequence[fx.Node], terms: Sequence[str], result: str
) -> _Labelled:
    """Mark dims of size 1 that broadcast against those of another operand."""
    sizes: dict[str, int] = {}
    for operand, term in zip(operands, terms, strict=True):
        for letter, size in zip(term, block.shapes[operand][3], strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    marked = [
        "".join(
            DROPPED if size == 1 < sizes[letter] else letter
            for letter, size in zip(term, block.shapes[operand][3], strict=True)
        )
        for operand, term in zip(operands, terms, strict=True)
    ]
    return operands, marked, result


def filter_of(block: Block, node: fx.Node) -> Filter | None:
    """Return the filter of a convolution whose weights depend on the image, or None.

    That is the form conv2d(x.view(1, b · c, h, w), weight.view(b · o, i, kh, kw), groups=b · g).
    """
    if operation(node) != "conv2d":
        return None
    source, weight, bias = (argument(node, name) for name in ("input", "weight", "bias"))
    if not (isinstance(weight, fx.Node) and isinstance(source, fx.Node)):
        return None
    if block.is_spatial(weight) or not block.is_batched(weight) or not holds_images(block, source):
        return None
    if not _is_upright(block, node) or (bias is not None and not block.is_batched(bias)):
        return None
    inner, kh, kw = block.item_shape(weight)
    out = block.shapes[weight][3][0] - block.shapes[weight][0][0]  # of one image more
    channels = block.shapes[source][3][1] - block.shapes[source][0][1]
    groups = channels // inner
    padding = _padding(node, (kh, kw))
    if padding is None or out * inner * kh * kw > MOST_VALUES:
        return None
    return Filter(source, weight, bias, (groups, out // groups, inner, kh, kw), padding)


def _padding(node: fx.Node, kernel: tuple[int, int]) -> tuple[int, int] | None:
    """Return the padding of a convolution; None if both ends of an axis differ."""
    given, dilation = argument(node, "padding"), argument(node, "dilation")
    if given == "valid":
        return 0, 0
    if given == "same":
        total = [dilation[d % len(dilation)] * (k - 1) for d, k in enumerate(kernel)]
        return None if any(n % 2 for n in total) else (total[0] // 2, total[1] // 2)
    return given[0], given[-1]


def _is_upright(block: Block, node: fx.Node) -> bool:
    """True for a tensor of four dims, the last two being rows and columns."""
    follow = [[role(a.sizes) for a in dim if role(a.sizes)] for dim in block.dims[node]]
    return follow == [[], [], ["H"], ["W"]]


def holds_images(block: Block, node: Any) -> bool:
    """True for a map (1, images · channels, h, w) that is a view of (images, ...)."""
    first, _, _, more = block.shapes[node]
    grows = [a != b for a, b in zip(first, more, strict=True)]
    if first[0] != 1 or grows != [False, True, False, False] or not _is_upright(block, node):
        return False
    source = node
    while operation(source) in ("pad", "clone", "contiguous") or is_pointwise(source):
        inputs = [n for n in source.all_input_nodes if n in block.shapes]
        if len(inputs) != 1:
            return False
        source = inputs[0]
    before = source.all_input_nodes[0] if source.all_input_nodes else source
    return (
        is_view(source)
        and operation(source) in ("view", "reshape", "_unsafe_view")
        and (
            before in block.shapes
            and block.is_batched(before)
            and block.map_dims(before) is not None
        )
    )
