"""Inputs of a network beside the image: masks, noise levels, depth.

Maps of the size of the image travel as further channels of the image, so that tiles, crops and
padding treat them alike; the call of the network takes them apart again.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.inside import unwrapped
from glocal.errors import ArgumentError
from glocal.inference.tensors import as_batch, as_floats
from glocal.scanning.example import Example
from glocal.texts import size_text

__all__ = [
    "Extra",
    "InputValue",
    "arguments",
    "digests",
    "example_of",
    "extras_of",
    "parts_of",
    "with_maps",
]

InputValue: TypeAlias = float | np.ndarray | Tensor
"""A number, or a map of the size of the image: an array (h, w) or (h, w, c), or a tensor (c, h, w)
or (b, c, h, w)."""


@dataclass(frozen=True)
class Extra:
    """An input beside the image.

    Attributes:
        name: parameter of `forward` that takes it; None if it is appended to the image's channels.
        channels: of a map; 0 for a number.
        value: of a number.
    """

    name: str | None
    channels: int
    value: float = 0.0


def extras_of(model: nn.Module, inputs: Mapping[str, InputValue]) -> tuple[Extra, ...]:
    """Return how a network takes inputs: by name, or as further channels of the image.

    Args:
        model: the network. An input whose name is a parameter of its `forward` is that argument;
            a number becomes a tensor (b, 1, 1, 1). Any other input is appended to the channels of
            the image; a number becomes a constant map.
        inputs: by name.

    Raises:
        ArgumentError: a value is neither a number nor a map.
    """
    names = _parameters(model)
    found = []
    for name, value in inputs.items():
        own = name if name in names else None
        given = _map(value)
        if given is not None:
            found.append(Extra(own, given.shape[1]))
        elif isinstance(value, int | float | np.number) and not isinstance(value, bool):
            found.append(Extra(own, 0 if own else 1, float(value)))
        else:
            raise ArgumentError(
                f"input {name!r} is {_kind(value)}; give a number, or an array or tensor of the "
                "size of the image"
            )
    return tuple(found)


def with_maps(image: Tensor, inputs: Mapping[str, InputValue], extras: tuple[Extra, ...]) -> Tensor:
    """Return the image (b, c, h, w) in floats, with maps as further channels.

    Raises:
        ArgumentError: a map has another size than the image.
    """
    size = image.shape[-2:]
    parts = [as_floats(image)]
    for (name, value), extra in zip(inputs.items(), extras, strict=True):
        if not extra.channels:
            continue
        found = _map(value)
        given = parts[0].new_full((1, 1, *size), extra.value) if found is None else found
        given = given.to(parts[0])
        if given.shape[-2:] != size:
            own, wanted = (size_text((s[0], s[1])) for s in (given.shape[-2:], size))
            raise ArgumentError(f"input {name!r} has {own} pixels, the image has {wanted}")
        parts.append(given.expand(len(image), -1, -1, -1))
    return torch.cat(parts, 1)


def parts_of(
    inputs: Mapping[str, InputValue], rows: slice, columns: slice
) -> dict[str, InputValue]:
    """Return the inputs for a part of the image: maps are cut, numbers stay."""

    def part(value: InputValue) -> InputValue:
        if isinstance(value, Tensor) and value.ndim >= 2:
            return value[..., rows, columns]
        if isinstance(value, np.ndarray) and value.ndim >= 2:
            return value[rows, columns]
        return value

    return {name: part(value) for name, value in inputs.items()}


def digests(inputs: Mapping[str, InputValue]) -> dict[str, str]:
    """Return a text for each input that two inputs share only if they are equal."""
    found = {}
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            content = np.ascontiguousarray(value).tobytes()
            found[name] = f"{value.dtype} {value.shape} {sha256(content).hexdigest()}"
        else:
            found[name] = repr(float(value))
    return found


def arguments(
    x: Tensor, extras: tuple[Extra, ...], channels: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take an image with maps apart: the image, and the arguments by name.

    Args:
        x: (b, c, h, w) of image and maps.
        extras: of the network.
        channels: of the image alone.
    """
    image, maps = x[:, :channels], x[:, channels:]
    named: dict[str, Tensor] = {}
    for extra in extras:
        part, maps = maps[:, : extra.channels], maps[:, extra.channels :]
        if extra.name is None:
            image = torch.cat([image, part], 1)
        elif extra.channels:
            named[extra.name] = part
        else:
            named[extra.name] = x.new_full((len(x), 1, 1, 1), extra.value)
    return image, named


def example_of(model: nn.Module, channels: int, extras: tuple[Extra, ...]) -> Example:
    """Return arguments of `forward` by size, for `localize`, of a network that takes inputs.

    Args:
        model: the network.
        channels: of the image alone.
        extras: of the network, in any order.
    """
    like = next(model.parameters(), torch.zeros(1))
    names = _parameters(model)
    maps = sum(extra.channels for extra in extras)

    def example(height: int, width: int) -> tuple[Tensor, ...]:
        x = torch.zeros(1, channels + maps, height, width, dtype=like.dtype, device=like.device)
        image, named = arguments(x, extras, channels)
        return (image, *(named[name] for name in names if name in named))

    return example


def _parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters of a network's forward after the image, in order."""
    return tuple(inspect.signature(type(unwrapped(model)).forward).parameters)[2:]


def _map(value: InputValue) -> Tensor | None:
    """A map as (b, c, h, w) in floats; None for a number."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim >= 2:
        return as_floats(as_batch(value)[0])
    return None


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
