"""Results of operations on tensors without values, computed once per signature.

The blocks of a network repeat the same operations on the same shapes, and torch computes many
result shapes in Python: an addition on the meta device takes 0.4 ms, a bilinear resize 20 ms.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

__all__ = ["ShapeMemo"]

_KINDS = (Tensor, nn.Parameter)
_SCALARS = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout,
            torch.memory_format)  # fmt: skip
_NAMESPACES = ("aten::", "glocal::")  # an operation of others may do more than its schema says


_RESIZES = (torch.ops.aten.upsample_bilinear2d.default, torch.ops.aten.upsample_bicubic2d.default)


class _UnknownError(Exception):
    """An argument, or a result, that the memo does not compare."""


class ShapeMemo:
    """Runs aten operations, and repeated ones on the meta device only once.

    A repeated one returns a new tensor of the known shape.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}
        self._is_pure: dict[Any, bool] = {}

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of `func(*args, **kwargs)`."""
        pure = self._is_pure.get(func)
        if pure is None:
            pure = self._is_pure[func] = _is_pure(func)
        if not pure:
            return func(*args, **kwargs)
        try:
            tensors: list[Tensor] = []
            key = (func, _key(args, tensors), _key(tuple(kwargs.items()), tensors))
        except _UnknownError:
            return func(*args, **kwargs)
        if not tensors or not all(t.is_meta for t in tensors):
            return func(*args, **kwargs)
        known = self._made.get(key)
        if known is not None:
            return _empty(known)
        if func in _RESIZES and args[0].ndim == 4 and min(args[0].shape) > 0 < min(args[1]):
            shape = (*args[0].shape[:2], *args[1])
            return args[0].new_empty(shape).to(memory_format=suggest_memory_format(args[0]))
        result = func(*args, **kwargs)
        with suppress(_UnknownError):
            self._made[key] = _layout(result)
        return result


def _is_pure(func: Any) -> bool:
    """True if an operation writes to no argument and returns new memory."""
    schema = func._schema
    return (
        schema.name.startswith(_NAMESPACES)
        and not schema.is_mutable
        and not any(each.alias_info for each in (*schema.arguments, *schema.returns))
    )


def _key(value: Any, tensors: list[Tensor]) -> Any:
    kind = type(value)
    if kind in _KINDS:
        if value.layout != torch.strided or value.is_complex() or value.is_quantized:
            raise _UnknownError
        tensors.append(value)
        return (value.shape, value.stride(), value.dtype)
    if kind is tuple or kind is list or kind is torch.Size:
        return (kind, *[_key(each, tensors) for each in value])
    if kind in _SCALARS:
        return (kind, value)
    raise _UnknownError


def _layout(result: Any) -> Any:
    if type(result) is Tensor:
        if result.layout != torch.strided or not result.is_meta or result.is_complex():
            raise _UnknownError
        return (result.shape, result.stride(), result.dtype)
    if type(result) in (tuple, list):
        return (type(result), [_layout(each) for each in result])
    raise _UnknownError


def _empty(layout: Any) -> Any:
    if isinstance(layout[0], type):
        kind, parts = layout
        return kind(map(_empty, parts))
    shape, strides, dtype = layout
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
