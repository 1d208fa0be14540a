"""Turns a graph that was captured with one image into one for any batch size.

Code such as `for i in range(x.shape[0])` or `x.view(1, b * c, h, w)` has a graph that holds for
one batch size only. Captured with one image it treats that image as the original does. Here the
graph of one image runs on a batch: each value of it gets the batch either as its first dim, in
place of a first dim of one, or in front of all its dims. The caller compares the result with the
original on several images: an operation that mixes images is refused there.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx

from glocal.conversion.rewrite.nodes import REDUCTIONS, is_pointwise, is_size, operation
from glocal.errors import ConversionError

__all__ = ["ImageByImage"]

State = Literal["one", "first", "front"]
"""The dim of the batch:

- one: none; the value is the same for all images
- first: the first dim, which has size 1 in the graph of one image
- front: a new dim before those of the graph of one image
"""

# Operations on (n, c, h, w) that treat each image alone.
_PER_IMAGE = frozenset(
    "conv2d conv1d conv_transpose2d conv_transpose1d avg_pool2d avg_pool1d max_pool2d "
    "max_pool2d_with_indices adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d "
    "upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d pad reflection_pad2d "
    "reflection_pad1d replication_pad2d constant_pad_nd instance_norm group_norm batch_norm "
    "pixel_shuffle pixel_unshuffle im2col col2im grid_sampler prelu _prelu_kernel "
    "channel_shuffle native_channel_shuffle".split()
)
# Operations on the last dims, with any number of dims in front.
_LAST_DIMS = frozenset("linear layer_norm scaled_dot_product_attention".split())
_ELEMENTS = frozenset("clone _to_copy contiguous alias detach dropout zeros_like ones_like".split())
_SIZED = frozenset("view reshape _unsafe_view expand".split())
_PRODUCTS = frozenset("matmul bmm mm".split())
# Operations with one dim as an argument; those in _NEW_DIM make that dim.
_NEW_DIM = frozenset("unsqueeze stack".split())
_ONE_DIM = frozenset(
    "select slice cat split split_with_sizes chunk unbind narrow squeeze softmax _softmax "
    "log_softmax cumsum flip glu unflatten".split()
)


class ImageByImage(fx.Interpreter):
    """Runs a graph of one image on a batch.

    Args:
        graph: aten operations on one image.
        batched: the placeholders whose first dim is the batch.
    """

    def __init__(self, graph: fx.GraphModule, batched: set[fx.Node]) -> None:
        super().__init__(graph)
        self.batched = batched
        self.states: dict[fx.Node, State] = {}
        self.images: Any = None

    def run_node(self, n: fx.Node) -> Any:
        """Run a node on all images, and note where the batch of its result is."""
        if n.op == "placeholder":
            value = super().run_node(n)
            self.states[n] = "first" if n in self.batched else "one"
            if n in self.batched:
                self.images = value.shape[0]
            return value
        if n.op == "output":
            return fx.node.map_arg(n.args[0], self._as_result)
        if operation(n) == "getitem":
            self.states[n] = self.states[n.all_input_nodes[0]]
            return super().run_node(n)
        operands = [p for p in n.all_input_nodes if self.states.get(p, "one") != "one"]
        if operation(n) == "sym_size":
            (source, dim) = n.args
            assert isinstance(source, fx.Node)
            assert isinstance(dim, int)
            return self.env[source].shape[dim + (self.states[source] == "front")]
        if not operands:
            self.states[n] = "one"
            return super().run_node(n)
        rule = self._in_place(n, operands)
        self.states[n] = "first"
        if rule is None:
            self.states[n] = "front"
            rule = self._in_front(n, operands)
        if rule is None:
            raise ConversionError(
                f"{operation(n)} handles the images of a batch in a way that glocal cannot follow"
            )
        return rule()

    def _as_result(self, node: fx.Node) -> Any:
        if self.states[node] == "one":
            return self.env[node]
        if not _is_one(node):
            raise ConversionError("the block returns values that do not start with the batch")
        return self._first(node)

    def _first(self, node: fx.Node) -> Any:
        """The value of a node with the batch as its first dim."""
        value = self.env[node]
        return value.squeeze(1) if self.states.get(node) == "front" else value

    def _front(self, node: fx.Node) -> Any:
        """The value of a node with the batch in front."""
        value = self.env[node]
        return value.unsqueeze(1) if self.states.get(node) == "first" else value

    def _call(self, node: fx.Node, read: Callable[[fx.Node], Any], **changes: Any) -> Any:
        """Call the operation of a node with some arguments changed."""
        args = list(fx.node.map_arg(node.args, read))
        kwargs = dict(fx.node.map_arg(dict(node.kwargs), read))
        for place, known in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            if known.name in changes:
                if place < len(args):
                    args[place] = changes[known.name]
                else:
                    kwargs[known.name] = changes[known.name]
        return node.target(*args, **kwargs)  # type: ignore[operator]

    # ---- the batch in place of a first dim of one

    def _in_place(self, node: fx.Node, operands: Sequence[fx.Node]) -> Callable[[], Any] | None:
        """How a node runs with the batch as the first dim; None if it does not."""
        if not all(_is_one(n) for n in (node, *operands)):
            return None
        name, rank = operation(node), _rank(operands[0])
        if is_pointwise(node):
            alike = all(_rank(n) == _rank(node) for n in operands)
            return (lambda: self._call(node, self._first)) if alike else None
        if name in _SIZED:
            sizes = [self.images, *self._arg(node, "size", "shape")[1:]]
            key = "shape" if name == "reshape" else "size"
            return lambda: self._call(node, self._first, **{key: sizes})
        keeps = False
        if name in _PER_IMAGE or name in _ELEMENTS or name in _LAST_DIMS:
            data = [n for n in operands if n is not node.args[0]]
            keeps = not data or name in _LAST_DIMS | {"grid_sampler"}
            keeps &= not (name == "layer_norm" and len(self._arg(node, "normalized_shape")) == rank)
        elif name in REDUCTIONS:
            dims = self._arg(node, "dim")
            dims = [dims] if isinstance(dims, int) else dims
            keeps = bool(dims) and all(d % rank for d in dims)
        elif name in _ONE_DIM | _NEW_DIM:
            keeps = all(d % (rank + (name in _NEW_DIM)) for d in self._dims(node))
        elif name == "permute":
            keeps = self._arg(node, "dims")[0] % rank == 0
        elif name == "transpose":
            keeps = all(self._arg(node, key) % rank for key in ("dim0", "dim1"))
        elif name in _PRODUCTS:
            alike = all(_rank(n) == rank for n in node.all_input_nodes)
            keeps = name == "matmul" and rank > 2 and alike
        return (lambda: self._call(node, self._first)) if keeps else None

    # ---- the batch in front

    def _in_front(self, node: fx.Node, operands: Sequence[fx.Node]) -> Callable[[], Any] | None:
        """How a node runs with the batch in front of all dims; None if it does not."""
        name, rank = operation(node), _rank(operands[0])
        if is_pointwise(node):
            most = max(_rank(n) for n in node.all_input_nodes if not is_size(n))
            return lambda: self._call(node, lambda n: self._padded(n, most))
        if name in _SIZED:
            sizes = [self.images, *self._arg(node, "size", "shape")]
            key = "shape" if name == "reshape" else "size"
            most = len(sizes) - 1 if name == "expand" else rank
            return lambda: self._call(node, lambda n: self._padded(n, most), **{key: sizes})
        if name in REDUCTIONS and name not in _PER_IMAGE:
            dims = self._arg(node, "dim")
            dims = [dims] if isinstance(dims, int) else dims or range(rank)
            if isinstance(self._arg(node, "dim"), int):
                return lambda: self._call(node, self._front, dim=dims[0] % rank + 1)
            if self._takes(node, "dim"):
                return lambda: self._call(node, self._front, dim=[d % rank + 1 for d in dims])
            return None
        if name in _ONE_DIM | _NEW_DIM:
            shifted = [d % (rank + (name in _NEW_DIM)) + 1 for d in self._dims(node)]
            dims = shifted if isinstance(self._arg(node, "dim", "dims"), list) else shifted[0]
            key = "dims" if self._takes(node, "dims") else "dim"
            return lambda: self._call(node, self._whole, **{key: dims})
        if name == "permute":
            order = [0, *(d % rank + 1 for d in self._arg(node, "dims"))]
            return lambda: self._call(node, self._front, dims=order)
        if name == "transpose":
            a, b = (self._arg(node, key) % rank + 1 for key in ("dim0", "dim1"))
            return lambda: self._call(node, self._front, dim0=a, dim1=b)
        if name in ("t", "numpy_T") and rank == 2:
            return lambda: self._front(operands[0]).transpose(1, 2)
        if name in _PRODUCTS and all(_rank(n) >= 2 for n in node.all_input_nodes):
            most = max(_rank(n) for n in node.all_input_nodes)
            a, b = node.args[:2]
            return lambda: torch.matmul(self._padded(a, most), self._padded(b, most))
        if (name in _LAST_DIMS or name in _ELEMENTS) and operands == [node.args[0]]:
            return lambda: self._call(node, self._front)
        if name in _PER_IMAGE and operands == [node.args[0]]:
            if ("2d" in name and rank == 3) or name == "constant_pad_nd":  # one image, no batch
                return lambda: self._call(node, self._front)
            return lambda: self._flattened(node, operands[0])
        return None

    def _flattened(self, node: fx.Node, source: fx.Node) -> Tensor:
        flat = self._front(source).flatten(0, 1)
        made: Tensor = self._call(node, lambda n: flat if n is source else self.env[n])
        whole: Tensor = made.unflatten(0, (self.images, -1))
        return whole

    def _padded(self, node: Any, rank: int) -> Any:
        """Return the value with the batch in front, followed by dims of size 1."""
        value = self._front(node)
        if is_size(node) or self.states.get(node, "one") == "one":
            return value
        return value[(slice(None), *[None] * (rank - _rank(node)), ...)]

    def _whole(self, node: fx.Node) -> Any:
        """The value with the batch in front, copied for each image if all have the same."""
        value = self._front(node)
        if isinstance(value, Tensor) and self.states.get(node, "one") == "one":
            return value.expand(self.images, *value.shape)
        return value

    # ---- arguments

    def _takes(self, node: fx.Node, name: str) -> bool:
        return any(a.name == name for a in node.target._schema.arguments)  # type: ignore[union-attr]

    def _arg(self, node: fx.Node, *names: str) -> Any:
        """Return the argument with the first of these names that the operation has."""
        for place, known in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            if known.name in names:
                given = node.kwargs.get(known.name, known.default_value)
                given = node.args[place] if place < len(node.args) else given
                return fx.node.map_arg(given, lambda n: self.env[n])
        return None

    def _dims(self, node: fx.Node) -> list[int]:
        dims = self._arg(node, "dim", "dims")
        return [dims] if isinstance(dims, int) else list(dims or ())


def _rank(node: fx.Node) -> int:
    return len(node.meta["val"].shape)


def _is_one(node: fx.Node) -> bool:
    """True if each tensor of a value has a first dim of one."""
    value = node.meta["val"]
    tensors = value if isinstance(value, list | tuple) else [value]
    return all(
        isinstance(t, Tensor) and t.ndim > 0 and isinstance(t.shape[0], int) and t.shape[0] == 1
        for t in tensors
    )
