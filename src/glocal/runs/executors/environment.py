"""What must be equal on all machines of a run: versions, and the code of glocal."""

import platform
import socket
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from glocal.errors import GlocalError

__all__ = ["Environment", "check_same", "environment"]

Environment = dict[str, str]
"""Names and versions, as text."""


def environment() -> Environment:
    """Return what results depend on beside a network and photographs; imports no torch."""
    folder = Path(__file__).parents[2]  # of the package
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return {
        "Python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "glocal", "pyvips-binary")},
        "code of glocal": digest.hexdigest()[:12],
    }


def check_same(there: Environment, where: str) -> None:
    """Check that another machine has what this one has.

    Raises:
        GlocalError: it has not; one line says what differs.
    """
    differing = [
        f"{name} {there.get(name)}, not {here}"
        for name, here in environment().items()
        if there.get(name) != here
    ]
    if differing:
        raise GlocalError(
            f"{where} has {'; '.join(differing)} as {socket.gethostname()}; install the same "
            "packages on all machines"
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
