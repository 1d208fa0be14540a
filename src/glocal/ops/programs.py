"""The one place that asks whether torch records a program instead of computing.

`torch.compile` follows a branch on sizes but compiles anew for each outcome. `torch.export`, the
ONNX exporter and `torch.jit.trace` keep the one branch that they see. Functions that branch on the
size or memory format of a map therefore have a second form without the branch, and `program_form`
names it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch._compile import _disable_dynamo  # `torch.compiler.disable` imports the compiler at once

__all__ = [
    "is_compiling",
    "is_exporting",
    "is_recording",
    "keeping_operators",
    "keeps_operators",
    "not_compiled",
    "not_compiled_itself",
    "program_form",
]

_keeping = False  # a plain variable, which `torch.compile` follows

P = ParamSpec("P")
R = TypeVar("R")


def _is_exporting_in_torch_2_6() -> bool:
    """True while `torch.export` records; only there nobody but dynamo compiles."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


_has_is_exporting = hasattr(torch.compiler, "is_exporting")  # from torch 2.7 on
_torch_exports: Callable[[], bool] = (
    torch.compiler.is_exporting if _has_is_exporting else _is_exporting_in_torch_2_6
)


def is_exporting() -> bool:
    """True while `torch.export`, the ONNX exporter or `torch.jit.trace` records."""
    return _torch_exports() or torch._C._get_tracing_state() is not None


@contextmanager
def keeping_operators() -> Iterator[None]:
    """Keep window statistics as operators in the programs that `torch.export` records here.

    Such a program is not complete: whoever records it replaces the operators.
    """
    global _keeping
    before, _keeping = _keeping, True
    try:
        yield
    finally:
        _keeping = before


def keeps_operators() -> bool:
    """True inside `keeping_operators`."""
    return _keeping


def is_compiling() -> bool:
    """True while `torch.compile` records.

    torch 2.6 does not tell `torch.compile` from a strict `torch.export`, whose program would freeze
    sizes. There, local operations run outside the compiled graph, and a strict export is refused.
    """
    if not _has_is_exporting and torch.compiler.is_dynamo_compiling():
        torch._dynamo.graph_break()
        return False
    return torch.compiler.is_compiling() and not _torch_exports()


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


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: under `torch.compile` the function and all that it calls run in eager mode."""
    made: Callable[P, R] = _disable_dynamo(function)
    return made


def not_compiled_itself(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: `torch.compile` compiles what the function calls, but not the function."""
    skipped: Callable[P, R] = _disable_dynamo(function, recursive=False)

    @wraps(function)
    def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
        if is_exporting():  # which refuses such a function, and does not compile
            return function(*args, **kwargs)
        return skipped(*args, **kwargs)

    return chosen
