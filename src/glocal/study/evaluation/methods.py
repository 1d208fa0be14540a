"""The inference methods that are compared: full image, crop-and-stitch, TLC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from glocal.conversion.localize import localize, plan_of
from glocal.conversion.train_size import resolve_train_size
from glocal.errors import ArgumentError
from glocal.inference.geometry import Blend, overlap_pixels
from glocal.inference.options import Tiles, TilesLike, as_tiles
from glocal.inference.restore import restore
from glocal.ops.windows import Size
from glocal.study.options import ConversionOptions, RunOptions

__all__ = ["FULL_IMAGE", "Method", "crop_and_stitch", "full_image", "methods_of", "tlc"]

FULL_IMAGE = "full image"
"""Name of the method that the others are compared with."""

AnyImage = TypeVar("AnyImage", Tensor, np.ndarray)

_BLENDING: dict[Blend, str] = {
    "linear": "fade into each other",
    "mean": "are averaged",
    "cut": "give way to the nearer",
}


@dataclass(frozen=True, eq=False)
class Method:
    """One method of running a network on a whole image.

    Attributes:
        name: unique among those that are compared, such as "TLC 96".
        network: converted for TLC, the original otherwise.
        protocol: what is done, in one sentence.
        arguments: keyword arguments of `glocal.restore`.
        plan: of the conversion, as text; empty if nothing was converted.
        converted: True for TLC.
    """

    name: str
    network: nn.Module
    protocol: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    plan: str = ""
    converted: bool = False

    def restore(self, image: AnyImage, **arguments: Any) -> AnyImage:
        """Return the restored image; further arguments are those of `glocal.restore`.

        A method without tiles raises if memory is short. `glocal.restore` would continue in
        tiles, which is another method.

        Raises:
            GlocalError: as in `glocal.restore`, or the whole image does not fit into memory.
        """
        size = image.shape[:2] if isinstance(image, np.ndarray) else image.shape[-2:]
        whole = {"tiles": (int(size[0]), int(size[1]))}
        return restore(self.network, image, **{**whole, **self.arguments, **arguments})


def methods_of(
    model: nn.Module,
    train_size: int | Size | None = None,
    *,
    windows: Sequence[int | Size | None] = (None,),
    window_scale: float = 1.5,
    tiles: TilesLike = "auto",
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
) -> list[Method]:
    """Return full image, crop-and-stitch, and TLC with each window.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3))
    >>> [method.name for method in methods_of(net, 64, windows=(None, 64))]
    ['full image', 'crop-and-stitch 64/8 linear', 'TLC 96', 'TLC 64']

    Args:
        model: the network, not converted.
        train_size: as in `glocal.localize`.
        windows: side or (height, width) in input pixels; None is `window_scale` × `train_size`.
        window_scale: for the windows that are None.
        tiles: of crop-and-stitch, as in `glocal.restore`; "auto" is the training size.
        conversion: how the network is converted for TLC.
        run: how the network runs, the same for all methods.

    Raises:
        ArgumentError: a value is wrong, two windows are equal, or there is no window.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    if not windows:
        raise ArgumentError("windows is empty; give at least one, None for the default window")
    train = resolve_train_size(model, train_size)
    found = [
        full_image(model, run),
        crop_and_stitch(model, train, tiles, run),
        *(tlc(model, train, window, window_scale, conversion, run) for window in windows),
    ]
    names = [method.name for method in found]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ArgumentError(f"two windows are equal: both give {repeated[0]}")
    return found


def full_image(model: nn.Module, run: RunOptions = RunOptions()) -> Method:
    """Return the method that runs the original network on the whole image at once."""
    protocol = "the unconverted network on the whole image"
    return Method(FULL_IMAGE, model, protocol, run.arguments())


def crop_and_stitch(
    model: nn.Module,
    train_size: Size,
    tiles: TilesLike = "auto",
    run: RunOptions = RunOptions(),
) -> Method:
    """Return the method that runs the original network on overlapping tiles.

    Raises:
        ArgumentError: a tile is not larger than the overlap, or has a halo.
    """
    tiles = as_tiles(tiles)
    size = tiles.given_size or train_size
    overlap = overlap_pixels(tiles.overlap, min(size))
    blend: Blend = tiles.blend or "linear"
    if tiles.halo is not None:
        raise ArgumentError("crop-and-stitch blends its tiles; leave out halo")
    if not overlap < min(size):
        raise ArgumentError(
            f"tiles of {_text(size)} cannot overlap by {overlap} pixels; "
            "the overlap must be smaller than the tile"
        )
    return Method(
        f"crop-and-stitch {_text(size)}/{overlap} {blend}",
        model,
        f"the unconverted network on tiles of {size[0]}×{size[1]} pixels that overlap by {overlap} "
        f"or more and {_BLENDING[blend]} there",
        {**run.arguments(), "tiles": Tiles(size, overlap=overlap, blend=blend)},
    )


def tlc(
    model: nn.Module,
    train_size: Size,
    window: int | Size | None = None,
    window_scale: float = 1.5,
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
) -> Method:
    """Return the method that runs the converted network on the whole image at once.

    Raises:
        ArgumentError, ScanError, ConversionError: as in `glocal.localize`.
    """
    local = localize(
        model, train_size, window=window, window_scale=window_scale, **conversion.arguments()
    )
    plan = plan_of(local)
    name = f"TLC {_text(plan.window)}"
    height, width = plan.window
    summary = f" ({plan.summary()})" if plan.rows else " (it has no global operations)"
    protocol = (
        f"the network with windows of {height}×{width} input pixels, on the whole image{summary}"
    )
    return Method(name, local, protocol, run.arguments(), str(plan), converted=True)


def _text(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
