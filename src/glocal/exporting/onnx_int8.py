"""Turn the dense convolutions of a written ONNX file into 8-bit integers.

Weights get one scale per channel, activations one per tensor, which comes from runs on the user's
photographs (static quantization). Everything else stays in float32: window sums, norms, statistics
and the convolutions of one channel each, whose errors would add up and which no engine runs faster.
"""

import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from glocal.exporting.onnx import require_onnx
from glocal.scanning.trace import quiet

__all__ = ["quantize"]


def quantize(path: Path, inputs: Sequence[Mapping[str, Tensor]]) -> int:
    """Quantize the dense convolutions of a file, in place; return their number.

    Args:
        path: an ONNX file in float32.
        inputs: of its calibration runs, by name.
    """
    onnx, _ = require_onnx()
    library: Any = importlib.import_module("onnxruntime.quantization")
    model = onnx.load(path)
    properties = {each.key: each.value for each in model.metadata_props}
    dense = [node.name for node in model.graph.node if node.op_type == "Conv" and _is_dense(node)]

    class Reader(library.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._following: Iterator[Mapping[str, Tensor]] = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            found = next(self._following, None)
            return None if found is None else {name: t.numpy() for name, t in found.items()}

    if not dense:
        return 0
    with quiet(), _no_advice():
        library.quantize_static(
            path,
            path,
            Reader(),
            quant_format=library.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=dense,
            per_channel=True,
            activation_type=library.QuantType.QUInt8,
            weight_type=library.QuantType.QInt8,
        )
    written = onnx.load(path)
    del written.metadata_props[:]
    onnx.helper.set_model_props(written, {**properties, "glocal_int8": str(len(dense))})
    onnx.save_model(written, path)
    return len(dense)


def _is_dense(convolution: Any) -> bool:
    groups = [each.i for each in convolution.attribute if each.name == "group"]
    return groups in ([], [1])


@contextmanager
def _no_advice() -> Iterator[None]:
    """Hide the quantizer's advice to prepare a file, which glocal's files do not need."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
