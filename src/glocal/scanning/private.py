"""A copy of a network whose runs leave the original and everything that its hooks write to alone.

Unlike `sandbox.isolated_copy`, the copy keeps its mode and its hooks: they are part of what the
network computes. A hook or a wrapped `forward` is a function that may refer to modules of the
original, or to a list that it fills. Such functions are copied with what they refer to.
"""

import copy
import functools
from collections import OrderedDict, defaultdict, deque
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from glocal.scanning.modules import clone

__all__ = ["private_copy"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_CONTAINERS = (list, tuple, dict, set, deque)
_DEPTH = 6
"""Levels of containers, functions and objects that are copied; what is deeper is shared."""


def private_copy(model: nn.Module) -> nn.Module:
    """A copy of a network in the mode of each module, with hooks, for runs without side effects.

    It shares parameters with `model` and has its own buffers. What hooks and wrapped functions
    write to, through closures, globals or objects, is copied too.
    """
    return _copy(model, {})


def _copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A private copy; `memo` has the copies of modules and functions, and gets more."""
    own = dict(memo)
    copied = clone(model, own)
    # `clone` shares hooks and tensors; these are to be copied
    memo.update((k, v) for k, v in own.items() if isinstance(v, nn.Module | nn.Parameter))
    memo.update((id(module), module) for module in copied.modules())
    for module in copied.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
        for name, value in list(vars(module).items()):
            if name in _HOOKS:
                hooks = OrderedDict((key, _private(hook, memo)) for key, hook in value.items())
                vars(module)[name] = hooks
            elif isinstance(value, Tensor) and not value.requires_grad:
                vars(module)[name] = value.clone()
            elif isinstance(value, FunctionType | functools.partial):
                vars(module)[name] = _private(value, memo)
    return copied


def _private(value: Any, memo: dict[int, Any], depth: int = _DEPTH) -> Any:
    """A copy of a function, container or object; modules become those of the private copy."""
    if id(value) in memo:
        return memo[id(value)]
    if depth == 0:
        return value
    if isinstance(value, nn.Module):
        return _copy(value, memo)
    if isinstance(value, Tensor):
        return value if value.requires_grad else value.detach().clone()

    def inner(part: Any) -> Any:
        return _private(part, memo, depth - 1)

    try:
        if isinstance(value, FunctionType):
            return _private_function(value, memo, depth)
        if isinstance(value, MethodType):
            return MethodType(inner(value.__func__), inner(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {name: inner(part) for name, part in value.keywords.items()}
            return functools.partial(inner(value.func), *map(inner, value.args), **keywords)
        if isinstance(value, tuple):
            parts = [inner(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if isinstance(value, _CONTAINERS):
            new: Any = copy.copy(value)
            memo[id(value)] = new
            if isinstance(value, dict):
                new.update((key, inner(part)) for key, part in value.items())
            elif not isinstance(value, set):
                new.clear()
                new.extend(inner(part) for part in value)
            return new
        if isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, type):
            memo[id(value)] = new = copy.copy(value)
            vars(new).update((name, inner(part)) for name, part in vars(value).items())
            return new
    except Exception:  # an object that cannot be copied is shared
        memo.pop(id(value), None)
    return value


def _private_function(function: FunctionType, memo: dict[int, Any], depth: int) -> FunctionType:
    """A copy of a function with its own closure, and its own mutable globals of builtin types."""
    if torch.__name__ == str(function.__module__).partition(".")[0]:
        return function
    written = {
        name: _private(value, memo, depth - 1)
        for name in function.__code__.co_names
        if isinstance(
            value := function.__globals__.get(name), list | dict | set | deque | defaultdict
        )
    }
    if not function.__closure__ and not written:
        return function
    cells = tuple(CellType() for _ in function.__closure__ or ())
    space = {**function.__globals__, **written} if written else function.__globals__
    new = FunctionType(function.__code__, space, function.__name__, function.__defaults__, cells)
    new.__kwdefaults__ = function.__kwdefaults__
    vars(new).update(vars(function))
    memo[id(function)] = new
    for cell, original in zip(cells, function.__closure__ or (), strict=True):
        try:
            contents = original.cell_contents
        except ValueError:  # the function runs before the variable has a value
            continue
        cell.cell_contents = _private(contents, memo, depth - 1)
    return new
