"""Load the compiled library of this package that suits the processor.

Nothing is compiled here: installing glocal builds the libraries (see `build`). Without one, torch
computes the same, more slowly; ``glocal doctor`` says why. The environment variable
``GLOCAL_KERNELS`` names a variant to use, or turns the kernels off with 0.
"""

import ctypes
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from glocal.errors import ArgumentError
from glocal.ops.kernels import build

__all__ = ["INDEX", "POINTER", "Kernels", "Signatures", "kernels", "library", "select"]

POINTER, INDEX = ctypes.c_void_p, ctypes.c_ssize_t
Signatures: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
"""Names of functions that return an int, and the types of their arguments."""

VARIABLE = "GLOCAL_KERNELS"
"""The environment variable that names a variant, or 0 for none."""

_BUILD = f"python {build.__file__}"
_TORCH_LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib")


@dataclass(frozen=True)
class Kernels:
    """The library in use, or the reason why there is none.

    Attributes:
        library: the loaded library; None without one.
        variant: its name, one of `build.VARIANTS`.
        file: its path.
        openmp: True if it runs on the threads of torch's OpenMP runtime, False if it starts its
            own for each call.
        reason: why there is no library; empty with one.
    """

    library: ctypes.CDLL | None = None
    variant: str = ""
    file: Path | None = None
    openmp: bool = False
    reason: str = ""


@cache
def library(signatures: Signatures) -> ctypes.CDLL | None:
    """Return the library in use, with the argument types of these functions, or None."""
    loaded = kernels().library
    for function, arguments in signatures if loaded else ():
        getattr(loaded, function).argtypes = arguments
    return loaded


@cache
def kernels() -> Kernels:
    """Load the library that ``GLOCAL_KERNELS`` names, by default the fastest.

    Raises:
        ArgumentError: ``GLOCAL_KERNELS`` has an unknown value, or names a variant that is not
            built or that this processor cannot run.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "0":
        return Kernels(reason=f"{VARIABLE}=0 turns them off")
    if wanted not in ("", *build.VARIANTS):
        names = ", ".join(build.VARIANTS)
        raise ArgumentError(f"{VARIABLE}={wanted} is unknown; set one of {names}, or 0")
    found = _best(wanted)
    if wanted and found.library is None:
        raise ArgumentError(f"{VARIABLE}={wanted} cannot be used: {found.reason}")
    return found


def select(wanted: str, built: Collection[str], features: Collection[str]) -> str:
    """The variant to load.

    >>> select("", {"baseline"}, {"avx2", "fma"})
    'baseline'

    Args:
        wanted: the variant that the user names; empty for the fastest.
        built: names of the variants that are built.
        features: what the processor supports, some of `build.FEATURES`.

    Raises:
        ArgumentError: `wanted` is not built, or the processor cannot run it.
    """
    if not wanted:
        fits = [v for v, needs in build.VARIANTS.items() if v in built and {*needs} <= {*features}]
        return fits[-1]  # the baseline is always built
    if wanted not in built:
        raise ArgumentError(f"{VARIABLE}={wanted} is not built; run {_BUILD}")
    if missing := [name for name in build.VARIANTS[wanted] if name not in features]:
        raise ArgumentError(f"{VARIABLE}={wanted} needs a processor with {', '.join(missing)}")
    return wanted


def _best(wanted: str) -> Kernels:
    baseline, reason = _open("baseline")
    if baseline is None:
        return Kernels(reason=reason)
    built = [variant for variant in build.VARIANTS if _path(variant).exists()]
    bits = baseline.glocal_features()
    features = [name for i, name in enumerate(build.FEATURES) if bits >> i & 1]
    variant = select(wanted, built, features)
    loaded, reason = _open(variant)
    if loaded is None:
        return Kernels(reason=reason)
    return Kernels(loaded, variant, _path(variant), _share_threads(loaded))


def _path(variant: str) -> Path:
    return build.BUILT / build.file_name(variant)


def _open(variant: str) -> tuple[ctypes.CDLL | None, str]:
    """A variant's library, or None and the reason."""
    path = _path(variant)
    if not path.exists():
        try:
            why = (build.BUILT / build.REASON).read_text(encoding="utf-8").strip()
        except OSError:
            why = (
                "the installed wheel has none, or glocal runs from a checkout without installation"
            )
        return None, f"not built: {why}. To build them, run {_BUILD}"
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"{path} could not be loaded: {error}"
    try:
        loaded.glocal_sources.restype = ctypes.c_char_p
        sources = loaded.glocal_sources().decode()
    except AttributeError:
        sources = ""
    if sources != build.digest():
        return None, f"{path} was built from other sources. To build it again, run {_BUILD}"
    return loaded, ""


def _share_threads(loaded: ctypes.CDLL) -> bool:
    """Run a library on torch's OpenMP threads; return False if torch has none.

    The runtime is looked up through the torch library that depends on it, so that it is torch's
    own even where the process has several.
    """
    folder = Path(torch.__file__).parent / "lib"
    path = next((folder / name for name in _TORCH_LIBRARIES if (folder / name).exists()), None)
    try:
        parallel = ctypes.CDLL(str(path)).GOMP_parallel if path else None
    except (OSError, AttributeError):
        return False
    if parallel is None:
        return False
    loaded.glocal_use_openmp.argtypes = (POINTER,)
    loaded.glocal_use_openmp.restype = None
    loaded.glocal_use_openmp(ctypes.cast(parallel, POINTER))
    return True
