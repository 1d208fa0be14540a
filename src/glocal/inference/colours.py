"""Run images of one number of channels through networks of another."""

from typing import Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.conversion.inside import known_train_size
from glocal.errors import ArgumentError
from glocal.ops.windows import Size
from glocal.scanning.discover import trace_at

__all__ = ["GREY", "Colours", "Grey", "as_image", "as_input", "colours_for", "taken_channels"]

Grey: TypeAlias = Literal["channels", "luma"]
"""How a network of one channel restores a colour image: "channels" restores each channel by
itself; "luma" restores the luma, and colours are those of the image."""

GREY: tuple[Grey, ...] = get_args(Grey)

Colours: TypeAlias = Literal["same", "repeat", "channels", "luma"]
"""How images become the input of a network: as they are, a grey one repeated for three channels,
or a colour one by `Grey`."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def colours_for(image_channels: int, taken: int | None, grey: Grey) -> Colours:
    """Return how images become the input of a network.

    >>> colours_for(1, 3, "channels"), colours_for(3, 1, "luma"), colours_for(3, 3, "luma")
    ('repeat', 'luma', 'same')

    Args:
        image_channels: of the images.
        taken: channels that the network takes; None if it takes any.
        grey: for networks of one channel.

    Raises:
        ArgumentError: the network cannot take the images.
    """
    if taken is None or taken == image_channels:
        return "same"
    if image_channels == 1 and taken == 3:
        return "repeat"
    if taken == 1 and (grey == "channels" or image_channels == 3):
        return grey
    raise ArgumentError(
        f"the network takes {_channels(taken)}, the image has {image_channels}"
        + ("; leave out alpha" if (image_channels, taken) in ((4, 3), (2, 1)) else "")
    )


def _channels(number: int) -> str:
    return f"{number} channel" + ("s" if number > 1 else "")


_TAKEN: WeakKeyDictionary[nn.Module, dict[int, int | None]] = WeakKeyDictionary()
"""Channels that networks take, by channels of the image, as far as they had to run to show it."""


def taken_channels(model: nn.Module, image_channels: int) -> int | None:
    """Return the channels that a network takes, by preference those of the image.

    The network runs, without values if possible, unless its first convolution takes 3 channels, no
    convolution takes 1, and the image has 3 or 1.

    Returns:
        None if it has no convolutions, or runs on none of the numbers that are tried.
    """
    if not any(hasattr(m, "in_channels") for m in model.modules()):
        return None
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    taken = [m.in_channels for m in convolutions]
    if taken[:1] == [3] and 1 not in taken and image_channels in (1, 3):
        return 3
    known = _TAKEN.setdefault(model, {})
    if image_channels not in known:
        tried = dict.fromkeys((image_channels, 3, 1, 4, *taken[:1]))
        size = known_train_size(model) or (64, 64)
        runs = (n for n in tried if _runs(model, n, size))
        known[image_channels] = next(runs, None)
    return known[image_channels]


def _runs(model: nn.Module, channels: int, size: Size) -> bool:
    like = next(model.parameters(), torch.zeros(1))

    def image(size: Size, device: str | None) -> tuple[Tensor]:
        where = like.device if device is None else device
        return (torch.zeros(1, channels, *size, dtype=like.dtype, device=where),)

    return trace_at(model, image, size) is not None


def as_input(image: Tensor, colours: Colours) -> Tensor:
    """Return the input of a network for an image (b, c, h, w)."""
    if colours == "repeat":
        return image.expand(-1, 3, -1, -1)
    if colours == "channels":
        return image.reshape(-1, 1, *image.shape[-2:])
    return _luma(image) if colours == "luma" else image


def as_image(result: Tensor, image: Tensor, colours: Colours) -> Tensor:
    """Return the image of a network's result for `as_input(image)`; undoes `as_input`."""
    if colours == "repeat":
        return result.mean(1, keepdim=True)
    if colours == "channels":
        return result.reshape(image.shape[0], -1, *result.shape[-2:])
    if colours == "luma":  # equal differences of R, G and B change luma alone
        enlarged = image.to(result)
        if result.shape[-2:] != image.shape[-2:]:
            enlarged = F.interpolate(
                enlarged, result.shape[-2:], mode="bicubic", align_corners=False
            )
        return enlarged + (result - _luma(enlarged))
    return result


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=image.dtype, device=image.device)
    return (image * weights[:, None, None]).sum(1, keepdim=True)
