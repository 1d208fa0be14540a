"""Scan a network with inputs that are guessed, or adapted from an example."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from glocal.errors import ArgumentError, ScanError
from glocal.ops.windows import Size
from glocal.scanning.discover import ExampleError, Scan, scan_trace
from glocal.scanning.user_code import failure

__all__ = ["Example", "channels_of", "scan_network"]

Example = Tensor | Sequence[Any] | Callable[[int, int], Any]
"""Arguments of forward: one tensor, several arguments, or a function of (height, width)."""


def scan_network(model: nn.Module, train: Size, example: Example | None) -> Scan:
    """Find the global operations of a network.

    Args:
        model: any network.
        train: (height, width) of its training crops in pixels.
        example: what to call it with, as in `localize`. None tries one image with as many
            channels as the first layer takes, then 3, 1 and 4 channels.

    Raises:
        ArgumentError: the example has no tensor with height and width.
        ScanError: the network does not run, or runs other operations at other sizes.
    """
    if example is not None:
        return scan_trace(model, partial(_adapted, example), train)
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))

    def image(channels: int, size: Size, device: str | None) -> tuple[Tensor]:
        where = first.device if device is None else device
        return (torch.zeros(1, channels, *size, dtype=first.dtype, device=where),)

    guess: Any = next((m.in_channels for m in model.modules() if hasattr(m, "in_channels")), 3)
    problem: ScanError | None = None
    for channels in dict.fromkeys([guess, 3, 1, 4]):
        try:
            return scan_trace(model, partial(image, channels), train)
        except ScanError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _adapted(example: Example, size: Size, device: str | None) -> tuple[Any, ...]:
    """The example scaled so that its largest height and width are those of `size`."""
    if callable(example) and not isinstance(example, Tensor):
        made = _made(example, size)
        args = (made,) if isinstance(made, Tensor) else tuple(made)
        moved: tuple[Any, ...] = tree_map_only(Tensor, lambda t: t.to(device or t.device), args)
        return moved
    args = (example,) if isinstance(example, Tensor) else tuple(example)
    maps = [t for t in args if isinstance(t, Tensor) and t.ndim >= 3]
    if not maps:
        raise ArgumentError(
            "example has no tensor with at least 3 dims (…, height, width); "
            "pass an image tensor, or a function of (height, width)"
        )
    height, width = max(t.shape[-2] for t in maps), max(t.shape[-1] for t in maps)

    def resize(t: Tensor) -> Tensor:
        shape = list(t.shape)
        if t.ndim >= 3:
            shape[-2:] = shape[-2] * size[0] // height, shape[-1] * size[1] // width
        return torch.zeros(shape, dtype=t.dtype, device=device or t.device)

    resized: tuple[Any, ...] = tree_map_only(Tensor, resize, args)
    return resized


def _made(example: Callable[[int, int], Any], size: Size) -> Any:
    call = f"example({size[0]}, {size[1]})"
    try:
        made = example(*size)
    except Exception as error:  # a user's function may raise anything
        raise ExampleError(f"{call} failed: {failure(error)}") from error
    if not isinstance(made, Tensor | list | tuple):
        raise ExampleError(
            f"{call} returned {type(made).__name__}; expected a tensor, or a tuple of arguments"
        )
    return made


def channels_of(model: nn.Module) -> int | None:
    """Channels of the images a network takes, 1 or 3; None if it has no convolutions.

    1 for a network with a convolution that takes one channel and none that takes three.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        return None
    taken = {m.in_channels for m in convolutions if m.groups == 1}
    return 1 if 1 in taken and 3 not in taken else 3
