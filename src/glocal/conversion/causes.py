"""Name the user's code that makes a conversion fail: source lines, hooks, lists."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

__all__ = ["cause_of_difference", "cause_of_reach", "place", "unused_block"]


def place(module: nn.Module) -> str:
    """Return the class of a module and the line of its forward: "Gate (net.py:12)".

    >>> place(nn.ReLU()).startswith("ReLU (activation.py:")
    True
    """
    return f"{type(module).__name__}{_line(vars(module).get('forward', type(module).forward))}"


def cause_of_difference(module: nn.Module, at: str) -> str:
    """Say why a block and its local form may differ."""
    hooks = [f"{_name(h)}{_line(h)}" for part in module.modules() for h in _hooks(part)]
    if hooks:
        why = f"; the hook {hooks[0]} on it does not run in the local form"
    elif any(part.training and isinstance(part, _BY_MODE) for part in module.modules()):
        why = (
            "; it is in training mode, and its local form runs as in evaluation: call eval() "
            "before localize"
        )
    else:
        why = ""
    return f"the local form of {place(module)} computes other values {at}{why}"


def cause_of_reach(model: nn.Module, path: str, module: nn.Module) -> str:
    """Say why the output of a module may depend on far pixels."""
    what = f"the output of {place(module)} still depends on pixels at every distance"
    if "forward" in vars(module):
        return f"{what}: its forward was replaced by another function, which runs the original"
    hooks = [f"{_name(h)}{_line(h)}" for h in _hooks(module)]
    if hooks:
        return f"{what}: the hook {hooks[0]} computes a statistic of the whole map"
    if any(part.training and isinstance(part, _BY_MODE) for part in module.modules()):
        return (
            f"{what}: it is in training mode, in which a norm uses the statistics of the map; "
            "call eval() before localize"
        )
    for holder, name, held in _held(model):
        if path == holder:
            return f"{what}: {name} holds modules ({held}) that no path names; use nn.ModuleList"
    return (
        f"{what}: it computes a statistic outside of torch (NumPy, item()), or by an operation "
        "whose reach grows with the map"
    )


def unused_block(model: nn.Module, path: str) -> str:
    """Say why a converted module is never called."""
    module = model.get_submodule(path)
    for holder, name, _ in _held(model):
        value = _parts(getattr(model.get_submodule(holder), name))
        if any(part is module for part in value):
            return (
                f"'{name}' of {place(model.get_submodule(holder))} is a plain container that "
                f"calls the original of '{path}'; use nn.ModuleList or nn.ModuleDict"
            )
    return (
        f"the network never calls '{path}': it calls the original through another reference "
        "(a stored forward, a closure)"
    )


_BY_MODE = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)


def _hooks(module: nn.Module) -> Iterator[Any]:
    yield from module._forward_pre_hooks.values()
    yield from module._forward_hooks.values()


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _line(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    code = code or getattr(getattr(function, "__func__", None), "__code__", None)
    return f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple | set):
        return []
    return [p for each in value for p in ([each] if isinstance(each, nn.Module) else _parts(each))]


def _held(model: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Path, attribute and class names of modules in plain lists, tuples and dicts."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_"):
                continue
            held = _parts(value)
            if held:
                yield path, name, ", ".join(dict.fromkeys(type(m).__name__ for m in held))
