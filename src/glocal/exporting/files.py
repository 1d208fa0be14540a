"""Write a captured program as an .onnx or .pt2 file, and run such a file."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from glocal.exporting.onnx import run_onnx, write_onnx
from glocal.exporting.repeated_blocks import Block

__all__ = ["IMAGE", "Graph", "Run", "load", "write"]

Run = Callable[..., list[Tensor]]
"""Runs a file on tensors and returns all outputs."""

IMAGE = ("batch", "channels", "height", "width")


@dataclass(frozen=True)
class Graph:
    """A program and the names that an ONNX file uses.

    Attributes:
        program: from `torch.export`.
        inputs: names of the first dimensions of each input, by its name, in order.
        outputs: names; empty for those that torch's exporter gives.
        network: whose program it is, if it calls blocks.
        blocks: those that the program calls.
    """

    program: ExportedProgram
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[str, ...] = ()
    network: nn.Module | None = None
    blocks: tuple[Block, ...] = ()


def write(graph: Graph, path: Path, opset: int, facts: dict[str, str]) -> tuple[str, ...]:
    """Write a graph in the format of the file's suffix; return the names of its operators.

    Args:
        graph: what to write.
        path: the file, .onnx or .pt2.
        opset: version of ONNX's operators.
        facts: metadata.

    Raises:
        GlocalError: ONNX's standard operators cannot express the program.
    """
    program = graph.program
    if path.suffix == ".onnx":
        return write_onnx(
            program, path, opset, facts, graph.inputs, graph.outputs, graph.network, graph.blocks
        )
    torch.export.save(program, path, extra_files={"glocal.json": json.dumps(facts)})
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    return tuple(sorted(name for name in names if "." in name))


def load(path: Path) -> Run:
    """The function that a file computes; statistics are separate arguments."""
    if path.suffix == ".onnx":
        return run_onnx(path)
    module = torch.export.load(path).module()

    def run(x: Tensor, *others: Tensor) -> list[Tensor]:
        if not others:
            return tree_leaves(module(x))
        rows, columns, *statistics = others
        return tree_leaves(module(x, rows, columns, statistics))

    return run
