"""The ways of running one network on a whole image: full image, crop-and-stitch, TLC."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from glocal.conversion.localize import localize, plan_of
from glocal.errors import ArgumentError
from glocal.inference.geometry import BLENDS, Blend
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.ops.windows import Size, as_size

__all__ = ["FULL_IMAGE", "Way", "full_image", "stitched", "tlc", "ways"]

FULL_IMAGE = "full image"
"""Name of the way that the others are compared with."""

AnyImage = TypeVar("AnyImage", Tensor, np.ndarray)


@dataclass(frozen=True, eq=False)
class Way:
    """One way of running a network on a whole image.

    Attributes:
        name: unique among those that are compared, such as "TLC 96".
        network: what runs, converted or not.
        protocol: what is done, in one sentence.
        options: of `glocal.restore`.
        plan: what became of every global operation, empty where nothing was converted.
        converted: whether this is TLC.
    """

    name: str
    network: nn.Module
    protocol: str
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: str = ""
    converted: bool = False

    def restore(self, image: AnyImage, **options: Any) -> AnyImage:
        """The image as this way restores it; further options are those of `glocal.restore`.

        A way without tiles never falls back to them, as `glocal.restore` does where memory is
        short: it would be another way under the same name.

        Raises:
            GlocalError: as for `glocal.restore`, and where the image does not fit into memory.
        """
        size = image.shape[:2] if isinstance(image, np.ndarray) else image.shape[-2:]
        whole = {"tiles": (int(size[0]), int(size[1]))}
        return restore(self.network, image, **{**whole, **self.options, **options})


def ways(
    model: nn.Module,
    train_size: int | Size,
    *,
    windows: Sequence[int | Size | None] = (None,),
    window_scale: float = 1.5,
    tile: int | Size | None = None,
    overlap: int | None = None,
    blend: Blend = "linear",
    keep_global: str | Iterable[str] = (),
    allow_global: bool = False,
    **options: Any,
) -> list[Way]:
    """The full image, crop-and-stitch, and TLC with every window that is asked for.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3))
    >>> [way.name for way in ways(net, 64, windows=(None, 64))]
    ['full image', 'crop-and-stitch 64/8 linear', 'TLC 96', 'TLC 64']

    Args:
        model: the network, not converted.
        train_size: side or (height, width) of the crops it was trained on, in pixels.
        windows: side or (height, width) in input pixels; None is `window_scale` × `train_size`.
        window_scale: of the windows that are None.
        tile: of crop-and-stitch, the training size by default.
        overlap: least overlap of the tiles in pixels, an eighth of the tile by default.
        blend: of the tiles, see `glocal.restore`.
        keep_global, allow_global: see `glocal.localize`.
        options: of `glocal.restore`, for all ways: dtype, device, output.

    Raises:
        ArgumentError: a value cannot be used, two windows are the same, or there is none.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    if not windows:
        raise ArgumentError("at least one window is needed; None is the default one")
    keep = (keep_global,) if isinstance(keep_global, str) else tuple(keep_global)
    conversion: dict[str, Any] = {
        "window_scale": window_scale, "keep_global": keep, "allow_global": allow_global,
    }  # fmt: skip
    found = [
        full_image(model, **options),
        stitched(model, train_size if tile is None else tile, overlap, blend, **options),
        *(tlc(model, train_size, window, conversion, **options) for window in windows),
    ]
    names = [way.name for way in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ArgumentError(f"the windows give {twice[0]} more than once")
    return found


def full_image(model: nn.Module, **options: Any) -> Way:
    """The network as it is, on the whole image at once; options of `glocal.restore`."""
    return Way(FULL_IMAGE, model, "the network as it is, on the whole image at once", options)


def stitched(
    model: nn.Module,
    tile: int | Size,
    overlap: int | None = None,
    blend: Blend = "linear",
    **options: Any,
) -> Way:
    """Crop-and-stitch: the network as it is, on overlapping tiles; options of `glocal.restore`.

    Raises:
        ArgumentError: the tile is no size, does not exceed the overlap, or the blend is unknown.
    """
    size = as_size(tile, "tile")
    least = min(size) // 8 if overlap is None else overlap
    if not 0 <= least < min(size):
        raise ArgumentError(
            f"tiles of {_text(size)} cannot overlap by {least} pixels; "
            "the overlap must be at least 0 and smaller than the tile"
        )
    if blend not in BLENDS:
        raise ArgumentError(f"blend is one of {', '.join(BLENDS)}, got {blend!r}")
    how = {
        "linear": "fade into each other", "mean": "are averaged", "cut": "give way to the nearer",
    }[blend]  # fmt: skip
    return Way(
        f"crop-and-stitch {_text(size)}/{least} {blend}",
        model,
        f"the network as it is, on tiles of {size[0]}×{size[1]} pixels that overlap by {least} or "
        f"more and {how} there",
        {**options, "tiles": Tiles(size, overlap=least, blend=blend)},
    )


def tlc(
    model: nn.Module,
    train_size: int | Size,
    window: int | Size | None = None,
    conversion: Mapping[str, Any] | None = None,
    **options: Any,
) -> Way:
    """TLC: the converted network, on the whole image at once; options of `glocal.restore`.

    Args:
        model: the network, not converted.
        train_size: see `glocal.localize`.
        window: see `glocal.localize`.
        conversion: other arguments of `glocal.localize`.
        options: of `glocal.restore`.

    Raises:
        ArgumentError: as for `glocal.localize`, like its other errors.
    """
    local = localize(model, train_size, window=window, **(conversion or {}))
    plan = plan_of(local)
    name = f"TLC {_text(plan.window)}"
    height, width = plan.window
    rest = f" ({plan.summary()})" if plan.rows else " (it has no global operations)"
    protocol = (
        f"the network with windows of {height}×{width} input pixels, on the whole image{rest}"
    )
    return Way(name, local, protocol, options, str(plan), converted=True)


def _text(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
