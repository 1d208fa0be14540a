"""Copies of the tensors of a run, without two of the same values."""

from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

__all__ = ["Copies"]


class Copies:
    """Copies of tensors; those of equal values at one place in memory are one copy.

    The output of a module is often that of its last child and the input of the next module.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[Any, ...], Tensor] = WeakValueDictionary()

    def known(self, t: Tensor) -> Tensor | None:
        """Return the copy of a tensor, which nobody may write to; None if there is none."""
        copy = self._known.get(_place(t)) if _is_placed(t) else None
        # other values: it was written to since, or its memory has become another tensor
        return copy if copy is not None and torch.equal(copy, t) else None

    def of(self, t: Tensor) -> Tensor:
        """Return the copy of a tensor, made if there is none."""
        copy = self.known(t)
        if copy is None:
            copy = t.clone()
            if _is_placed(t):
                self._known[_place(t)] = copy
        return copy


def _is_placed(t: Tensor) -> bool:
    """False for a lazy map, say, which has no place in memory."""
    return type(t) is Tensor and t.layout is torch.strided and not t.is_meta


def _place(t: Tensor) -> tuple[Any, ...]:
    return t.data_ptr(), t.dtype, t.shape, t.stride()
