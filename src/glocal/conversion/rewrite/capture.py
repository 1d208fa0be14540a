"""Capture a block as a graph of aten operations, and find what is global in it.

Above 300 lines: an export, the modules that are exported and how the graph is read go together.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim as DynamicDim
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import tree_unflatten

from glocal.conversion.rewrite.arguments import (
    Arguments,
    BatchError,
    TensorInput,
    TooSmallError,
    read_arguments,
)
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.capture_errors import reason_of
from glocal.conversion.rewrite.decompositions import Decompositions
from glocal.conversion.rewrite.dtypes import Follows, follow_dtype, in_dtype
from glocal.conversion.rewrite.functional import decomposed
from glocal.conversion.rewrite.guards import Guards, guards_of, hold
from glocal.conversion.rewrite.image_by_image import ImageByImage
from glocal.conversion.rewrite.simplify import simplify
from glocal.conversion.rewrite.symbolic_numbers import symbolic_numbers
from glocal.errors import ConversionError
from glocal.scanning.analysis import Analysis
from glocal.scanning.aten import mixed_dims
from glocal.scanning.dims import Dim, role
from glocal.scanning.modules import clone, drop_hooks, weight_hooks
from glocal.scanning.trace import Ref, Trace, quiet, trace_graph

__all__ = ["TooSmallError", "capture"]


_FROZEN = "into a constant"
_BATCH = f"the batch size {_FROZEN}"


def capture(
    module: nn.Module,
    runs: Sequence[tuple[Any, Any]],
    *,
    image_by_image: bool = False,
    other_path: bool = False,
) -> Block:
    """Capture a module for every batch size, height, width and floating-point type.

    Args:
        module: is not changed.
        runs: (args, kwargs) of the module in the three runs of a scan, with `Spec`s for tensors.
        image_by_image: capture what it does to one image, for blocks whose code loops over the
            images or folds them into channels. The block must treat each image alone.
        other_path: it runs other operations at sizes that are multiples of nothing common.

    Raises:
        BatchError: its code fixes the batch size; it may be captured image by image.
        ConversionError: the module cannot be captured; the message says why.
    """
    arguments = read_arguments(runs)
    _check_mode(module)
    guards = Guards()

    def exported(dtype: torch.dtype) -> ExportedProgram:
        nonlocal guards
        alone = _in_dtype(module, dtype)
        with symbolic_numbers(alone) as lines:
            images = 1 if image_by_image else 2
            program, guards = _export(
                _Alone(alone, arguments), arguments, dtype, images, lines, other_path
            )
        if image_by_image:
            program, _ = _export(_Batched(alone, program), arguments, dtype, 2)
        return program

    program, follows = follow_dtype(exported)
    return replace(
        _read(program, arguments, follows),
        guards=guards.path,
        padding_guards=guards.padding,
        follows_padding=guards.follows_padding,
    )


def _export(
    alone: nn.Module,
    arguments: Arguments,
    dtype: torch.dtype,
    images: int,
    lines: Sequence[str] = (),
    other_path: bool = False,
) -> tuple[ExportedProgram, Guards]:
    """Export a module for every height, width and, except for one image, batch size.

    Args:
        other_path: as in `capture`; where the code then pads, that path is captured.

    Returns:
        the program, and the conditions under which the module takes the path of the program.
    """
    tensors = (*alone.parameters(), *alone.buffers())
    device = next((t.device for t in tensors), torch.device("cpu"))
    # In the higher run height and width differ, so the exporter does not take one for the other.
    example = tuple(
        torch.zeros(given.with_batch(1, images), dtype=in_dtype(given.dtype, dtype), device=device)
        for given in arguments.tensors
    )
    dynamic = tuple(
        {
            d: DynamicDim.DYNAMIC
            for d, sizes in enumerate(zip(*given.shapes, strict=True))
            if role(sizes) or (d == 0 and sizes[0] == 1 and images > 1)
        }
        for given in arguments.tensors
    )
    try:
        with torch.no_grad(), quiet():
            program = export(alone, example, dynamic_shapes=(dynamic,), strict=False)
            guards, made = guards_of(program), decomposed(program)
            if guards.padding or other_path:
                larger = tuple(
                    t.new_zeros(_in_need_of_padding(given, t.shape))
                    for given, t in zip(arguments.tensors, example, strict=True)
                )
                with suppress(Exception):  # nothing but sizes that need no padding
                    other = export(alone, larger, dynamic_shapes=(dynamic,), strict=False)
                    if guards.padding:
                        guards = guards.compared(program, other, larger)
                    elif (needed := guards_of(other, 0)).padding and hold(needed.padding, example):
                        # It pads only where it must, and by nothing where it need not.
                        kept = tuple(g for g in needed.path if hold((g,), example))
                        return decomposed(other), Guards(kept, needed.padding, True)
            return made, guards
    except ConversionError:
        raise
    except Exception as error:
        script = [n for n, m in alone.named_modules() if isinstance(m, torch.jit.ScriptModule)]
        if script:
            name = script[0].removeprefix("block.")
            raise ConversionError(
                f"'{name}' in it is compiled by torch.jit, so that its code cannot be read; "
                "build the network without torch.jit"
            ) from None
        text = reason_of(error, lines[0] if lines else "")
        if _BATCH in text:
            raise BatchError(text) from None
        if _FROZEN in text and any(len(given.shapes[0]) != 4 for given in arguments.tensors):
            raise TooSmallError(text) from None  # the block around it has the map
        raise ConversionError(text) from None


def _in_need_of_padding(given: TensorInput, shape: Sequence[int]) -> list[int]:
    """Return the shape of a tensor for an image size that is no usual multiple."""
    runs = zip(*given.shapes, strict=True)
    return [n + 5 if role(sizes) else n for n, sizes in zip(shape, runs, strict=True)]


def _check_mode(module: nn.Module) -> None:
    """Raise a ConversionError if the training mode of a layer rules out a local form."""
    for path, layer in module.named_modules():
        if not layer.training:
            continue
        at = f"'{path}' in it" if path else "it"
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ConversionError(
                f"{at} is a {type(layer).__name__} in training mode, which uses the statistics "
                "of the whole batch; call model.eval() first"
            )
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise ConversionError(
                f"{at} is a {type(layer).__name__} in training mode, which changes values at "
                "random; call model.eval() first"
            )


def _in_dtype(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy a module with parameters of a floating-point type and of no values."""
    alone = drop_hooks(clone(module))
    made: dict[int, Tensor] = {}

    def empty(tensor: Any) -> Any:
        if tensor is None or not (tensor.is_meta or tensor.dtype.is_floating_point):
            return tensor
        device = "cpu" if tensor.is_meta else tensor.device
        kind = in_dtype(tensor.dtype, dtype)
        if id(tensor) not in made:
            new = torch.empty_like(tensor, dtype=kind, device=device, requires_grad=False)
            made[id(tensor)] = nn.Parameter(new, False) if isinstance(tensor, nn.Parameter) else new
        return made[id(tensor)]

    for part in alone.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: empty(tensor) for name, tensor in tensors.items()})
    return alone


