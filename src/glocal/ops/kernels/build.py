"""Compile the C++ sources into shared libraries, one per processor variant.

Installing glocal from a checkout or an sdist runs this through the build hook; running this file
does it again. It uses the standard library alone, because the hook and ``make kernels`` load it by
its path, before glocal is installed.
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = [
    "BUILT",
    "FEATURES",
    "MANIFEST",
    "REASON",
    "VARIANTS",
    "BuildError",
    "build",
    "digest",
    "file_name",
    "try_build",
]

SOURCES = Path(__file__).parent
"""The folder of the C++ sources."""

BUILT = SOURCES / "built"
"""The folder of the libraries; git ignores it."""

REASON = "reason.txt"
"""The file in `BUILT` that says why there are no libraries."""

MANIFEST = "libraries.json"
"""The file in `BUILT` with the digests of the sources and of each library.

The loader compares them before it loads a library: one that was cut short crashes the process.
"""

FEATURES = ("fma", "avx2", "avx512f", "avx512dq", "avx512bw", "avx512vl")
"""Processor features in the order of the bits of `glocal_features` in library.cpp."""

_X86 = platform.machine().lower() in ("x86_64", "amd64")
_AVX2 = ("fma", "avx2")

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "baseline": (),
    **({"avx2": _AVX2, "avx512": FEATURES} if _X86 else {}),
}
"""Variants from the slowest to the fastest, and the processor features that each needs.

Other processors have one variant: every 64-bit Arm processor has NEON.
"""

# -fopenmp-simd reads the simd pragmas; it links no OpenMP runtime (see library.cpp)
_FLAGS = ("-std=c++17", "-O3", "-fopenmp-simd", "-fvisibility=hidden", "-Wno-psabi", "-shared")
_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
_COMPILERS = ("clang++", "g++") if sys.platform == "win32" else ("c++", "g++", "clang++")
_SECONDS = 600  # a compiler that takes longer hangs; all sources take about 7 s of processor time


class BuildError(Exception):
    """The libraries could not be built; the message is one line."""


def file_name(variant: str) -> str:
    """The file name of a variant's library on this platform."""
    return variant + _SUFFIXES.get(sys.platform, ".so")


def digest() -> str:
    """The digest of the sources and flags.

    Libraries of other sources may take other arguments, so the loader refuses them.
    """
    digest = hashlib.sha256(repr((_FLAGS, FEATURES)).encode())
    for path in sorted(SOURCES.glob("*.cpp")) + sorted(SOURCES.glob("*.h")):
        # git may have changed the line ends
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def build(folder: Path = BUILT) -> None:
    """Build the library of each variant in a folder.

    The environment variable ``CXX`` names the compiler, GCC or Clang, and may add options.
    On macOS ``ARCHFLAGS`` names the architectures.

    Raises:
        BuildError: there is no compiler, it failed, or the folder cannot be written.
    """
    command = [*_compiler(), *_FLAGS]
    if sys.platform != "win32":
        command += ["-fPIC", "-pthread"]
    if sys.platform == "darwin":
        command += shlex.split(os.environ.get("ARCHFLAGS", ""))
    command += map(str, sorted(SOURCES.glob("*.cpp")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # running processes may have the present libraries loaded: replace, never overwrite
        with tempfile.TemporaryDirectory(dir=folder) as work:
            files = [Path(work) / file_name(variant) for variant in VARIANTS]
            for file, features in zip(files, VARIANTS.values(), strict=True):
                _run([*command, *(f"-m{feature}" for feature in features), "-o", str(file)])
            manifest = Path(work) / MANIFEST
            libraries = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
            content = {"sources": digest(), "libraries": libraries}
            manifest.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            for file in (*files, manifest):
                file.chmod(0o644)
                os.replace(file, folder / file.name)
        (folder / REASON).unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"{folder} cannot be written: {error.strerror}") from None


def try_build(folder: Path = BUILT) -> str | None:
    """Build the libraries; return why that failed, or None.

    The reason is also written to `REASON` in the folder, from where ``glocal doctor`` tells it.
    """
    try:
        build(folder)
    except BuildError as error:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / REASON).write_text(f"{error}\n", encoding="utf-8")
        return str(error)
    return None


def _compiler() -> list[str]:
    """The command that ``CXX`` names, or the first usual compiler on the path."""
    if named := os.environ.get("CXX"):
        command = shlex.split(named, posix=sys.platform != "win32")
        if shutil.which(command[0]) is None:
            raise BuildError(f"the C++ compiler CXX={named} was not found")
        return command
    found = next((name for name in _COMPILERS if shutil.which(name)), None)
    if found is None:
        raise BuildError(f"no C++ compiler was found (tried {', '.join(_COMPILERS)})")
    return [found]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except OSError as error:
        raise BuildError(f"{command[0]} could not be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} did not finish within {_SECONDS} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = next((line for line in lines if "error" in line), lines[-1] if lines else "")
        raise BuildError(f"{command[0]} failed with status {done.returncode}: {said.strip()}")


def main() -> int:
    """Build in place; print the folder or the error."""
    try:
        build()
    except BuildError as error:
        print(f"glocal: the kernels were not built: {error}", file=sys.stderr)
        return 1
    print(f"glocal: built {', '.join(VARIANTS)} in {BUILT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
