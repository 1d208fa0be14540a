"""The optional libraries of `pip install "glocal[formats]"`, imported when a file needs them."""

import importlib
from types import ModuleType

from glocal.errors import ImageError

__all__ = ["is_installed", "library"]


def library(name: str, purpose: str) -> ModuleType:
    """Import an optional library.

    Args:
        name: of the module.
        purpose: what needs it, such as "HEIC files need pillow-heif".

    Raises:
        ImageError: it is not installed, or does not work here.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImageError(f'{purpose}: pip install "glocal[formats]"') from None


def is_installed(name: str) -> bool:
    """True if an optional library can be imported."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
