"""ONNX files: written from a captured program, named, and run. Only here are onnx and its like."""

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from glocal.errors import GlocalError
from glocal.scanning.trace import quiet

__all__ = ["require_onnx", "run_onnx", "write_onnx"]

_TWO_GIB = 2 << 30  # more than that a file of protocol buffers cannot hold
_NAMES = ("batch", "channels", "height", "width")


def require_onnx() -> tuple[Any, Any]:
    """The modules onnx and onnxruntime.

    Raises:
        GlocalError: they, or onnxscript, which torch's exporter uses, are not installed.
    """
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        raise GlocalError(
            f'ONNX needs the package {error.name}, which is missing: pip install "glocal[onnx]"'
        ) from None


def write_onnx(
    program: ExportedProgram, path: Path, opset: int, properties: dict[str, str]
) -> tuple[str, ...]:
    """Write a program whose one input is an image, and tell the types of its operators.

    Weights of 2 GiB and more go into a file of their own beside `path`.

    Raises:
        GlocalError: the program holds what ONNX's standard operators cannot do.
    """
    onnx, _ = require_onnx()
    weights = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    with quiet():
        try:
            written = torch.onnx.export(
                program, opset_version=opset, input_names=["image"], dynamo=True, verbose=False
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise GlocalError(f"{path.name}: ONNX opset {opset} cannot hold it: {reason}") from None
    assert written is not None
    written.save(path, external_data=weights >= _TWO_GIB)
    model = onnx.load(path, load_external_data=False)
    domains = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if domains != {"ai.onnx": opset}:
        raise GlocalError(
            f"{path.name}: needs the operators of {domains}, not of opset {opset} alone"
        )
    _name_dims(model.graph)
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
    return tuple(sorted({node.op_type for node in model.graph.node}))


def run_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """The function that a file computes, by onnxruntime on the CPU."""
    _, onnxruntime = require_onnx()
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(a) for a in session.run(None, {"image": image.cpu().numpy()})]

    return run


def _name_dims(graph: Any) -> None:
    """Call the dims of the image by their names, wherever the file speaks of them."""
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {d.dim_param: name for d, name in zip(dims, _NAMES, strict=True) if d.dim_param}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r"\w+", lambda word: names.get(word[0], word[0]), dim.dim_param
                )
