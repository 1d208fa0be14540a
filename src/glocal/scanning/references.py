"""References to modules in containers, bound methods, closures and objects.

A network may call a module through a plain list, a dict, a `functools.partial`, a stored
`module.forward`, or a function that wraps it. `copy.deepcopy` copies all of these but functions,
and `module._modules` shows none.
"""

import functools
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from torch import Tensor, nn

from glocal.errors import ConversionError

__all__ = ["References", "functions_that_reach", "reaches", "walk"]

_ATOMS = (int, float, complex, str, bytes, type(None), type, types.ModuleType, Tensor)
_CALLS = frozenset(["forward", "__call__", "_call_impl", "_wrapped_call_impl"])


def reaches(value: object, targets: set[int]) -> bool:
    """True if a value is or refers to an object whose id is in `targets`."""
    return any(id(each) in targets for each in walk(value))


def functions_that_reach(model: nn.Module) -> list[types.FunctionType]:
    """Return the functions in attributes and hooks that refer to a network's modules."""
    targets = {id(module) for module in model.modules()}
    functions = [f for f in walk(model) if isinstance(f, types.FunctionType)]
    return [f for f in functions if any(reaches(held, targets) for held in _held_by(f))]


class References:
    """Who refers to which module below a root.

    Containers, objects and functions that refer to the modules must belong to the root alone.
    """

    def __init__(self, root: nn.Module) -> None:
        self._known: dict[int, nn.Module] = {}
        self._parents: dict[int, list[tuple[nn.Module, str]]] = {}
        self._holders: list[tuple[nn.Module, str]] = []
        self._add(root)

    def _add(self, root: nn.Module) -> None:
        for module in root.modules():
            if id(module) in self._known:
                continue
            self._known[id(module)] = module
            for name, child in module._modules.items():
                if child is not None:
                    self._parents.setdefault(id(child), []).append((module, name))
            self._holders += [(module, name) for name, _ in _holders(module)]

    def substitute(self, old: nn.Module, new: nn.Module) -> None:
        """Replace `old` by `new` wherever the modules refer to it, in place.

        Raises:
            ConversionError: an attribute stores a method of `old` other than forward; nothing
                changed.
        """
        holders = [(module, name) for module, name in self._holders if module is not old]
        for module, name in holders:
            for each in walk(vars(module)[name], into_modules=False):
                if isinstance(each, types.MethodType) and each.__self__ is old:
                    called = each.__func__.__name__
                    if called not in _CALLS:
                        raise ConversionError(
                            f"the attribute '{name}' of a {type(module).__name__} stores the "
                            f"method '{called}' of the {type(old).__name__}, which a local "
                            "form does not have"
                        )
        changed = _Substitution(old, new)
        for module, name in self._parents.pop(id(old), ()):
            if module is old or module._modules.get(name) is not old:
                continue
            module._modules[name] = new
            self._parents.setdefault(id(new), []).append((module, name))
            if "dynamo_ctx" in vars(module):  # torch.compile: it stores a call of its child
                cast(Any, module)._initialize()
        for module, name in holders:
            value = vars(module)[name]
            held = changed.of(value)
            if held is not value:
                vars(module)[name] = held
        self._add(new)


