"""The one place that asks whether torch records a program instead of computing.

`torch.compile` follows a branch on sizes but compiles anew for each outcome. `torch.export`, the
ONNX exporter and `torch.jit.trace` keep the one branch that they see. Functions that branch on the
size or memory format of a map therefore have a second form without the branch, and `program_form`
names it.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

__all__ = ["is_compiling", "is_exporting", "is_recording", "program_form"]

P = ParamSpec("P")
R = TypeVar("R")


def is_exporting() -> bool:
    """True while `torch.export`, the ONNX exporter or `torch.jit.trace` records."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None


def is_compiling() -> bool:
    """True while `torch.compile` records."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def is_recording() -> bool:
    """True while any of them records."""
    return is_exporting() or torch.compiler.is_compiling()


def program_form(form: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: call `form` instead of the function while a program is recorded.

    >>> @program_form(lambda x: x.flatten(2).mean(-1))
    ... def pooled(x):
    ...     return x.mean((2, 3)) if x.shape[2:] != (1, 1) else x[..., 0, 0]

    Args:
        form: takes the same arguments and gives the same result, without a branch on sizes.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
            if is_recording():
                return form(*args, **kwargs)
            return function(*args, **kwargs)

        return chosen

    return decorate
