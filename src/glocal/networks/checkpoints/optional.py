"""Import optional packages."""

import importlib
from types import ModuleType

from glocal.errors import CheckpointError

__all__ = ["brief", "imported"]

_EXTRAS = {"huggingface_hub": "hub"}
"""Extras of the packages; all others are in "spandrel"."""


def imported(package: str, problem: str = "") -> ModuleType:
    """Return an optional package.

    Args:
        package: its name.
        problem: what fails without it, for the error.

    Raises:
        CheckpointError: it is not installed, or cannot be imported.
    """
    lead = f"{problem}: " if problem else ""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        install = f'pip install "glocal[{_EXTRAS.get(package, "spandrel")}]"'
        raise CheckpointError(f"{lead}{error.name} is not installed; {install}") from None
    except Exception as error:  # such as torchvision built for another torch
        raise CheckpointError(
            f"{lead}{package} is installed but cannot be imported "
            f"({type(error).__name__}: {brief(error)})"
        ) from None


def brief(error: BaseException) -> str:
    """Return the first line of the message of an error, at most 200 characters."""
    return (str(error).strip().splitlines() or [""])[0][:200]
