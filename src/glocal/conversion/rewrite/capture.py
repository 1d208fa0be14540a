"""Capture one block of a network as a graph of aten operations, and tell what is global in it."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.export import Dim as DynamicDim
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import tree_unflatten

from glocal.conversion.rewrite.arguments import (
    Arguments,
    TensorInput,
    TooSmallError,
    read_arguments,
)
from glocal.conversion.rewrite.program import Input
from glocal.conversion.rewrite.spelling import SpelledOut
from glocal.errors import ConversionError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Analysis, Global
from glocal.scanning.dims import Dim, role
from glocal.scanning.modules import clone, drop_hooks
from glocal.scanning.trace import Ref, Trace, quiet, trace_graph

__all__ = ["Block", "Layout", "TooSmallError", "capture"]


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
    call: Any
    parameters: dict[str, str]
    constants: dict[str, Tensor]
    outputs: tuple[Any, ...]
    returns: Any
    written: tuple[tuple[int, fx.Node], ...]
    globals: dict[fx.Node, Global]
    shapes: dict[fx.Node, tuple[tuple[int, ...], ...]]
    dims: dict[fx.Node, tuple[Dim, ...]]

    def layout(self, node: fx.Node) -> Layout | None:
        """Where the map lies in a tensor (n, ..., h, w, ...); None if it is no such tensor."""
        if not self.batched(node):
            return None
        places: list[tuple[int, str]] = []
        channels = 1
        for place, dim in enumerate(self.dims[node]):
            atoms = [atom for atom in dim if atom.sizes != (1, 1, 1)]
            follow = [role(atom.sizes) for atom in atoms]
            if any(atom.grid or atom.cell for atom in atoms) or "HW" in follow:
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

    def is_map(self, node: fx.Node) -> bool:
        """Whether a value is a map that can be cut into windows and put together again."""
        return node in self.shapes and self.layout(node) is not None

    def spatial(self, node: fx.Node) -> bool:
        """Whether any dim of a tensor follows the height or the width of the image."""
        return any(role(atom.sizes) for dim in self.dims.get(node, ()) for atom in dim)

    def batched(self, node: fx.Node) -> bool:
        """Whether the first dim of a tensor, and no other, counts images."""
        first, _, _, more = self.shapes[node]
        grows = [a != b for a, b in zip(first, more, strict=True)]
        return bool(grows) and grows[0] and not any(grows[1:])

    def depends_on_batch(self, node: fx.Node) -> bool:
        """Whether any dim of a tensor counts images."""
        return node in self.shapes and self.shapes[node][0] != self.shapes[node][3]

    def size(self, node: fx.Node) -> Size:
        """(height, width) of the map of a tensor at the training size."""
        atoms = [a for d in self.dims[node] for a in d]
        height = next(a.sizes[0] for a in atoms if role(a.sizes) == "H")
        width = next(a.sizes[0] for a in atoms if role(a.sizes) == "W")
        return height, width

    def rank(self, node: fx.Node) -> int:
        """Number of dims of a tensor."""
        return len(self.shapes[node][0])

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
    arguments = read_arguments(runs)
    alone = drop_hooks(clone(module)).eval()
    if any(t.is_meta for t in (*alone.parameters(), *alone.buffers())):
        alone = copy.deepcopy(alone).to_empty(device="cpu")
    device = next((t.device for t in (*alone.parameters(), *alone.buffers())), torch.device("cpu"))
    # The higher run: its height and width differ, so that no size is taken for the other.
    example = tuple(
        torch.zeros(given.batched(1, 2), dtype=given.dtype, device=device)
        for given in arguments.tensors
    )
    dynamic = tuple(
        {
            d: DynamicDim.DYNAMIC
            for d, sizes in enumerate(zip(*given.shapes, strict=True))
            if role(sizes) or (d == 0 and sizes[0] == 1)
        }
        for given in arguments.tensors
    )
    try:
        with torch.no_grad(), quiet():
            program = export(
                _Alone(alone, arguments), example, dynamic_shapes=(dynamic,), strict=False
            ).run_decompositions({})
    except Exception as error:
        raise ConversionError(f"it cannot be captured: {_reason(error)}") from None
    return _read(program, arguments)


def _reason(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    if "DataDependent" in type(error).__name__:
        return "its source looks at the values of tensors"
    frozen = re.findall(r"size\(\)\[(\d+)\]", text) if "Constraints violated" in text else []
    if frozen:
        what = "the number of images" if set(frozen) == {"0"} else "the size of the image"
        return f"its source makes a constant of {what}"
    return f"{type(error).__name__}: {text[:160]}"


class _Alone(nn.Module):
    """A block, called with maps alone."""

    def __init__(self, block: nn.Module, arguments: Arguments) -> None:
        super().__init__()
        self.block = block
        self.arguments = arguments

    def forward(self, *tensors: Tensor) -> Any:
        args, kwargs = self.arguments.rebuild(tensors)
        with SpelledOut():
            return self.block(*args, **kwargs)


def _read(program: ExportedProgram, arguments: Arguments) -> Block:
    graph = program.graph_module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    parameters, constants, given = {}, {}, []
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            parameters[node.name] = str(spec.target).removeprefix("block.")
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            constants[node.name] = program.constants[str(spec.target)].detach().clone()
        elif spec.kind == InputKind.USER_INPUT:
            given.append(node)
        else:
            raise ConversionError(f"it is called with an argument that is no tensor ({node.name})")
    names = iter(node.name for node in given)
    inputs = tuple(i if i.name is None else replace(i, name=next(names)) for i in arguments.inputs)
    places = {given.name: place for place, given in enumerate(inputs) if given.name is not None}
    outputs, written = [], []
    results = next(node for node in graph.nodes if node.op == "output").args[0]
    for value, target in zip(results, program.graph_signature.output_specs, strict=True):
        if target.kind == OutputKind.USER_OUTPUT:
            outputs.append(value)
        elif target.kind == OutputKind.USER_INPUT_MUTATION:
            written.append((places[str(target.target)], value))
        else:
            raise ConversionError("it changes its own buffers")
    tensors = dict(zip(given, arguments.tensors, strict=True))
    found, shapes, dims = _analysed(graph, tensors)
    assert program.call_spec.out_spec is not None
    call = tree_unflatten(range(len(inputs)), arguments.structure)
    returns = tree_unflatten(range(len(outputs)), program.call_spec.out_spec)
    return Block(
        graph, inputs, call, parameters, constants, tuple(outputs), returns,
        tuple(written), found, shapes, dims,
    )  # fmt: skip


def _analysed(graph: fx.Graph, tensors: dict[fx.Node, TensorInput]) -> Any:
    """The global operations of a graph, and the shapes and dims of its values."""

    def run(which: int, images: int) -> tuple[Trace, dict[fx.Node, Any]]:
        def make(node: fx.Node) -> tuple[tuple[int, ...], torch.dtype]:
            value = node.meta["val"]
            if node in tensors:
                return tensors[node].batched(which, images), value.dtype
            return tuple(int(n) for n in value.shape), value.dtype

        return trace_graph(graph, make)

    try:
        runs = [run(0, 2), run(1, 2), run(2, 2), run(0, 3)]
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        raise ConversionError(f"it does not run at other sizes: {text}") from None
    traces = (runs[0][0], runs[1][0], runs[2][0])
    paths = [[(call.name, call.path) for call in trace.calls] for trace in traces]
    if paths[0] != paths[1] or paths[0] != paths[2]:
        raise ConversionError("it takes another path at other sizes")
    analysis = Analysis(traces)
    by_name = {node.name: node for node in graph.nodes}
    found = {by_name[operation.path]: operation for operation in analysis.run()}
    shapes: dict[fx.Node, tuple[tuple[int, ...], ...]] = {}
    dims: dict[fx.Node, tuple[Dim, ...]] = {}
    for node in graph.nodes:
        known = [ref for _, made in runs if isinstance(ref := made.get(node), Ref)]
        if len(known) == len(runs):
            shapes[node] = tuple(ref.shape for ref in known)
            dims[node] = analysis.dims_of(*known[:3])
    return found, shapes, dims
