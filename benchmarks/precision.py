"""Exact and fast local forms: the one place that says how they are had.

`fast` is in every table where this glocal has it, and left out elsewhere.
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
"""What is called with a map and a window."""


def operations(name: str) -> dict[str, Callable[..., Any]]:
    """The forms of an operation that there are, by precision."""
    return {p: partial(OPERATIONS[name], **_chosen(p)) for p in precisions(OPERATIONS[name])}


def laid_out(form: Callable[..., Any]) -> Callable[..., Any]:
    """A form that writes all pixels of its map: some keep one value a window until they meet."""
    return lambda *given, **options: tree_map(_pixels, form(*given, **options))


def precisions(function: Callable[..., Any] = glocal.localize) -> tuple[str, ...]:
    """The precisions that a function of glocal knows."""
    known = "precision" in inspect.signature(function).parameters
    return ("exact", "fast") if known else ("exact",)


def localized(network: nn.Module, window: int, precision: str) -> nn.Module:
    """The network converted for crops that give this window by the paper's factor of 1.5."""
    train_size = max(1, window * 2 // 3)
    return glocal.localize(network, train_size, window=window, **_chosen(precision))


def _pixels(found: Tensor) -> Tensor:
    padded = getattr(found, "padded", None)
    return padded() if callable(padded) else found


def _chosen(precision: str) -> dict[str, Any]:
    return {} if precision == "exact" else {"precision": precision}
