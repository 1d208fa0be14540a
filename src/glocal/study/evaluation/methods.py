"""The inference methods to compare: full image, crop-and-stitch, TLC, crops."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from torch import Tensor, nn

from glocal.conversion.localize import plan_of
from glocal.conversion.train_size import resolve_train_size
from glocal.errors import ArgumentError
from glocal.inference.geometry import Blend, overlap_pixels
from glocal.inference.options import TilesLike, as_tiles
from glocal.inference.restore import restore
from glocal.inference.settings import Settings
from glocal.inference.ways import WAYS, Way
from glocal.ops.windows import Size
from glocal.scanning.plan import Plan
from glocal.study.options import ConversionOptions, RunOptions

__all__ = ["DEFAULT_WAYS", "DEGRADED", "FULL_IMAGE", "Method", "Overlap", "method_of", "methods_of"]

DEGRADED = "degraded"
"""Name of the images before restoration, which the methods have to beat."""

FULL_IMAGE = "full image"
"""Name of the method that the others are compared with."""

DEFAULT_WAYS: tuple[Way, ...] = ("full", "stitch", "windows", "crops")
"""The ways of running a network that are compared."""

Overlap: TypeAlias = int | float | None
"""Of tiles, in pixels or as a fraction of the tile; None is an eighth."""

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
        network: the original or its converted copy.
        settings: the way of running it, and its options.
        protocol: what is done, in one sentence.
        arguments: keyword arguments of `glocal.restore`.
        plan: of the conversion; None if nothing was converted.
    """

    name: str
    network: nn.Module
    settings: Settings
    protocol: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan | None = None

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
    ways: Sequence[Way | Settings] = DEFAULT_WAYS,
    windows: Sequence[int | Size | None] = (None,),
    window_scale: float | None = None,
    strides: Sequence[float] = (1.0,),
    tiles: TilesLike = "auto",
    overlaps: Sequence[Overlap] = (None,),
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
) -> list[Method]:
    """Return the methods of some ways, one for each value of the options of a way.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3))
    >>> [method.name for method in methods_of(net, 64, windows=(None, 64))]
    ['full image', 'crop-and-stitch 64/8 linear', 'TLC 96', 'TLC 64', 'crops 64']
    >>> [method.name for method in methods_of(net, 64, ways=["stitch"], overlaps=(0.5, 0.75))]
    ['crop-and-stitch 64/32 linear', 'crop-and-stitch 64/48 linear']

    Args:
        model: the network, not converted.
        train_size: as in `glocal.localize`.
        ways: names (`Way`), whose options follow, or `Settings`. "degraded" adds no method: its
            row is that of the images before restoration.
        windows: of "windows" and "auto": side or (height, width) in input pixels; None is
            that of `glocal.localize`.
        window_scale: for the windows that are None, as in `glocal.localize`.
        strides: of "crops" and "auto": most distance between crops, in crops.
        tiles: of "stitch", as in `glocal.restore`; "auto" is the training size.
        overlaps: of "stitch", in pixels or as fractions of a tile; None is that of `tiles`, by
            default an eighth.
        conversion: how the network is converted.
        run: how the network runs, the same for all methods.

    Raises:
        ArgumentError: a value is wrong, two methods are equal, or there is none.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    train = resolve_train_size(model, train_size)
    given = {"ways": ways, "windows": windows, "strides": strides, "overlaps": overlaps}
    for name, values in given.items():
        if not values:
            raise ArgumentError(f"{name} is empty; give at least one")
    found = [
        method_of(model, each, conversion, run, window_scale)
        for way in ways
        for each in _settings(way, train, windows, strides, tiles, overlaps)
        if each.way != "degraded"
    ]
    names = [method.name for method in found]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ArgumentError(f"two methods are equal: {repeated[0]} is given twice")
    return found


def _settings(
    way: Way | Settings,
    train: Size,
    windows: Sequence[int | Size | None],
    strides: Sequence[float],
    tiles: TilesLike,
    overlaps: Sequence[Overlap],
) -> Iterator[Settings]:
    """Yield the settings of a way, one for each combination of its options."""
    if isinstance(way, Settings):
        yield replace(way, train_size=way.train_size or train)
        return
    if way not in WAYS:
        raise ArgumentError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if way == "stitch":
        tiles = as_tiles(tiles)
        if tiles.halo is not None:
            raise ArgumentError("crop-and-stitch blends its tiles; leave out halo")
        for overlap in overlaps:
            yield Settings(
                way, train, tile=tiles.given_size, blend=tiles.blend,
                overlap=tiles.overlap if overlap is None else overlap,
            )  # fmt: skip
        return
    for window in windows if way in ("windows", "auto") else (None,):
        for stride in strides if way in ("crops", "auto") else (None,):
            yield Settings(way, train, window=window, stride=stride)


def method_of(
    model: nn.Module,
    settings: Settings,
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
    window_scale: float | None = None,
) -> Method:
    """Return the method that runs a network as settings say.

    Args:
        model: the network, not converted.
        settings: with the training size; what they leave global is added to `conversion`.
        conversion: how the network is converted.
        run: how the network runs.
        window_scale: of windows that the settings do not state.

    Raises:
        ArgumentError: a tile is not larger than the overlap, or as in `glocal.localize`.
        ScanError, ConversionError: as in `glocal.localize`.
    """
    if settings.way == "degraded":
        return Method(DEGRADED, settings.network(model), settings, "the image as it is")
    train = resolve_train_size(model, settings.train_size)
    if settings.way == "full":
        protocol = "the unconverted network on the whole image"
        return Method(FULL_IMAGE, model, settings, protocol, run.arguments())
    if settings.way == "stitch":
        return _crop_and_stitch(model, train, settings, run)
    options = conversion.arguments()
    settings = replace(
        settings,
        keep_global=(*options.pop("keep_global"), *settings.keep_global),
        allow_global=options.pop("allow_global") or settings.allow_global,
    )
    if settings.way == "crops":
        options["window"] = train  # of operations that cannot take statistics from crops
    network = settings.network(model, window_scale=window_scale, **options)
    plan = plan_of(network)
    stride = f" stride {plan.stride:g}" if settings.way != "windows" and plan.stride != 1 else ""
    name = {
        "windows": f"TLC {_text(plan.window)}",
        "crops": f"crops {_text(train)}{stride}",
        "auto": f"auto {_text(plan.window)}{stride}",
    }[settings.way]
    protocol = (
        f"the network on the whole image with {plan.sources()}, in input pixels ({plan.summary()})"
        if plan.rows
        else "the network on the whole image (it has no global operations)"
    )
    return Method(name, network, settings, protocol, run.arguments(), plan)


def _crop_and_stitch(model: nn.Module, train: Size, settings: Settings, run: RunOptions) -> Method:
    tiles = settings.tiles(train)
    size, blend = tiles.given_size or train, tiles.blend or "linear"
    overlap = overlap_pixels(tiles.overlap, size[0]), overlap_pixels(tiles.overlap, size[1])
    if overlap[0] >= size[0] or overlap[1] >= size[1]:
        raise ArgumentError(
            f"tiles of {_text(size)} cannot overlap by {_text(overlap)} pixels; "
            "the overlap must be smaller than the tile"
        )
    return Method(
        f"crop-and-stitch {_text(size)}/{_text(overlap)} {blend}",
        model,
        settings,
        f"the unconverted network on tiles of {size[0]}×{size[1]} pixels that overlap by "
        f"{_text(overlap)} or more and {_BLENDING[blend]} there",
        {**run.arguments(), "tiles": tiles},
    )


def _text(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
