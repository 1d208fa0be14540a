"""Exact and fast forms of the local operations.

Tables contain `fast` only for operations that have it.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

import glocal
from glocal import ops
from glocal.ops import lazy

OPERATIONS: dict[str, Callable[..., Any]] = {
    "mean": lazy.local_mean,
    "moments": lazy.local_moments,
    "instance norm": ops.local_instance_norm,
}
"""A function of a map and a window."""


def operations(name: str) -> dict[str, Callable[..., Any]]:
    """The available forms of an operation, by precision."""
    return {p: partial(OPERATIONS[name], **_chosen(p)) for p in precisions(OPERATIONS[name])}


def laid_out(form: Callable[..., Any]) -> Callable[..., Any]:
    """The form that writes every pixel of its map."""
    return lambda *given, **options: tree_map(_pixels, form(*given, **options))


def precisions(function: Callable[..., Any] = glocal.localize) -> tuple[str, ...]:
    """The precisions that a glocal function accepts."""
    known = "precision" in inspect.signature(function).parameters
    return ("exact", "fast") if known else ("exact",)


def localized(network: nn.Module, window: int, precision: str) -> nn.Module:
    """The network converted for this window (training size = window / 1.5)."""
    train_size = max(1, window * 2 // 3)
    return glocal.localize(network, train_size, window=window, **_chosen(precision))


def _pixels(found: Tensor) -> Tensor:
    padded = getattr(found, "padded", None)
    return padded() if callable(padded) else found


def _chosen(precision: str) -> dict[str, Any]:
    return {} if precision == "exact" else {"precision": precision}
