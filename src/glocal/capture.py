"""Capture one block of a network as a graph of aten operations, and tell what is global in it."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, export
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from glocal.dims import Dim as Axis
from glocal.dims import role
from glocal.discover import Analysis, Global
from glocal.errors import ConversionError
from glocal.modules import clone, drop_hooks
from glocal.program import Input
from glocal.spelling import SpelledOut
from glocal.trace import Ref, Spec, Trace, trace_graph
from glocal.windows import Size

__all__ = ["Block", "Layout", "TooSmallError", "capture"]


class TooSmallError(ConversionError):
    """A block alone is not enough: what it lacks may lie in the module around it."""


class Layout(NamedTuple):
    """Dims of a tensor that hold the rows and columns of a map; one dim twice if flattened.

    A dim that flattens a map may hold channels of it as well, outside the pixels.
    """

    rows: int
    columns: int
    channels: int = 1


@dataclass(frozen=True)
class Block:
    """A captured block.

    Attributes:
        graph: aten operations, without side effects.
        inputs, call: as in `program.Program`.
        parameters, constants: values by name of their placeholder.
        outputs, returns, written: as in `program.Program`, before rewriting: nodes for values.
        globals: the global operations by the node that makes them.
        shapes: of the outputs of every node: at the training size, higher, wider, batched.
        dims: the same by node as factors.
    """

    graph: fx.Graph
    inputs: tuple[Input, ...]
    call: TreeSpec
    parameters: dict[str, str]
    constants: dict[str, Tensor]
    outputs: tuple[Any, ...]
    returns: TreeSpec
    written: tuple[tuple[int, fx.Node], ...]
    globals: dict[fx.Node, Global]
    shapes: dict[fx.Node, tuple[tuple[int, ...], ...]]
    dims: dict[fx.Node, tuple[Axis, ...]]

    def layout(self, node: fx.Node) -> Layout | None:
        """Where the map lies in a tensor (n, ..., h, w, ...); None if it is no such tensor."""
        if not self.batched(node):
            return None
        places: list[tuple[int, str]] = []
        channels = 1
        for place, dim in enumerate(self.dims[node]):
            atoms = [atom for atom in dim if atom.sizes != (1, 1, 1)]
            follow = [role(atom.sizes) for atom in atoms]
            if any(atom.grid for atom in atoms) or "HW" in follow:
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
        flat_backwards = rows == columns and places[0][1] != "H"
        if flat_backwards or (channels > 1 and rows != columns):
            return None
        return Layout(rows, columns, channels)

    def spatial(self, node: fx.Node) -> bool:
        """Whether any dim of a tensor follows the height or the width of the image."""
        return any(role(atom.sizes) for dim in self.dims[node] for atom in dim)

    def batched(self, node: fx.Node) -> bool:
        """Whether the first dim of a tensor, and no other, counts images."""
        first, _, _, more = self.shapes[node]
        grows = [a != b for a, b in zip(first, more, strict=True)]
        return bool(grows) and grows[0] and not any(grows[1:])

    def depends_on_batch(self, node: fx.Node) -> bool:
        """Whether any dim of a tensor counts images."""
        return self.shapes[node][0] != self.shapes[node][3]

    def size(self, node: fx.Node) -> Size:
        """(height, width) of the map of a tensor at the training size."""
        atoms = [a for d in self.dims[node] for a in d]
        height = next(a.sizes[0] for a in atoms if role(a.sizes) == "H")
        width = next(a.sizes[0] for a in atoms if role(a.sizes) == "W")
        return height, width

    def tail(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of a tensor without its first dim."""
        return self.shapes[node][0][1:]


