"""A digest of a network: weights, structure, code and conversion."""

import json
from collections.abc import Iterator
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from glocal.conversion.inside import converted_inside, own_plan
from glocal.conversion.rewrite import Rewritten
from glocal.provenance import weights_sha256

__all__ = ["network_sha256"]


def network_sha256(model: nn.Module) -> str:
    """SHA-256 that two networks share only if they compute the same, as far as can be seen.

    It covers the weights, the printed structure, the plan and the programs of a conversion, and
    the bytecode of the modules' classes; not that of functions which these call.

    >>> network_sha256(nn.ReLU()) == network_sha256(nn.ReLU())
    True
    >>> network_sha256(nn.ReLU()) == network_sha256(nn.SiLU())
    False
    """
    found = converted_inside(model)
    plan = None if found is None else own_plan(found[1])
    classes = dict.fromkeys(cls for m in model.modules() for cls in type(m).__mro__)
    parts = (
        weights_sha256(model),
        str(model),
        "" if plan is None else plan.to_json(),
        # a rewritten block prints like the original, but its program depends on the window overlap
        [str(p) for m in model.modules() if isinstance(m, Rewritten) for p in m.programs],
        [_class_text(cls) for cls in classes if cls.__module__.partition(".")[0] not in _LIBRARIES],
    )
    return sha256(json.dumps(parts).encode()).hexdigest()


_LIBRARIES = ("builtins", "torch")


def _class_text(cls: type) -> str:
    functions = sorted(
        (name, value.__code__) for name, value in vars(cls).items() if type(value) is FunctionType
    )
    return f"{cls.__qualname__} {[(name, *_code_parts(code)) for name, code in functions]}"


def _code_parts(code: CodeType) -> Iterator[Any]:
    """Instructions, names and constants of a code object, without file and line numbers."""
    yield code.co_code.hex()
    yield (code.co_names, code.co_varnames, code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield list(_code_parts(constant))
        elif isinstance(constant, frozenset):  # in no fixed order
            yield sorted(map(repr, constant))
        else:
            yield repr(constant)
