"""Keep sizes symbolic in `int`, `float` and `math.sqrt` during a capture.

`int(x.shape[2])` has to return a plain number, so that a capture would hold for one image size or
one batch size only. For the time of a capture the modules that define the network get functions of
their own by these names, which return symbolic numbers for symbolic numbers.
"""

import builtins
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from glocal.scanning.recorder import source_line

__all__ = ["symbolic_numbers"]

# Attribute of a symbolic quotient: (a, b) of a / b. For sizes int(a / b) is a // b, which torch
# simplifies where it does not know int(a / b).
_QUOTIENT = "_glocal_quotient"
_FOREIGN = frozenset("torch torchvision einops numpy builtins glocal math".split())


class _LikeBuiltin(type):
    """Makes a stand-in behave as the builtin type in `isinstance` and `==`."""

    builtin: type

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.builtin)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.builtin

    def __hash__(cls) -> int:
        return hash(cls.builtin)


class _Int(int, metaclass=_LikeBuiltin):
    builtin = builtins.int

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], torch.SymInt | torch.SymFloat):
            above, below = getattr(args[0], _QUOTIENT, (None, None))
            return torch.sym_int(args[0]) if above is None else above // below
        return builtins.int(*args, **kwargs)


class _Float(float, metaclass=_LikeBuiltin):
    builtin = builtins.float

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], torch.SymInt | torch.SymFloat):
            return torch.sym_float(args[0])
        return builtins.float(*args, **kwargs)


def _sqrt(x: Any) -> Any:
    symbolic = isinstance(x, torch.SymInt | torch.SymFloat)
    return torch._sym_sqrt(x) if symbolic else math.sqrt(x)  # type: ignore[attr-defined]


_MATH = ModuleType("math")
_MATH.__dict__.update({**vars(math), "sqrt": _sqrt})


@contextmanager
def symbolic_numbers(block: nn.Module) -> Iterator[list[str]]:
    """Give the code of a block an `int` and a `float` that keep symbolic numbers.

    Yields:
        the lines of the network's source that still turn a symbolic number into a plain one, as
        they run: `range(x.shape[2])`.
    """
    lines: list[str] = []
    plain: Any = torch.SymInt.__index__

    def as_plain(number: torch.SymInt) -> int:
        if line := source_line():
            lines.append(line)
        made: int = plain(number)
        return made

    stand_ins = {"int": _Int, "float": _Float}
    divide: Any = torch.SymInt.__truediv__

    def divide_and_note(a: Any, b: Any) -> Any:
        quotient = divide(a, b)
        if isinstance(quotient, torch.SymFloat) and isinstance(b, int | torch.SymInt):
            setattr(quotient, _QUOTIENT, (a, b))
        return quotient

    changed: list[tuple[dict[str, Any], str, Any]] = []
    try:
        torch.SymInt.__truediv__ = divide_and_note  # type: ignore[method-assign]
        torch.SymInt.__index__ = as_plain  # type: ignore[method-assign]
        for names in _namespaces(block):
            for name, stand_in in stand_ins.items():
                if name not in names:
                    names[name] = stand_in
                    changed.append((names, name, None))
            for name, value in list(names.items()):
                if value is math or value is math.sqrt:
                    names[name] = _MATH if value is math else _sqrt
                    changed.append((names, name, value))
        yield lines
    finally:
        torch.SymInt.__truediv__ = divide  # type: ignore[method-assign]
        torch.SymInt.__index__ = plain  # type: ignore[method-assign]
        for names, name, before in changed:
            if before is None:
                names.pop(name, None)
            else:
                names[name] = before


def _namespaces(block: nn.Module) -> list[dict[str, Any]]:
    """Return the global names that the code of a block may use."""
    found: dict[int, dict[str, Any]] = {}
    functions: list[FunctionType] = []
    for module in block.modules():
        for kind in type(module).__mro__:
            if (home := sys.modules.get(kind.__module__)) is not None:
                _add(found, vars(home))
            functions += [f for f in vars(kind).values() if isinstance(f, FunctionType)]
        functions += [f for f in vars(module).values() if isinstance(f, FunctionType)]
    for function in functions:
        _add(found, function.__globals__)
    for names in list(found.values()):
        for value in list(names.values()):
            if isinstance(value, FunctionType):
                _add(found, value.__globals__)
    return list(found.values())


def _add(found: dict[int, dict[str, Any]], names: dict[str, Any]) -> None:
    package = str(names.get("__name__", "")).partition(".")[0]
    own_networks = str(names.get("__name__", "")).startswith("glocal.networks")
    if package in _FOREIGN and not own_networks:
        return
    if package in sys.stdlib_module_names and package != "__main__":
        return
    found[id(names)] = names