def capture(module: nn.Module, runs: Sequence[tuple[Any, Any]]) -> Block:
    """Capture a module for every batch, height and width.

    Args:
        module: stays as it is.
        runs: the (args, kwargs) that it was called with in the three runs of a scan, with
            `Spec`s for tensors.

    Raises:
        ConversionError: it cannot be captured; the message says why.
    """
    leaves = [tree_flatten(run) for run in runs]
    structure = leaves[0][1]
    if any(other != structure for _, other in leaves[1:]):
        raise ConversionError("it is called with other arguments at other sizes")
    inputs, canonical, rebuild = _canonical([values for values, _ in leaves])
    if not canonical:
        raise TooSmallError("none of its arguments is a map")
    alone = drop_hooks(clone(module)).eval()
    if any(t.is_meta for t in (*alone.parameters(), *alone.buffers())):
        alone = copy.deepcopy(alone).to_empty(device="cpu")
    device = next((t.device for t in (*alone.parameters(), *alone.buffers())), torch.device("cpu"))

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = alone

        def forward(self, *tensors: Tensor) -> Any:
            args, kwargs = tree_unflatten(rebuild(tensors), structure)
            with SpelledOut():
                return self.block(*args, **kwargs)

    # The higher run: its height and width differ, so that no size is taken for the other.
    example = tuple(
        torch.zeros(_batch(shapes[1], 2), dtype=dtype, device=device) for shapes, dtype in canonical
    )
    dynamic = tuple(
        {
            d: Dim.DYNAMIC
            for d, sizes in enumerate(zip(*shapes, strict=True))
            if role(sizes) or (d == 0 and sizes[0] == 1)  # type: ignore[arg-type]
        }
        for shapes, _ in canonical
    )
    try:
        with torch.no_grad(), _quiet():
            program = export(Wrapper(), example, dynamic_shapes=(dynamic,), strict=False)
            program = program.run_decompositions({})
    except Exception as error:
        text = next((line for line in str(error).splitlines() if line.strip()), "")
        raise ConversionError(f"it cannot be captured: {type(error).__name__}: {text[:160]}") from None
    return _analysed(program, inputs, structure, canonical)


def _analysed(program: Any, inputs: Any, structure: TreeSpec, canonical: Any) -> Block:
    graph = program.graph_module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    parameters, constants, given = {}, {}, []
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            parameters[node.name] = spec.target.removeprefix("block.")
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            constants[node.name] = program.constants[spec.target].detach().clone()
        elif spec.kind == InputKind.USER_INPUT:
            given.append(node)
        else:
            raise ConversionError(f"it is called with an argument that is no tensor ({node.name})")
    names = iter([node.name for node in given])
    inputs = tuple(
        i if i.name is None else Input(next(names), i.pixels, i.size) for i in inputs
    )
    output = next(node for node in graph.nodes if node.op == "output")
    outputs, written = [], []
    user = [k for k, i in enumerate(inputs) if i.name is not None]
    where = dict(zip([node.name for node in given], user, strict=True))
    for value, spec in zip(output.args[0], program.graph_signature.output_specs, strict=True):
        if spec.kind == OutputKind.USER_OUTPUT:
            outputs.append(value)
        elif spec.kind == OutputKind.USER_INPUT_MUTATION:
            written.append((where[spec.target], value))
        else:
            raise ConversionError("it changes its own buffers")

    sizes = {node.name: shapes for node, (shapes, _) in zip(given, canonical, strict=True)}
    own = {
        node.name: node.meta["val"] for node in placeholders if node.name not in sizes
    }

    def run(which: int, batch: int) -> tuple[Trace, dict[fx.Node, Any]]:
        def make(node: fx.Node) -> tuple[tuple[int, ...], torch.dtype]:
            value = own.get(node.name)
            if value is not None:
                return tuple(int(n) for n in value.shape), value.dtype
            return _batch(sizes[node.name][which], batch), node.meta["val"].dtype

        return trace_graph(graph, make)

    try:
        runs = [run(0, 2), run(1, 2), run(2, 2), run(0, 3)]
    except Exception as error:
        raise ConversionError(f"it does not run at other sizes: {' '.join(str(error).split())[:160]}") from None
    paths = [[(call.name, call.path) for call in record.calls] for record, _ in runs[:3]]
    if paths[0] != paths[1] or paths[0] != paths[2]:
        raise ConversionError("it takes another path at other sizes")
    analysis = Analysis(tuple(record for record, _ in runs[:3]))  # type: ignore[arg-type]
    by_name = {node.name: node for node in graph.nodes}
    found = {by_name[operation.path]: operation for operation in analysis.run()}
    shapes: dict[fx.Node, tuple[tuple[int, ...], ...]] = {}
    dims: dict[fx.Node, tuple[Axis, ...]] = {}
    for node in graph.nodes:
        refs = [made.get(node) for _, made in runs]
        if not all(isinstance(ref, Ref) for ref in refs):
            continue
        shapes[node] = tuple(ref.shape for ref in refs)
        dims[node] = analysis.dims_of(refs[0], refs[1], refs[2])
    return Block(
        graph, inputs, structure, parameters, constants, tuple(outputs),
        program.call_spec.out_spec, tuple(written), found, shapes, dims,
    )  # fmt: skip


