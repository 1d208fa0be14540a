"""Compile the package's C++ on first use and keep the library in the user's cache.

Where there is no compiler, or ``GLOCAL_NATIVE=0`` says so, nothing is lost but speed.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["INDEX", "POINTER", "Signatures", "library"]

POINTER, INDEX = ctypes.c_void_p, ctypes.c_ssize_t
Signatures: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
"""Names of functions that return an int, and the types of their arguments."""

_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_SECONDS = 120


@cache
def library(name: str, signatures: Signatures) -> ctypes.CDLL | None:
    """The functions of a source of this folder; None where they cannot be had."""
    if os.environ.get("GLOCAL_NATIVE", "1") == "0" or sys.platform == "win32":
        return None
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return None
    source = files("glocal.ops.kernels").joinpath(f"{name}.cpp").read_text()
    try:
        loaded = ctypes.CDLL(str(_built(compiler, name, source)))
    except (OSError, subprocess.SubprocessError):
        return None
    for function, arguments in signatures:
        getattr(loaded, function).argtypes = arguments
    return loaded


def _built(compiler: str, name: str, source: str) -> Path:
    """The compiled library, from the cache if it is there; made whole or not at all."""
    said = (source, compiler, *_FLAGS, platform.machine(), _processor())
    digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
    folder = _cache()
    path = folder / f"{name}-{digest}.so"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work) / path.name
        command = [compiler, *_FLAGS, "-x", "c++", "-", "-o", str(made)]
        subprocess.run(
            command, input=source.encode(), check=True, capture_output=True, timeout=_SECONDS
        )
        os.replace(made, path)
    return path


def _cache() -> Path:
    """Where compiled libraries are kept.

    Raises:
        OSError: the user has no place for it.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glocal"
    except RuntimeError as problem:  # in a container, a user may have neither HOME nor an entry
        raise FileNotFoundError(str(problem)) from None


def _processor() -> str:
    """What the compiler's ``native`` stands for here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
