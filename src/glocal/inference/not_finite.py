"""Find the layer of a network that first makes values that are not finite."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from glocal.errors import GlocalError

__all__ = ["NotFiniteError", "first_not_finite"]


class NotFiniteError(GlocalError):
    """A network made values that are not finite."""


def first_not_finite(model: nn.Module, run: Callable[[], object]) -> str | None:
    """Return path and class of the first module whose output is not finite, such as "up (Conv2d)".

    Args:
        model: the network.
        run: runs it once.

    Returns:
        None if all outputs are finite. The path of the network itself is "".
    """
    names = {module: path for path, module in model.named_modules()}
    found: list[str] = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        if not found and module in names and not _is_finite(output):
            found.append(f"{names[module]} ({type(module).__name__})".lstrip())

    handle = register_module_forward_hook(look)
    try:
        with suppress(Exception):  # later layers may refuse such values
            run()
    finally:
        handle.remove()
    return found[0] if found else None


def _is_finite(output: Any) -> bool:
    if isinstance(output, Tensor):
        return not output.is_floating_point() or bool(torch.isfinite(output).all())
    if isinstance(output, dict):
        output = output.values()
    elif not isinstance(output, tuple | list):
        return True
    return all(map(_is_finite, output))
