"""Open an exported file in an engine."""

import importlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glocal.engines.runtimes import EngineName
from glocal.errors import GlocalError
from glocal.exporting.files import Run
from glocal.exporting.onnx import run_onnx
from glocal.texts import one_line

__all__ = ["opened"]

_KEPT = 2
"""Sizes that OpenVINO keeps compiled; each holds the memory of a run. Measuring a halo alternates
between two."""


def opened(name: EngineName, path: Path, threads: int, dtype: torch.dtype = torch.float32) -> Run:
    """Open an ONNX file.

    Args:
        name: of the engine.
        path: the file.
        threads: that the engine uses.
        dtype: that it computes in, float32 or bfloat16.

    Returns:
        A function from float32 tensors to all outputs.

    Raises:
        GlocalError: the engine does not take the file, or does not compute in this type.
    """
    if name == "openvino":
        return _OpenVinoFile(path, threads, dtype)
    if dtype != torch.float32:
        raise GlocalError("onnxruntime computes in float32 on CPUs")
    return run_onnx(path, threads)


class _OpenVinoFile:
    """A file in OpenVINO, compiled for each size of the inputs."""

    def __init__(self, path: Path, threads: int, dtype: torch.dtype) -> None:
        openvino: Any = importlib.import_module("openvino")
        self._core = openvino.Core()
        # Without the hint, OpenVINO takes bfloat16 where the processor has instructions for it.
        hint = "bf16" if dtype == torch.bfloat16 else "f32"
        self._options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
        self._compiled: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise GlocalError(f"{path.name}: OpenVINO cannot read it: {one_line(error)}") from None

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        arrays = [t.contiguous().numpy() for t in inputs]
        found = self._for(tuple(array.shape for array in arrays))(arrays)
        return [torch.from_numpy(found[i]) for i in range(len(found))]

    def _for(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        """The program compiled for these shapes; OpenVINO runs dynamic ones slowly, or not."""
        if shapes not in self._compiled:
            while len(self._compiled) >= _KEPT:
                self._compiled.popitem(last=False)
            model = self._model.clone()
            model.reshape(dict(enumerate(map(list, shapes))))
            self._compiled[shapes] = self._core.compile_model(model, "CPU", self._options)
        self._compiled.move_to_end(shapes)
        return self._compiled[shapes]
