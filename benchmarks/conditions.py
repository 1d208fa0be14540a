"""Conditions of a measurement that change ratios: machine, versions, commit, allocator."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import torch
from case import Settings

import glocal
from glocal.provenance import machine_name, versions

ROOT = Path(__file__).resolve().parents[1]
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM_ALLOC_ENABLE", "PYTORCH_")


def conditions(settings: Settings) -> dict[str, str]:
    """Conditions printed beside a table; equal conditions need no second measurement."""
    device = torch.device(settings.device)
    found = versions()
    return {
        "machine": _machine(device),
        "Python": found["Python"],
        "torch": found["torch"],
        "glocal": f"{found['glocal']}, commit {_commit()}",
        "source": _source(),
        "threads": str(settings.threads),
        "repeats": str(settings.repeats),
        "allocator": allocator(os.environ),
    }


def same(one: dict[str, str], other: dict[str, str]) -> bool:
    """True if two figures are comparable: commits that change no code do not count."""
    return {**one, "glocal": ""} == {**other, "glocal": ""}


def described(found: dict[str, str]) -> str:
    """The conditions as one sentence for the report."""
    return (
        f"{found['machine']}; {found['threads']} threads; Python {found['Python']}, "
        f"torch {found['torch']}, glocal {found['glocal']}; medians of {found['repeats']}, "
        f"alternating variants; allocator: {found['allocator']}."
    )


def allocator(environment: os._Environ[str] | dict[str, str]) -> str:
    """The C library, and environment variables that change its allocator."""
    library = " ".join(platform.libc_ver()).strip() or platform.system()
    chosen = [
        f"{name}={value}" for name, value in environment.items() if name.startswith(ALLOCATOR)
    ]
    return f"{library}, {', '.join(sorted(chosen)) or 'default settings'}"


def available_mib(device: str) -> float | None:
    """Available memory in MiB, if the system reports it."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 2**20
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if "MemAvailable" in line), None)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{machine_name(device)}, CUDA {torch.version.cuda}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    narrow = "with" if has_bfloat16() else "without"
    return f"{machine_name(device)}, {cores} cores, {narrow} bfloat16 instructions"


def has_bfloat16() -> bool:
    """True if the processor has bfloat16 instructions; without them it is ten times slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.check_output(
            ["git", "-C", str(ROOT), *arguments], text=True, stderr=subprocess.DEVNULL
        ).strip()

    try:
        changed = git("status", "--porcelain", "--", "src", "benchmarks")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _source() -> str:
    """Digest of the measured code, which also covers uncommitted changes."""
    package = Path(glocal.__file__).parent
    digest = hashlib.sha256()
    sources = (path for path in package.rglob("*") if path.suffix in (".py", ".cpp"))
    for path in sorted(sources):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
