"""Kinds of aten operations, by what the pixels of their results depend on."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "is_composite",
    "is_elementwise",
    "is_flat",
    "is_one_pixel",
    "is_pointwise",
    "is_view",
    "out_overload",
]

# torch 2.6 has no pointwise tag on these.
_UNTAGGED = frozenset(
    f"aten::{name}"
    for name in (
        "celu_ elu_ hardsigmoid_ hardtanh_ ldexp ldexp_ leaky_relu leaky_relu_ selu_".split()
    )
)


@cache
def is_elementwise(func: Any) -> bool:
    """True for an aten operation that works element by element."""
    schema = getattr(func, "_schema", None)
    return torch.Tag.pointwise in getattr(func, "tags", ()) or (
        schema is not None and schema.name in _UNTAGGED
    )


@cache
def is_pointwise(func: Any) -> bool:
    """True for one result whose pixels depend on the same pixels of the arguments."""
    returns = [str(r.type) for r in func._schema.returns]
    out = any(a.is_out for a in func._schema.arguments)
    return is_elementwise(func) and returns == ["Tensor"] and not out


def is_one_pixel(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
) -> bool:
    """True for the arguments of a convolution that sees one pixel at a time."""
    return weight.shape[2:] == (1, 1) and set(stride) == {1} and not any(padding)


def is_flat(t: Tensor) -> bool:
    """True for a tensor with the same value at all pixels."""
    return all(n == 1 for n in t.shape[-2:])


@cache
def is_view(func: Any) -> bool:
    """True if the result shares memory with an argument."""
    return any(r.alias_info is not None for r in func._schema.returns)


@cache
def is_composite(func: Any) -> bool:
    """True if the operation runs others and has no kernel of its own.

    Outside inference mode torch runs the others itself.
    """
    return bool(func._can_decompose())


@cache
def out_overload(func: Any) -> Any:
    """The overload of an operation that writes into a given tensor, or None."""
    if func._overloadname != "Tensor":
        return None
    packet = func._overloadpacket
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments]
    for name in packet.overloads():
        overload = getattr(packet, name)
        given = [(a.name, str(a.type)) for a in overload._schema.arguments if not a.is_out]
        if given == wanted and len(given) + 1 == len(overload._schema.arguments):
            return overload
    return None
