"""Copy module trees that share parameters, and replace modules in them."""

import contextlib
import itertools
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from glocal.errors import ConversionError
from glocal.scanning.copying import deep_copy
from glocal.scanning.references import References, functions_that_reach, reaches

__all__ = [
    "ancestors",
    "clone",
    "drop_hooks",
    "eval_mode",
    "fill",
    "replace",
    "take_over",
    "weight_hooks",
    "without_contents",
]

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

    A module that `model` uses at several paths is one module in the copy, too. Functions that
    `model` stores and that refer to its modules (a wrapped `forward`, a hook with a closure) refer
    to the modules of the copy.

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
    functions = functions_that_reach(model)
    made = [without_contents(function) for function in functions]
    memo.update((id(old), new) for old, new in zip(functions, made, strict=True))
    result: nn.Module = deep_copy(model, memo)
    targets = {id(module) for module in model.modules()}

    def copied(value: Any) -> Any:
        return deep_copy(value, memo) if reaches(value, targets) else value

    for old, new in zip(functions, made, strict=True):
        fill(old, new, copied)
    return result


def without_contents(
    function: types.FunctionType, namespace: dict[str, Any] | None = None
) -> types.FunctionType:
    """A copy of a function with empty cells and no defaults, for `fill`.

    Args:
        function: the original.
        namespace: its global variables; None shares the original's.
    """
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    space = function.__globals__ if namespace is None else namespace
    new = types.FunctionType(function.__code__, space, function.__name__, None, cells or None)
    new.__qualname__, new.__module__ = function.__qualname__, function.__module__
    return new


def fill(old: types.FunctionType, new: types.FunctionType, copied: Callable[[Any], Any]) -> None:
    """Copy the cells, defaults and attributes of a function to its empty copy."""
    for held, cell in zip(old.__closure__ or (), new.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a cell that is empty in `old`, too
            cell.cell_contents = copied(held.cell_contents)
    new.__defaults__ = copied(old.__defaults__)
    new.__kwdefaults__ = copied(old.__kwdefaults__)
    vars(new).update({name: copied(value) for name, value in vars(old).items()})


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
    """Return the hooks that compute a weight before each call, with its name.

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


def replace(
    root: nn.Module, old: nn.Module, new: nn.Module, references: References | None = None
) -> nn.Module:
    """Replace `old` by `new` in all modules below `root`; return the root.

    The root is `new` if `old` was the root. Containers, bound methods, partials, objects and
    functions that the modules store, and that `clone` copied, refer to `new`, too.

    Args:
        root: the root of the tree.
        old, new: modules.
        references: those below the root, for several replacements in one tree.

    Raises:
        ConversionError: an attribute stores a method of `old` that `new` does not have.
    """
    (references or References(root)).substitute(old, new)
    if old in new.modules():  # a rule may wrap the original
        return new if old is root else root
    vars(old)["forward"] = _Replaced(type(old).__name__)
    return new if old is root else root


class _Replaced:
    """The forward of a replaced module: the network must not call it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ConversionError(
            f"the network calls the original {self.name} through a reference outside its modules "
            "(a global variable, a weak reference), so that its local form would not run"
        )


def take_over(new: nn.Module, old: nn.Module) -> nn.Module:
    """Give `new` the hooks and the training flag of `old`; returns `new`."""
    for name in _HOOKS:
        if name in vars(old):
            setattr(new, name, getattr(old, name))
    new.training = old.training
    return new


@contextlib.contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Move the network to the device and set eval mode; restore the flags afterwards."""
    training = [module for module in model.modules() if module.training]
    if any(p.device != device for p in model.parameters()):
        model.to(device)
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
