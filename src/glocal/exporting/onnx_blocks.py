"""Put the blocks that `repeated_blocks` captured back into the graph of their network."""

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import onnxscript
from onnx_ir.passes.common import InlinePass
from onnxscript import ir
from torch import nn

from glocal.exporting.repeated_blocks import Block

__all__ = ["call_block", "insert_blocks"]

_DOMAIN = "glocal"
_CALL = onnxscript.values.Op(
    onnxscript.values.Opset(_DOMAIN, 1),
    "Block",
    onnx.defs.OpSchema(
        "Block",
        _DOMAIN,
        1,
        inputs=[onnx.defs.OpSchema.FormalParameter("x", "T")],
        outputs=[onnx.defs.OpSchema.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)", "tensor(double)"], "")],
        attributes=[
            onnx.defs.OpSchema.Attribute(
                "number", onnx.defs.OpSchema.AttrType.INT, "", required=True
            )
        ],
    ),
)


def call_block(x: Any, number: int, channels: int) -> Any:
    """`glocal::block` in ONNX: a node that `insert_blocks` replaces."""
    return _CALL(x, number=number)


def insert_blocks(
    model: ir.Model,
    network: nn.Module,
    blocks: Sequence[Block],
    translate: Callable[[Any], ir.Model],
) -> None:
    """Replace the calls of blocks in a model by the blocks, each with its own weights.

    Args:
        model: of the network.
        network: whose weights it has.
        blocks: those that it calls.
        translate: makes a model of a block's program.
    """
    bodies = [_body(f"block_{i}", translate(block.program)) for i, block in enumerate(blocks)]
    calls = [(i, path) for i, block in enumerate(blocks) for path in block.paths]
    for node in list(model.graph):
        if node.domain != _DOMAIN:
            continue
        index, path = calls[node.attributes.get_int("number")]
        function, constants = bodies[index]
        module = network.get_submodule(path)
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        weights = []
        for key, constant in constants.items():
            name = f"{path if key in tensors else function.name}.{key}"
            if name not in model.graph.initializers:
                if key in tensors:
                    constant = ir.tensor(tensors[key].detach().cpu().numpy(), name=name)
                model.graph.register_initializer(ir.val(name, const_value=constant))
            weights.append(model.graph.initializers[name])
        called = ir.Node(_DOMAIN, function.name, [node.inputs[0], *weights], name=node.name)
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [called], node.outputs, called.outputs
        )
    for function, _ in bodies:
        model.functions[function.identifier()] = function
    InlinePass()(model)
    model.opset_imports.pop(_DOMAIN, None)


def _body(name: str, model: ir.Model) -> tuple[ir.Function, dict[str, Any]]:
    """A model as a function whose weights are inputs, and the weights."""
    graph = model.graph
    constants = {}
    for key, value in list(graph.initializers.items()):
        constants[key] = value.const_value
        del graph.initializers[key]
        value.const_value = None
        graph.inputs.append(value)
    for node in graph:
        for value in node.outputs:
            if value.shape is not None:
                # A symbol would mean one size wherever the block is called.
                sizes = [size if isinstance(size, int) else None for size in value.shape]
                value.shape = ir.Shape(sizes)
    return ir.Function(_DOMAIN, name, graph=graph, attributes={}), constants
