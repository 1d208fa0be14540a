"""Module trees: copies that share parameters, and replacing modules in them."""

import copy
import itertools
import pickle
from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn

__all__ = ["ancestors", "clone", "drop_hooks", "fingerprint", "replace", "take_over"]

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


_OWN = frozenset(vars(nn.Module())) - {"training"}
"""What torch keeps in every module."""


def clone(model: nn.Module) -> nn.Module:
    """A copy of the module tree that shares every tensor, and every hook, with `model`.

    Modules that `model` shares between places stay shared in the copy.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        shared: Iterator[object] = itertools.chain(
            module.parameters(recurse=False),
            module.buffers(recurse=False),
            (value for value in vars(module).values() if isinstance(value, Tensor)),
            # A hook that is a method of some outside recorder must go on feeding that recorder.
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
    """Take the forward hooks off a copy, so that running it tells nobody."""
    for module in model.modules():
        for name in _HOOKS:
            if "forward" in name and isinstance(vars(module).get(name), dict):
                setattr(module, name, OrderedDict())
    return model


def fingerprint(module: nn.Module) -> tuple[object, ...]:
    """What two modules have in common when one computes what the other would with its weights."""
    parts: list[object] = []
    for path, part in module.named_modules():
        parts += [path, type(part)]
        for name, value in sorted(vars(part).items()):
            if name not in _OWN:
                parts.append((name, _contents(value)))
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        parts.append((name, tuple(tensor.shape), tensor.dtype))
    return tuple(parts)


def _contents(value: object) -> object:
    """Something that is equal for values with equal contents."""
    if isinstance(value, Tensor | nn.Module):
        return id(value)
    text = repr(value)
    if " at 0x" not in text:
        return text
    try:
        return pickle.dumps(value)
    except Exception:  # a closure, say: alike only where it is the same object
        return id(value)


def ancestors(path: str) -> list[str]:
    """A module path and the paths of all that contain it, innermost first, the root ("") last.

    >>> ancestors("encoder.0.pool")
    ['encoder.0.pool', 'encoder.0', 'encoder', '']
    """
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts), -1, -1)]


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` stands below `root`; returns the root, `new` if that was it."""
    if old is root:
        return new
    for module in root.modules():
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new
    return root


def take_over(new: nn.Module, old: nn.Module) -> nn.Module:
    """Give `new` the hooks and the training flag of the module it replaces."""
    for name in _HOOKS:
        if name in vars(old):
            setattr(new, name, getattr(old, name))
    new.training = old.training
    return new
