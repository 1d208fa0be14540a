"""Copies of module trees that share parameters, and replacement of modules in them."""

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from glocal.scanning.copying import deep_copy

__all__ = ["ancestors", "clone", "drop_hooks", "replace", "take_over", "weight_hooks"]

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
    copied: nn.Module = deep_copy(model, memo)
    return copied


def drop_hooks(model: nn.Module) -> nn.Module:
    """Remove all forward hooks but `weight_hooks` from a copy in place; returns it."""
    for module in model.modules():
        kept = [(key, h) for key, h in _pre_hooks(module).items() if _computed_weight(h)]
        for name in _HOOKS:
            if "forward" in name and isinstance(vars(module).get(name), dict):
                setattr(module, name, OrderedDict())
        _pre_hooks(module).update(kept)
    return model


def weight_hooks(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the hooks that compute a weight before each call of a module, and its name.

    Old-style `weight_norm`, `spectral_norm` and pruning of `torch.nn.utils` work by such hooks.
    They belong to what the module computes, as other hooks do not.
    """
    found = ((_computed_weight(hook), hook) for hook in _pre_hooks(module).values())
    return [(name, hook) for name, hook in found if name]


def _pre_hooks(module: nn.Module) -> dict[int, Any]:
    hooks: dict[int, Any] = vars(module).get("_forward_pre_hooks", {})
    return hooks


def _computed_weight(hook: object) -> str:
    if not type(hook).__module__.startswith("torch.nn.utils."):
        return ""
    return str(getattr(hook, "name", "") or getattr(hook, "_tensor_name", ""))


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
