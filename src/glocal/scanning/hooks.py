"""Run a user's hooks on a copy of a network without changing the user's objects.

A hook may compute a statistic or change an output, so a scan must run it. A hook may also collect
what it sees for the user, and must collect nothing of a scan.
"""

import copy
import functools
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._pytree import tree_leaves

from glocal.scanning.modules import fill, without_contents
from glocal.scanning.references import walk

__all__ = ["HookWatch", "isolate_hooks", "isolated_global_hooks"]

_MODULE_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks")


class HookWatch:
    """Records which hooks run, and which modules' inputs or outputs they change.

    Attributes:
        running: paths of the modules whose hooks are running, innermost last.
        changed: paths of the modules whose hooks returned something or wrote to a tensor.
    """

    def __init__(self) -> None:
        self.running: list[str] = []
        self.changed: set[str] = set()

    def watched(self, hook: Callable[..., Any], path_of: Callable[[nn.Module], str]) -> Any:
        """Return the hook with a record of its calls and effects."""

        @functools.wraps(hook, updated=())
        def call(module: nn.Module, *args: Any) -> Any:
            path = path_of(module)
            given = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
            before = list(map(_version, given))
            self.running.append(path)
            try:
                result = hook(module, *args)
            finally:
                self.running.pop()
            if result is not None or before != list(map(_version, given)):
                self.changed.add(path)
            return result

        return call


def _version(t: Tensor) -> int:
    """Return how often a tensor was written to, as far as torch counts it."""
    return 0 if t.is_inference() else t._version


def isolate_hooks(model: nn.Module, watch: HookWatch) -> None:
    """Replace the forward hooks of a copied network by isolated copies.

    Args:
        model: from `clone`.
        watch: notes what the hooks do.
    """
    memo: dict[int, Any] = {id(module): module for module in model.modules()}
    paths = {id(module): path for path, module in model.named_modules()}
    for module in model.modules():
        for name in _MODULE_HOOKS:
            hooks = vars(module).get(name)
            if hooks:
                new = ((key, _isolated(hook, memo)) for key, hook in hooks.items())
                watched = ((key, watch.watched(hook, lambda m: paths[id(m)])) for key, hook in new)
                setattr(module, name, OrderedDict(watched))


@contextmanager
def isolated_global_hooks(model: nn.Module, watch: HookWatch) -> Iterator[None]:
    """Run isolated copies of the hooks that torch calls for all modules."""
    memo: dict[int, Any] = {id(module): module for module in model.modules()}
    paths = {id(module): path for path, module in model.named_modules()}
    tables: list[Any] = [getattr(torch_module, name) for name in _GLOBAL_HOOKS]
    saved = [dict(table) for table in tables]
    try:
        for table in tables:
            for key, hook in table.items():
                copied = _isolated(hook, memo)
                table[key] = watch.watched(copied, lambda m: paths.get(id(m), ""))
        yield
    finally:
        for table, hooks in zip(tables, saved, strict=True):
            table.update(hooks)


def _isolated(hook: Callable[..., Any], memo: dict[int, Any]) -> Callable[..., Any]:
    """A copy of a hook with its own closure, defaults, objects and global containers.

    Args:
        hook: any callable.
        memo: as in `copy.deepcopy`; what it contains is not copied.
    """
    functions = [f for f in walk(hook) if isinstance(f, types.FunctionType) and id(f) not in memo]
    functions = [f for f in functions if not f.__module__.startswith("torch.")]
    spaces: dict[int, dict[str, Any]] = {}
    made = []
    for function in functions:
        space = function.__globals__
        if id(space) not in spaces:
            spaces[id(space)] = dict(space)
        memo[id(function)] = new = without_contents(function, spaces[id(space)])
        made.append((function, new))
    for function, new in made:
        for name in _names(function.__code__):
            held = new.__globals__.get(name)
            if isinstance(held, types.FunctionType) and held.__globals__ is function.__globals__:
                if id(held) not in memo:  # a helper of the hook
                    memo[id(held)] = helper = without_contents(held, new.__globals__)
                    made.append((held, helper))
                new.__globals__[name] = memo[id(held)]
            elif name in function.__globals__ and _is_mutable(held):
                new.__globals__[name] = _copied(function.__globals__[name], memo)
        fill(function, new, lambda value: _copied(value, memo))
    if isinstance(hook, types.MethodType):
        function = memo.get(id(hook.__func__), hook.__func__)
        return types.MethodType(function, _copied(hook.__self__, memo))
    result: Callable[..., Any] = _copied(hook, memo)
    return result


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function and those inside it may use."""
    nested = (_names(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*nested)


def _is_mutable(value: object) -> bool:
    if isinstance(value, list | dict | set | deque | bytearray | Tensor):
        return True
    kind = type(value)
    known = kind.__module__.split(".")[0] in ("torch", "builtins", "numpy", "types")
    return not known and not callable(value) and hasattr(value, "__dict__")


class _Absorber:
    """Stands in for an object without a copy (a writer, a lock): ignores every call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __getitem__(self, _: Any) -> Any:
        return self

    def __setitem__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    for each in walk(value, into_modules=False):
        for tensor in _tensors(each):
            memo.setdefault(id(tensor), tensor.detach().clone())
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return _Absorber()


def _tensors(value: object) -> list[Tensor]:
    match value:
        case dict():
            held = list(value.values())
        case list() | tuple() | set() | deque():
            held = list(value)
        case _:
            held = list(getattr(value, "__dict__", {}).values())
    held.append(value)
    return [t for t in held if isinstance(t, torch.Tensor)]
