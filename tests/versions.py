"""Skips for the oldest supported torch and for packages that are not installed."""

import importlib.util

import pytest
import torch

torch_2_6 = torch.__version__.startswith("2.6")


def needs_torch_2_7(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(torch_2_6, reason=f"torch 2.6: {reason}")


missing = [
    name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
]
needs_onnx = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
