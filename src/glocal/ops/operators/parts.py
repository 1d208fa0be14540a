"""Parts of several operators: shapes of results, what is saved, clipped windows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from glocal.ops.windows import Size

__all__ = ["clipped", "like_first", "like_second", "save"]


def like_first(x: Tensor, *_: Any) -> Tensor:
    """The shape and dtype of the first argument, contiguous."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def like_second(_: Tensor, x: Tensor, *__: Any) -> Tensor:
    """The shape and dtype of the second argument, contiguous."""
    return like_first(x)


def save(*positions: int) -> Callable[..., None]:
    """Return a function that saves tensors at these positions and other arguments."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*(inputs[i] for i in positions))
        ctx.rest = [value for value in inputs if not isinstance(value, Tensor)]

    return setup_context


def clipped(x: Tensor, window: Sequence[int]) -> tuple[Size, Size]:
    """(height, width) of the map, and of the window clipped to it."""
    h, w = x.shape[-2:]
    return (h, w), (min(window[0], h), min(window[1], w))