class _Batched(nn.Module):
    """A program of one image as a module of a batch of images."""

    def __init__(self, block: nn.Module, program: ExportedProgram) -> None:
        super().__init__()
        self.block = block
        self.program = program

    def forward(self, *tensors: Tensor) -> Any:
        program, given = self.program, iter(tensors)
        values, batched = [], set()
        nodes = program.graph_module.graph.find_nodes(op="placeholder")
        for node, spec in zip(nodes, program.graph_signature.input_specs, strict=True):
            if spec.kind == InputKind.USER_INPUT:
                values.append(next(given))
                if node.meta["val"].ndim and node.meta["val"].shape[0] == 1:
                    batched.add(node)
            elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                owner, _, name = str(spec.target).rpartition(".")
                values.append(getattr(self.get_submodule(owner), name))
            else:
                values.append(program.constants[str(spec.target)])
        if any(s.kind != OutputKind.USER_OUTPUT for s in program.graph_signature.output_specs):
            raise ConversionError("the block writes to its arguments or buffers")
        results = ImageByImage(program.graph_module, batched).run(*values)
        assert program.call_spec.out_spec is not None
        return tree_unflatten(list(results), program.call_spec.out_spec)


class _Alone(nn.Module):
    """A block as a module that takes tensors only."""

    def __init__(self, block: nn.Module, arguments: Arguments) -> None:
        super().__init__()
        self.block = block
        self.arguments = arguments
        self._forget_weights()

    def forward(self, *tensors: Tensor) -> Any:
        args, kwargs = self.arguments.rebuild(tensors)
        with Decompositions(self.block):
            result = self.block(*args, **kwargs)
        self._forget_weights()
        return result

    def _forget_weights(self) -> None:
        """Delete the weights that hooks compute: exporters refuse values stored in a run."""
        for module in self.block.modules():
            for name, _ in weight_hooks(module):
                vars(module).pop(name, None)


