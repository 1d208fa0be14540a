"""Deep copies of modules that share objects without copies, such as locks.

`copy.deepcopy` raises an error for such a value, and for a tensor that autograd computed (the
weight of `torch.nn.utils.weight_norm` after a call). It also spends most of its time on the empty
hook dictionaries of modules: NAFNet-w32 takes 0.09 s with it and 0.02 s here.
"""

import copy
import copyreg
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["deep_copy", "own_tensors"]

_ATOMS: tuple[type, ...] = (
    type(None), bool, int, float, complex, str, bytes, range, type, type(Ellipsis), slice,
    types.FunctionType, types.BuiltinFunctionType, types.ModuleType, torch.dtype, torch.device,
    torch.Size, torch.layout, torch.memory_format,
)  # fmt: skip
_ATOM_TYPES = frozenset(_ATOMS)
_PLAIN = frozenset([int, float, bool, str, type(None)])  # and no memo has another one for it
_OF_TORCH = frozenset(vars(nn.Module()))  # attributes that torch gives every module, not shared

Memo = dict[int, Any]
"""Copies by the id of their original, as in `copy.deepcopy`."""


def deep_copy(value: Any, memo: Memo, tensor: Callable[[Tensor], Tensor] = lambda t: t) -> Any:
    """Copy a module, or a value that a module stores.

    Args:
        value: anything.
        memo: known copies by id of the original; new ones are added.
        tensor: returns the copy of a tensor; by default the tensor itself.

    Returns:
        The copy. Functions and whatever has no copy, such as a lock or a generator, are shared.
    """
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind in _ATOM_TYPES or isinstance(value, type):
        return value
    made = _made(value, kind, memo, tensor)
    memo[id(value)] = made
    memo.setdefault(id(memo), []).append(value)  # an id is unique while its object lives
    return made


def own_tensors(module: nn.Module) -> nn.Module:
    """Return a copy of a module that shares no tensor with it."""

    def cloned(tensor: Tensor) -> Tensor:
        made = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(made, requires_grad=tensor.requires_grad)
        return made

    copied: nn.Module = deep_copy(module, {}, cloned)
    return copied


def _made(value: Any, kind: Any, memo: Memo, tensor: Callable[[Tensor], Tensor]) -> Any:
    def part(each: Any) -> Any:
        return deep_copy(each, memo, tensor)

    if isinstance(value, Tensor):
        return tensor(value)
    if kind is list:
        items: list[Any] = []
        memo[id(value)] = items
        items.extend(map(part, value))
        return items
    if kind is dict or kind is OrderedDict:
        pairs: dict[Any, Any] = kind()
        memo[id(value)] = pairs
        pairs.update((part(key), part(each)) for key, each in value.items())
        return pairs
    if kind is set and all(type(each) in _PLAIN for each in value):
        return set(value)
    if kind is tuple:
        parts = tuple(map(part, value))
        same = all(a is b for a, b in zip(parts, value, strict=True))
        return value if same else memo.get(id(value), parts)
    if kind is types.MethodType:
        return types.MethodType(value.__func__, part(value.__self__))
    if isinstance(value, nn.Module) and not _copies_itself(kind):
        new = kind.__new__(kind)
        memo[id(value)] = new
        held = vars(new)
        for name, each in vars(value).items():
            if type(each) in _PLAIN:
                held[name] = each
            elif type(each) is OrderedDict and not each and name in _OF_TORCH:  # hooks, mostly
                held[name] = OrderedDict()
            else:
                held[name] = part(each)
        return new
    return _copied_object(value, kind, memo, tensor)


def _copies_itself(kind: type) -> bool:
    """True for modules with a way of their own to be copied, such as scripted ones."""
    own = getattr(kind, "__deepcopy__", None)
    return own is not None and own.__module__ != "torch.nn.utils.parametrize"


def _copied_object(value: Any, kind: Any, memo: Memo, tensor: Callable[[Tensor], Tensor]) -> Any:
    """Copy an object by its state or by `copy.deepcopy`; return itself if both fail."""
    try:
        reduced = None if hasattr(kind, "__deepcopy__") else value.__reduce_ex__(4)
        own_state = hasattr(kind, "__setstate__")
        if reduced is None or isinstance(reduced, str) or own_state:
            return copy.deepcopy(value, memo)
        if reduced[0] is not copyreg.__newobj__ or reduced[1] != (kind,):  # type: ignore[attr-defined]
            return copy.deepcopy(value, memo)
        new = kind.__new__(kind)
        _, _, state, items, pairs = (*reduced, None, None, None)[:5]
        memo[id(value)] = new
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        for name, each in {**(attributes or {}), **(slots or {})}.items():
            object.__setattr__(new, name, deep_copy(each, memo, tensor))
        if items is not None:
            new.extend(deep_copy(each, memo, tensor) for each in items)
        for key, each in pairs or ():
            new[deep_copy(key, memo, tensor)] = deep_copy(each, memo, tensor)
    except Exception:  # a lock, a generator, an open file, a stream
        memo.pop(id(value), None)
        return value
    return new