def _canonical(leaves: list[list[Any]]) -> Any:
    """How a call's leaves become maps with a height and a width, and are made of them again.

    A tensor whose pixels are flattened is unflattened; a height or width among the arguments is
    read from a map.
    """
    images = [(1, 1)] * 3
    sizes: dict[int, str] = {}
    for place, values in enumerate(zip(*leaves, strict=True)):
        if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            if follows := role(values):
                sizes[place] = follows
    pair = None
    for letter in "HW":
        if letter not in sizes.values():
            break
    else:
        pair = tuple(next(p for p, r in sizes.items() if r == letter) for letter in "HW")
        images = [(run[pair[0]], run[pair[1]]) for run in leaves]
    inputs: list[Input] = []
    canonical: list[tuple[list[tuple[int, ...]], torch.dtype]] = []
    whence: dict[str, dict[int, tuple[int, int]]] = {"H": {}, "W": {}}
    for place, values in enumerate(zip(*leaves, strict=True)):
        first = values[0]
        if not isinstance(first, Spec):
            if place in sizes:
                inputs.append(Input(None))
            elif any(v is not first and v != first for v in values[1:]):
                raise ConversionError(f"argument {place} takes other values at other sizes")
            else:
                inputs.append(Input(None))
            continue
        shapes = [tuple(v.shape) for v in values]
        pixels = None
        for d, triple in enumerate(zip(*shapes, strict=True)):
            if role(triple) == "HW":
                if pair is None or any(n != h * w for n, (h, w) in zip(triple, images, strict=True)):
                    raise TooSmallError(
                        "it is given flattened pixels, and not the height and width of their map"
                    )
                pixels = d
        if pixels is not None:
            shapes = [
                (*s[:pixels], *size, *s[pixels + 1 :]) for s, size in zip(shapes, images, strict=True)
            ]
        for d, triple in enumerate(zip(*shapes, strict=True)):
            if role(triple) in whence:
                whence[role(triple)].setdefault(triple[0], (len(canonical), d))
        inputs.append(Input(f"{place}", pixels, pair if pixels is not None else None))
        canonical.append((shapes, first.dtype))
    for place, letter in sizes.items():
        if leaves[0][place] not in whence.get(letter, {}):
            raise TooSmallError(f"argument {place} is a size that no map among the arguments has")

    def rebuild(tensors: Sequence[Tensor]) -> list[Any]:
        made: list[Any] = []
        queue = iter(tensors)
        for place, given in enumerate(inputs):
            if given.name is not None:
                tensor = next(queue)
                if given.pixels is not None:
                    tensor = tensor.flatten(given.pixels, given.pixels + 1)
                made.append(tensor)
            elif place in sizes:
                at, d = whence[sizes[place]][leaves[0][place]]
                made.append(tensors[at].shape[d])
            else:
                made.append(leaves[0][place])
        return made

    return tuple(inputs), canonical, rebuild


def _batch(shape: tuple[int, ...], n: int) -> tuple[int, ...]:
    """A shape of a scan, which shows one image, with n images."""
    return (n, *shape[1:]) if shape and shape[0] == 1 else shape


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
