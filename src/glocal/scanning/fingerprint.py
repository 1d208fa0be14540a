"""Keys of modules that compute the same function of their inputs and parameters.

Two values have equal keys only where they are provably the same: atoms of one type and value,
arrays and tensors of equal bytes, containers and plain objects of such parts, and functions of one
code with equal closures. Every other value is equal to itself only. No key uses `repr`, which may
be the same for different values.
"""

import copyreg
import enum
import functools
import hashlib
import struct
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glocal.scanning.modules import weight_hooks
from glocal.scanning.recorder import Ref
from glocal.scanning.trace import Trace

__all__ = ["behaviour", "fingerprint", "value_key"]

# Attributes that torch gives every module.
_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}
_EXACT = (str, bytes, int, bool, type(None), type(Ellipsis))
_BY_VALUE = (torch.dtype, torch.device, torch.layout, torch.memory_format)
_MOST_BYTES = 1 << 26


def fingerprint(module: nn.Module) -> tuple[object, ...]:
    """Return a key that is equal for modules that compute the same function.

    It covers classes, attributes, functions and the shapes and types of parameters and buffers,
    and not their values. The key is valid while the module lives.
    """
    return _Keys().module(module)


def behaviour(path: str, traces: Iterable[Trace]) -> tuple[object, ...]:
    """Return a key of what the module at a path did in some runs of a network.

    It is equal for modules that ran the same operations on tensors of the same shapes with the
    same numbers, each on the results of the same others.
    """
    keys = _Keys()
    parts: list[object] = []
    for trace in traces:
        names: dict[int, int] = {}  # of the calls inside
        for index in trace.by_module.get(path, ()):
            call = trace.calls[index]
            arguments = {name: _seen_from(v, names) for name, v in call.arguments.items()}
            names[index] = len(names)
            own = call.path[len(path) :]
            parts.append((call.name, own, keys.value(arguments), call.outputs))
    return tuple(parts)


def _seen_from(value: Any, names: dict[int, int]) -> Any:
    """An argument of a call with numbers for the tensors that it reads."""
    if isinstance(value, list | tuple):
        return [_seen_from(each, names) for each in value]
    if not isinstance(value, Ref):
        return value
    sources = [names[source] for source in value.sources if source in names]
    return ("tensor", value.shape, sources, value.output)


def value_key(value: object) -> object:
    """Return a key that is equal for equal values; else the identity of the value."""
    return _Keys().value(value)


class _Same:
    """Equal for one object only, which it keeps alive: an id can be used again."""

    def __init__(self, value: object) -> None:
        self.of = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.of is self.of

    def __hash__(self) -> int:
        return id(self.of)


class _Keys:
    """Keys of the parts of one value; a repeated part has its number as key."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []

    def module(self, module: nn.Module) -> tuple[object, ...]:
        for part in module.modules():
            for each in (part, *part._parameters.values(), *part._buffers.values()):
                self._number(each)
        parts: list[object] = []
        for path, part in module.named_modules(remove_duplicate=False):
            parts += [path, self._seen[id(part)], type(part)]
        for part in module.modules():
            parts.append(self._attributes(part))
            parts += [self.value(hook) for _, hook in weight_hooks(part)]
            for name, tensor in (*part._parameters.items(), *part._buffers.items()):
                parts.append((name, self._seen[id(tensor)], *_layout(tensor)))
        return tuple(parts)

    def _attributes(self, module: nn.Module) -> tuple[object, ...]:
        made = {name for name, _ in weight_hooks(module)}  # from parameters, before each call
        own = sorted((n, v) for n, v in vars(module).items() if n not in _OF_TORCH | made)
        return tuple((name, self.value(value)) for name, value in own)

    def _number(self, value: object) -> int:
        self._alive.append(value)
        return self._seen.setdefault(id(value), len(self._seen))

    def value(self, value: object) -> object:
        kind = type(value)
        if kind in _EXACT:
            return (kind, value)
        if kind is float or kind is complex:
            number = complex(value)  # type: ignore[call-overload]
            return (kind, struct.pack("dd", number.real, number.imag))  # -0.0, nan
        if isinstance(value, (type, enum.Enum, types.ModuleType, types.BuiltinFunctionType)):
            return _Same(value)
        if isinstance(value, _BY_VALUE):
            return (kind, str(value))
        if id(value) in self._seen:
            return ("again", self._seen[id(value)])
        self._number(value)
        if isinstance(value, Tensor):
            return _tensor(value)
        if isinstance(value, np.ndarray):
            return _array(value)
        if isinstance(value, np.generic):
            return (kind, value.dtype.str, value.tobytes())
        if isinstance(value, nn.Module):
            return self.module(value)
        return (kind, *self._parts(value, kind))

    def _parts(self, value: Any, kind: type) -> Iterable[object]:
        if kind in (list, tuple, torch.Size):
            return [self.value(each) for each in value]
        if kind in (dict, OrderedDict):
            return [(self.value(key), self.value(each)) for key, each in value.items()]
        if kind is defaultdict:
            items = [(self.value(key), self.value(each)) for key, each in value.items()]
            return [self.value(value.default_factory), *items]
        if kind in (set, frozenset) and all(type(each) in _EXACT for each in value):
            return [frozenset((type(each), each) for each in value)]
        if kind is slice:
            return [self.value(each) for each in (value.start, value.stop, value.step)]
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.MethodType:
            return [self.value(value.__func__), self.value(value.__self__)]
        if kind is functools.partial:
            return [self.value(each) for each in (value.func, value.args, value.keywords)]
        return self._object(value, kind)

    def _function(self, function: types.FunctionType) -> Iterable[object]:
        cells = [_contents(cell) for cell in function.__closure__ or ()]
        parts = (cells, function.__defaults__, function.__kwdefaults__, vars(function))
        return [
            function.__code__,
            _Same(function.__globals__),
            *(self.value(part) for part in parts),
        ]

    def _object(self, value: Any, kind: Any) -> Iterable[object]:
        """Key of an object whose state is all in its attributes and items."""
        try:
            standard = (
                kind.__reduce_ex__ is object.__reduce_ex__
                and kind.__reduce__ is object.__reduce__
                and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
            )
            reduced = value.__reduce_ex__(4) if standard else None
        except Exception:
            reduced = None
        if not isinstance(reduced, tuple) or reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return [_Same(value)]
        _, made_from, state, items, pairs = (*reduced, None, None, None)[:5]
        listed = [list(each) if each is not None else None for each in (items, pairs)]
        return [self.value(each) for each in (tuple(made_from[1:]), state, *listed)]


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return _Same(types.CellType)


def _layout(tensor: Tensor | None) -> tuple[object, ...]:
    return () if tensor is None else (tuple(tensor.shape), tensor.dtype)


def _tensor(tensor: Tensor) -> object:
    few = tensor.numel() * tensor.element_size() <= _MOST_BYTES
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta or not few:
        return _Same(tensor)
    try:
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    except Exception:  # sparse, quantised
        return _Same(tensor)
    return (*_layout(tensor), str(tensor.device), hashlib.sha256(values.tobytes()).digest())


def _array(array: "np.ndarray[Any, Any]") -> object:
    if type(array) is not np.ndarray or array.dtype.hasobject or array.nbytes > _MOST_BYTES:
        return _Same(array)
    return (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
