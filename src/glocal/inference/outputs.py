"""Choose the restored image among what a network returns."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from glocal.errors import ArgumentError

__all__ = ["chosen_output"]


def chosen_output(result: Any, output: int | str | None) -> Tensor:
    """Return one tensor of a list, tuple, dict, named tuple or dataclass, or the tensor itself.

    >>> import torch
    >>> chosen_output({"aux": torch.zeros(1), "out": torch.ones(2)}, "out")
    tensor([1., 1.])

    Args:
        result: what the network returned.
        output: name or index of the part to take; None where one part only has tensors.

    Raises:
        ArgumentError: there is no such part, several could be meant, or it is not a tensor.
    """
    if isinstance(result, Tensor):
        if output not in (None, 0, -1):
            raise ArgumentError(f"output={output}, but the network returns one output")
        return result
    parts = _parts(result)
    if parts is None:
        raise ArgumentError(f"the network returned {type(result).__name__}, not a tensor")
    if output is None:
        images = [key for key, part in parts.items() if _has_tensors(part)]
        if len(images) != 1:
            raise ArgumentError(
                f"the network returns {len(parts)} outputs, {_described(parts)}; choose one with "
                "output="
            )
        return chosen_output(parts[images[0]], None)
    key = output
    if isinstance(output, int) and -len(parts) <= output < len(parts):
        key = list(parts)[output]
    if key not in parts:
        raise ArgumentError(
            f"output={output}, but the network returns {len(parts)} outputs, {_described(parts)}"
        )
    if not _has_tensors(parts[key]):
        raise ArgumentError(f"output={output} is {type(parts[key]).__name__}, not a tensor")
    return chosen_output(parts[key], None)


def _parts(result: Any) -> dict[int | str, Any] | None:
    if isinstance(result, Mapping):
        return {str(key): part for key, part in result.items()}
    if dataclasses.is_dataclass(result):
        return {each.name: getattr(result, each.name) for each in dataclasses.fields(result)}
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return dict(zip(result._fields, result, strict=True))
    if isinstance(result, Sequence) and not isinstance(result, str | bytes):
        return dict(enumerate(result))
    return None


def _has_tensors(part: Any) -> bool:
    parts = _parts(part)
    leaves = tree_leaves(part) if parts is None else tree_leaves(parts)
    return any(isinstance(leaf, Tensor) for leaf in leaves)


def _described(parts: Mapping[int | str, Any]) -> str:
    """Return names (where there are any) and shapes of the parts."""

    def one(key: int | str, part: Any) -> str:
        what = str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__
        return what if isinstance(key, int) else f"{key} {what}"

    return ", ".join(one(key, part) for key, part in parts.items()) or "none of them"
