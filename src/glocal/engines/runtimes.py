"""The runtimes of a network: their names, and which are installed."""

import importlib.util
from importlib.metadata import version
from typing import Literal, TypeAlias, get_args

from glocal.errors import ArgumentError

__all__ = ["ENGINES", "RUNTIMES", "EngineName", "Runtime", "check_installed", "installed"]

EngineName: TypeAlias = Literal["onnxruntime", "openvino"]
Runtime: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]
"""The library that runs a network; "auto" is the fastest one installed."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)

_PACKAGES = {
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}
"""Packages that each engine needs: onnxscript writes a file, and onnxruntime checks it."""

_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}


def installed() -> dict[EngineName, str]:
    """Version of each engine whose packages are installed."""
    return {name: version(name) for name in ENGINES if not _missing(name)}


def check_installed(runtime: str) -> None:
    """Check the name of a runtime, and that its packages are installed.

    Raises:
        ArgumentError: the name is unknown, or a package is missing.
    """
    if runtime not in RUNTIMES:
        raise ArgumentError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    if runtime in _PACKAGES and (missing := _missing(runtime)):
        raise ArgumentError(
            f"runtime {runtime} needs the package {missing[0]}; install it: "
            f'pip install "glocal[{_EXTRAS[runtime]}]"'
        )


def _missing(runtime: str) -> list[str]:
    return [name for name in _PACKAGES[runtime] if importlib.util.find_spec(name) is None]