class _Substitution:
    """Replaces one module in a graph of objects; each object is visited once."""

    def __init__(self, old: nn.Module, new: nn.Module) -> None:
        self.old, self.new = old, new
        self.made: dict[int, tuple[object, Any]] = {}  # the object is kept: its id stays unique

    def in_namespace(self, namespace: dict[str, Any]) -> None:
        for name, value in list(namespace.items()):
            if not _is_plain(value):
                changed = self.of(value)
                if changed is not value:
                    namespace[name] = changed

    def of(self, value: Any) -> Any:
        """The value with `new` for `old`; mutable objects are changed in place."""
        if value is self.old:
            return self.new
        if _is_plain(value) or isinstance(value, nn.Module):
            return value
        if id(value) not in self.made:
            self.made[id(value)] = (value, value)  # for cycles
            self.made[id(value)] = (value, self._of(value))
        return self.made[id(value)][1]

    def _of(self, value: Any) -> Any:
        match value:
            case types.MethodType():
                if value.__self__ is self.old:
                    return getattr(self.new, value.__func__.__name__)
                owner = self.of(value.__self__)
                return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
            case types.FunctionType():
                for cell in value.__closure__ or ():
                    if _is_filled(cell):
                        cell.cell_contents = self.of(cell.cell_contents)
                value.__defaults__ = self.of(value.__defaults__)
                value.__kwdefaults__ = self.of(value.__kwdefaults__)
                self.in_namespace(value.__dict__)
            case functools.partial():
                parts = (value.func, value.args, value.keywords)
                changed = tuple(map(self.of, parts))
                if any(a is not b for a, b in zip(parts, changed, strict=True)) or reaches(
                    value.keywords, {id(self.new)}
                ):
                    return type(value)(changed[0], *changed[1], **changed[2])
            case dict():
                for key in list(value):
                    value[key] = self.of(value[key])
                if self.old in [key for key in value if isinstance(key, nn.Module)]:
                    items = [(self.of(key), held) for key, held in value.items()]
                    value.clear()
                    value.update(items)
            case list() | deque():
                for place, held in enumerate(value):
                    value[place] = self.of(held)
            case set():
                changed_items = [self.of(held) for held in value]
                value.clear()
                value.update(changed_items)
            case tuple() | frozenset():
                items = [self.of(held) for held in value]
                if any(a is not b for a, b in zip(items, value, strict=True)):
                    made = getattr(type(value), "_make", type(value))
                    return made(items)
            case _:
                for name, held in _attributes(value):
                    changed = self.of(held)
                    if changed is not held:
                        object.__setattr__(value, name, changed)
        return value


_NO_HOLDERS = frozenset(["_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"])


def _holders(module: nn.Module) -> list[tuple[str, Any]]:
    """The attributes of a module, other than its children, that may refer to modules."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if type(value) not in _FAST
        and name not in _NO_HOLDERS
        and not _is_plain(value)
        and not (type(value) in (list, tuple) and all(type(held) in _FAST for held in value))
        and not _is_empty(value)
    ]


def _is_empty(value: object) -> bool:
    return type(value) in (dict, OrderedDict) and not value


_FAST = frozenset([int, float, bool, str, type(None)])


def _is_plain(value: object) -> bool:
    return isinstance(value, _ATOMS)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _held_by(function: types.FunctionType) -> Iterator[Any]:
    yield from (c.cell_contents for c in function.__closure__ or () if _is_filled(c))
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()


def _attributes(value: object) -> list[tuple[str, Any]]:
    """The attributes of an object of a class of the user's own."""
    if type(value).__module__.split(".")[0] in (
        "torch",
        "builtins",
        "numpy",
        "weakref",
        "_weakref",
    ):
        return []
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    held = [(name, getattr(value, name)) for name in slots if hasattr(value, name)]
    return held + list(getattr(value, "__dict__", {}).items())


def _slots(kind: type) -> Iterable[str]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


def _referred(value: Any) -> Iterable[Any]:
    match value:
        case nn.Module():
            return [held for held in vars(value).values() if not _is_empty(held)]
        case types.MethodType():
            return (value.__self__, value.__func__)
        case types.FunctionType():
            return _held_by(value)
        case functools.partial():
            return (value.func, value.args, value.keywords)
        case dict():
            return (*value.keys(), *value.values())
        case list() | tuple() | set() | frozenset() | deque():
            return value
        case _:
            return (held for _, held in _attributes(value))


def walk(value: object, *, into_modules: bool = True) -> Iterator[Any]:
    """A value and all that it refers to, each object once."""
    seen: dict[int, Any] = {}
    stack = [value]
    follow: Callable[[Any], bool] = lambda each: into_modules or not isinstance(each, nn.Module)  # noqa: E731
    while stack:
        each = stack.pop()
        if type(each) in _FAST or id(each) in seen or _is_plain(each):
            continue
        seen[id(each)] = each
        yield each
        if follow(each):
            stack += _referred(each)
