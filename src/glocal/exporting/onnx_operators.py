"""Glocal's operators in ONNX, for torch's exporter. Needs onnxscript."""

from collections.abc import Callable
from typing import Any

import torch

from glocal.exporting import onnx_attention, onnx_blocks, onnx_windows

__all__ = ["translations"]


def translations() -> dict[Any, Callable[..., onnx_windows.Value]]:
    """For `torch.onnx.export(custom_translation_table=...)`."""
    namespace = torch.ops.glocal
    return {
        namespace.block.default: onnx_blocks.call_block,
        namespace.means_at_windows.default: onnx_windows.means,
        namespace.maxima_at_windows.default: onnx_windows.maxima,
        namespace.map_of_values.default: onnx_windows.map_of_values,
        namespace.channel_attention.default: onnx_attention.channel_attention,
    }
