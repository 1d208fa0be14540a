"""Copies of module trees that share parameters, and replacement of modules in them."""

import copy
import itertools
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["ancestors", "clone", "drop_hooks", "fingerprint", "replace", "take_over"]

# Attributes of a module that contain hooks, or say how to call them.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_non_full_backward_hooks",
    "_is_full_backward_hook",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

# Attributes that torch gives every module.
_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}

# Marks of a repr that is equal for different values: an address; rounded or omitted elements.
_INCOMPLETE = (" at 0x", "...", "array(", "tensor(")


def clone(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy of the module tree that shares all tensors and hooks with `model`.

    A module that `model` uses at several paths is one module in the copy, too.

    Args:
        model: the root of the tree.
        memo: as of `copy.deepcopy`; gets the copy of each module by the id of the original.
    """
    memo = {} if memo is None else memo
    for module in model.modules():
        shared: Iterator[object] = itertools.chain(
            module.parameters(recurse=False),
            module.buffers(recurse=False),
            (value for value in vars(module).values() if isinstance(value, Tensor)),
            # Copying a hook that is a method would copy its object, which then records nothing
            # for the user. A hook that is a method of a module belongs to the copy of the module.
            (
                hook
                for name in _HOOKS
                if isinstance(hooks := getattr(module, name, None), dict)
                for hook in hooks.values()
                if not isinstance(getattr(hook, "__self__", None), nn.Module)
            ),
        )
        memo.update((id(value), value) for value in shared)
    return copy.deepcopy(model, memo)


def drop_hooks(model: nn.Module) -> nn.Module:
    """Remove all forward hooks from a copy in place; returns it."""
    for module in model.modules():
        for name in _HOOKS:
            if "forward" in name and isinstance(vars(module).get(name), dict):
                setattr(module, name, OrderedDict())
    return model


def fingerprint(module: nn.Module) -> tuple[object, ...]:
    """A key that is equal for modules that compute the same function of input and parameters."""
    parts: list[object] = []
    for path, part in module.named_modules():
        parts += [path, type(part)]
        for name, value in sorted(vars(part).items()):
            if name not in _OF_TORCH:
                parts.append((name, _contents(value)))
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        parts.append((name, tuple(tensor.shape), tensor.dtype))
    return tuple(parts)


def _contents(value: object) -> object:
    """A key that is equal for equal values; the identity of tensors and modules."""
    if isinstance(value, Tensor | nn.Module):
        return id(value)
    text = repr(value)
    if not any(mark in text for mark in _INCOMPLETE):
        return text
    try:
        return pickle.dumps(value)
    except Exception:  # for example a closure: equal to itself only
        return id(value)


def ancestors(path: str) -> list[str]:
    """A module path and the paths of the modules that contain it, innermost first.

    The last is the root, "".

    >>> ancestors("encoder.0.pool")
    ['encoder.0.pool', 'encoder.0', 'encoder', '']
    """
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts), -1, -1)]


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Replace `old` by `new` at all its paths below `root`; returns the root.

    The root is `new` if `old` was the root.
    """
    if old is root:
        return new
    for module in root.modules():
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new
    return root


def take_over(new: nn.Module, old: nn.Module) -> nn.Module:
    """Give `new` the hooks and the training flag of `old`; returns `new`."""
    for name in _HOOKS:
        if name in vars(old):
            setattr(new, name, getattr(old, name))
    new.training = old.training
    return new
