"""Load the compiled library of this package that suits the processor.

Nothing is compiled here: installing glocal builds the libraries (see `build`). Without one, torch
computes the same, more slowly; ``glocal doctor`` says why. The environment variable
``GLOCAL_KERNELS`` names a variant to use, or turns the kernels off with 0.
"""

import ctypes
import hashlib
import os
import stat
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from glocal.errors import ArgumentError, GlocalWarning
from glocal.json_files import JsonError, read_json
from glocal.ops.kernels import build

__all__ = ["INDEX", "POINTER", "Kernels", "Signatures", "kernels", "library", "select"]

POINTER, INDEX = ctypes.c_void_p, ctypes.c_ssize_t
Signatures: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
"""Names of functions that return an int, and the types of their arguments."""

VARIABLE = "GLOCAL_KERNELS"
"""The environment variable that names a variant, or 0 for none."""

_NOT_BUILT = "not built"
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
        skipped: why a faster one is not loaded, such as damage; empty if none is faster.
    """

    library: ctypes.CDLL | None = None
    variant: str = ""
    file: Path | None = None
    openmp: bool = False
    reason: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class _Manifest:
    """Digests of the sources and of each library, see `build.MANIFEST`."""

    sources: str
    libraries: dict[str, str]


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

    A library that is damaged, of other sources, or that other users may write to is not loaded;
    this warns once, and a slower variant or torch takes its place.

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
    problem = found.skipped or found.reason
    if wanted and problem:
        raise ArgumentError(f"{VARIABLE}={wanted} cannot be used: {problem}")
    if problem and not problem.startswith(_NOT_BUILT):
        used = f"the {found.variant} kernels are" if found.library else "torch alone is"
        warnings.warn(f"{problem}; {used} used, more slowly", GlocalWarning, stacklevel=2)
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
    chosen = select(wanted, built, features)
    loaded, skipped = _open(chosen)
    while loaded is None:  # the baseline was loaded
        built.remove(chosen)
        chosen = select("", built, features)
        loaded, _ = _open(chosen)
    return Kernels(loaded, chosen, _path(chosen), _share_threads(loaded), skipped=skipped)


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
        return None, f"{_NOT_BUILT}: {why}. To build them, run {_BUILD}"
    if problem := _untrusted(path) or _unlike_manifest(path):
        return None, f"{path} {problem}. To build it again, run {_BUILD}"
    try:
        return ctypes.CDLL(str(path)), ""
    except OSError as error:
        return None, f"{path} could not be loaded: {error}"


def _untrusted(path: Path) -> str:
    """Why somebody else could have written a library; empty if nobody could.

    Its owner must be the user, root, or the owner of this very module, whose code runs anyway.
    Groups may write: package folders of a team are set up so.
    """
    if not hasattr(os, "geteuid"):
        return ""
    try:
        trusted = {0, os.geteuid(), Path(__file__).stat().st_uid}
        for place in (path.parent, path):
            about = place.stat()
            is_shared = about.st_mode & stat.S_IWOTH and not about.st_mode & stat.S_ISVTX
            if about.st_uid not in trusted or is_shared:
                return f"is not loaded: other users may write to {place}"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    return ""


def _unlike_manifest(path: Path) -> str:
    """How a library differs from what was built; empty if it does not."""
    try:
        manifest = read_json(path.parent / build.MANIFEST, _Manifest)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, JsonError):
        return f"has no digest in {build.MANIFEST}"
    if manifest.sources != build.digest():
        return "was built from other sources"
    if manifest.libraries.get(path.name) != found:
        return "is damaged or was replaced: its digest is another"
    return ""


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
