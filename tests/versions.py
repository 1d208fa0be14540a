"""Skips for the oldest supported torch and for packages that are not installed."""

import importlib.util

import pytest
import torch

torch_2_6 = torch.__version__.startswith("2.6")


def needs_torch_2_7(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(torch_2_6, reason=f"torch 2.6: {reason}")


crops_in_onnx = needs_torch_2_7("its ONNX exporter fails on statistics from crops")


def skip_unless_written(suffix: str) -> None:
    """Skip a test of a format whose library is not installed."""
    from glocal.images.formats import loaders
    from glocal.images.limits import format_named

    if not loaders()[format_named(suffix)[1].kind][1]:
        pytest.skip(f"nothing that is installed writes {suffix}")


missing = [
    name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
]
needs_onnx = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