def _read(program: ExportedProgram, arguments: Arguments, follows: Follows) -> Block:
    graph = program.graph_module.graph
    simplify(graph)
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    parameters, constants, given = {}, {}, []
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            parameters[node.name] = _path_of(spec.target)
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            constants[node.name] = program.constants[str(spec.target)].detach().clone()
        elif spec.kind == InputKind.USER_INPUT:
            given.append(node)
        else:
            raise ConversionError(f"an argument of the block is not a tensor ({node.name})")
    names = iter(node.name for node in given)
    inputs = tuple(i if i.name is None else replace(i, name=next(names)) for i in arguments.inputs)
    places = {given.name: place for place, given in enumerate(inputs) if given.name is not None}
    outputs, mutated = [], []
    results = next(node for node in graph.nodes if node.op == "output").args[0]
    for value, target in zip(results, program.graph_signature.output_specs, strict=True):
        if target.kind == OutputKind.USER_OUTPUT:
            outputs.append(value)
        elif target.kind == OutputKind.USER_INPUT_MUTATION:
            mutated.append((places[str(target.target)], value))
        else:
            raise ConversionError(
                f"it writes to its own buffer '{_path_of(target.target)}' (running statistics in "
                "training mode, say)"
            )
    tensors = dict(zip(given, arguments.tensors, strict=True))
    found, shapes, dims, mixing = _analyse(graph, tensors)
    assert program.call_spec.out_spec is not None
    call = tree_unflatten(range(len(inputs)), arguments.structure)
    returns = tree_unflatten(range(len(outputs)), program.call_spec.out_spec)
    return Block(
        graph, inputs, call, parameters, constants, tuple(outputs), returns,
        tuple(mutated), found, shapes, dims, mixing, floats=follows,
    )  # fmt: skip


def _path_of(target: object) -> str:
    return str(target).removeprefix("block.")


def _analyse(graph: fx.Graph, tensors: dict[fx.Node, TensorInput]) -> Any:
    """Return what a graph computes.

    These are its global operations, the shapes and dims of its values, and the nodes that mix the
    images of a batch.
    """

    def run(which: int, images: int) -> tuple[Trace, dict[fx.Node, Any]]:
        def make(node: fx.Node) -> tuple[tuple[int, ...], torch.dtype]:
            value = node.meta["val"]
            if node in tensors:
                return tensors[node].with_batch(which, images), value.dtype
            return tuple(int(n) for n in value.shape), value.dtype

        return trace_graph(graph, make)

    try:
        runs = [run(0, 2), run(1, 2), run(2, 2), run(0, 3)]
    except Exception as error:
        raise ConversionError(f"at other image sizes {reason_of(error)}") from None
    traces = (runs[0][0], runs[1][0], runs[2][0])
    paths = [[(call.name, call.path) for call in trace.calls] for trace in traces]
    if paths[0] != paths[1] or paths[0] != paths[2]:
        raise ConversionError("its code runs different operations at different image sizes")
    analysis = Analysis(traces)
    by_name = {node.name: node for node in graph.nodes}
    found = {by_name[item.path]: item for item in analysis.run()}
    shapes: dict[fx.Node, tuple[tuple[int, ...], ...]] = {}
    dims: dict[fx.Node, tuple[Dim, ...]] = {}
    for node in graph.nodes:
        known = [ref for _, made in runs if isinstance(ref := made.get(node), Ref)]
        if len(known) == len(runs):
            shapes[node] = tuple(ref.shape for ref in known)
            dims[node] = analysis.dims_of(*known[:3])
    mixing = {
        by_name[call.path]
        for call, other in zip(runs[0][0].calls, runs[3][0].calls, strict=False)
        for (ref, along), (more, _) in zip(mixed_dims(call), mixed_dims(other), strict=False)
        if any(ref.shape[d] != more.shape[d] for d in along)
    }
    return found, shapes, dims, frozenset(mixing)
