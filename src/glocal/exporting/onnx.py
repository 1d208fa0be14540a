"""Write a captured program as an ONNX file, and run such a file.

Only this module and those that begin with its name import onnx, onnxscript or onnxruntime.
"""

import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from glocal.errors import GlocalError
from glocal.exporting.repeated_blocks import Block
from glocal.scanning.trace import quiet

__all__ = ["require_onnx", "run_onnx", "write_onnx"]

_TWO_GIB = 2 << 30  # limit of a protocol-buffers file


def require_onnx() -> tuple[Any, Any]:
    """The modules onnx and onnxruntime.

    Raises:
        GlocalError: one of them, or onnxscript, which torch's exporter uses, is not installed.
    """
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        raise GlocalError(
            f'ONNX export needs the package {error.name}; install it: pip install "glocal[onnx]"'
        ) from None


def write_onnx(
    program: ExportedProgram,
    path: Path,
    opset: int,
    properties: dict[str, str],
    inputs: Mapping[str, Sequence[str]],
    outputs: Sequence[str] = (),
    network: nn.Module | None = None,
    blocks: Sequence[Block] = (),
) -> tuple[str, ...]:
    """Write a program; return the sorted names of its operators.

    Weights of 2 GiB and more go into a second file beside `path`.

    Args:
        program: from `torch.export`.
        path: the file to write.
        opset: version of ONNX's operators.
        properties: metadata to add.
        inputs: names of the first dimensions of each input, by its name, in order.
        outputs: names, in order; those of torch's exporter by default.
        network: whose program it is, if it calls blocks.
        blocks: those that the program calls.

    Raises:
        GlocalError: ONNX's standard operators cannot express the program.
    """
    onnx, _ = require_onnx()
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    from glocal.exporting.onnx_blocks import insert_blocks
    from glocal.exporting.onnx_operators import translations
    from glocal.exporting.onnx_splits import split_convolutions

    def translate(program: ExportedProgram, **options: Any) -> Any:
        return torch.onnx.export(
            program,
            opset_version=opset,
            dynamo=True,
            verbose=False,
            optimize=False,
            custom_translation_table=translations(),
            **options,
        )

    with quiet():
        try:
            names = {"input_names": list(inputs), "output_names": list(outputs) or None}
            written = translate(program, **names)
            if blocks and network is not None:
                insert_blocks(
                    written.model, network, blocks, lambda program: translate(program).model
                )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            old = torch.__version__.startswith("2.6")
            hint = "; torch 2.6 cannot write all networks: a newer torch may" if old else ""
            raise GlocalError(
                f"{path.name}: cannot be written in ONNX opset {opset}: {reason}{hint}"
            ) from None
    # Constants suffice: the exporter's own rules take minutes, and engines have such rules. At a
    # fixed size all arithmetic of sizes is constant: runtimes without dynamic shapes need that.
    shapes = (each.shape or () for each in written.model.graph.inputs)
    fixed = all(isinstance(pixels, int) for shape in shapes for pixels in shape[2:])
    fold_constants(written.model, onnx_shape_inference=fixed)
    split_convolutions(written.model)
    remove_unused_nodes(written.model)
    ClearMetadataAndDocStringPass()(written.model)  # names of folders and lines of code
    weights = sum(value.const_value.nbytes for value in written.model.graph.initializers.values())
    written.save(path, external_data=weights >= _TWO_GIB)
    model = onnx.load(path, load_external_data=False)
    domains = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if domains != {"ai.onnx": opset}:
        raise GlocalError(
            f"{path.name}: needs the operators of {domains}, more than ONNX opset {opset}"
        )
    _name_dims(model.graph, list(inputs.values()))
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
    return tuple(sorted({node.op_type for node in model.graph.node}))


def run_onnx(path: Path, threads: int | None = None) -> Callable[..., list[Tensor]]:
    """The function that an ONNX file computes; it runs in onnxruntime on the CPU.

    Args:
        path: the file.
        threads: to use; all processors by default.

    Raises:
        GlocalError: onnxruntime does not run it, for example in float64.
    """
    _, onnxruntime = require_onnx()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # A plan takes a second block beside the memory of the first run: 3.9 instead of 2.1 GB for
    # NAFNet-w32 at 720p, and no faster.
    options.enable_mem_pattern = False
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers)
    except Exception as error:  # its exceptions have no common base
        reason = " ".join(str(error).split())[:200]
        raise GlocalError(f"{path.name}: onnxruntime does not run it: {reason}") from None
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        fed = {name: t.cpu().numpy() for name, t in zip(names, inputs, strict=True)}
        try:
            return [torch.from_numpy(a) for a in session.run(None, fed)]
        except Exception as error:
            raise RuntimeError(str(error)) from None

    return run


def _name_dims(graph: Any, wanted: Sequence[Sequence[str]]) -> None:
    """Rename the symbolic dimensions of the inputs everywhere, also in expressions."""
    names = {
        dim.dim_param: name
        for value, known in zip(graph.input, wanted, strict=True)
        for dim, name in zip(value.type.tensor_type.shape.dim, known, strict=False)
        if dim.dim_param
    }
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r"\w+", lambda word: names.get(word[0], word[0]), dim.dim_param
                )
