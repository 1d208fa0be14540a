"""What is decided once for images of one size: runners of networks, and layouts of tiles.

A single image needs it for one call. The frames of a video share it, so that no frame is measured
again, and all are divided alike. Its layouts are JSON values, so that an interrupted run goes on
with the same ones.

`glocal.restore` passes `prepared=` on to `inference.restore`; it is no public option.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from glocal.inference.geometry import Blend
from glocal.inference.plan import TilePlan
from glocal.inference.run import TiledImage
from glocal.inference.runner import ModelRunner
from glocal.ops.crops import CropStatistics
from glocal.ops.windows import Size

__all__ = ["Blended", "Layout", "Prepared", "Whole"]


@dataclass(frozen=True)
class Whole:
    """The image goes through the network at once."""


@dataclass(frozen=True)
class Blended:
    """Overlapping tiles that are blended.

    Attributes:
        sizes: of the tiles, to try in turn when memory runs out.
        overlap, blend, align: as for `glocal.inference.blending.blended`.
    """

    sizes: tuple[Size, ...]
    overlap: int | float | None
    blend: Blend
    align: int = 1


Layout: TypeAlias = Whole | Blended | TilePlan
"""How an image is divided."""


class Prepared:
    """Runners and layouts, by network and size of the images.

    Attributes:
        smooth: what becomes of the statistics of crops before an image takes them, or None.
    """

    def __init__(
        self,
        layouts: Mapping[str, Mapping[str, Any]] | None = None,
        smooth: Callable[[CropStatistics], CropStatistics] | None = None,
    ) -> None:
        """Begin with the layouts of an earlier run, from `to_dict`."""
        self.smooth = smooth
        self._known = dict(layouts or {})
        self._layouts: dict[str, Layout] = {}
        self._models: list[nn.Module] = []
        self._runners: dict[str, ModelRunner] = {}

    def key(self, model: nn.Module, shape: torch.Size) -> str:
        """Name images of a shape (b, c, h, w), or (c, h, w), and a network."""
        if not any(model is each for each in self._models):
            self._models.append(model)
        number = next(n for n, each in enumerate(self._models) if each is model)
        return f"{number}: {'x'.join(map(str, shape[-3:]))}"

    def runner(self, key: str, make: Callable[[], ModelRunner]) -> ModelRunner:
        """The runner of a network, made at the first call."""
        if key not in self._runners:
            self._runners[key] = make()
        return self._runners[key]

    def layout(self, key: str, size: Size) -> Layout | None:
        """How images of (height, width) are divided; None before the first."""
        if key not in self._layouts and key in self._known:
            self._layouts[key] = _layout_of(size, self._known[key])
        return self._layouts.get(key)

    def keep(self, key: str, layout: Layout) -> None:
        """Divide the next images in the same way."""
        self._layouts[key] = layout

    def smoothed(self, image: TiledImage) -> TiledImage:
        """The image with statistics that were smoothed."""
        if self.smooth is None or image.statistics is None:
            return image
        return replace(image, statistics=self.smooth(image.statistics))

    def to_dict(self) -> dict[str, Any]:
        """The layouts as JSON values."""
        return {key: _as_dict(layout) for key, layout in self._layouts.items()}


def _as_dict(layout: Layout) -> dict[str, Any]:
    if isinstance(layout, Whole):
        return {"kind": "whole"}
    if isinstance(layout, Blended):
        return {"kind": "blended", **vars(layout)}
    return {"kind": "tiles", **layout.to_dict()}


def _layout_of(size: Size, data: Mapping[str, Any]) -> Layout:
    values = {name: value for name, value in data.items() if name != "kind"}
    if data["kind"] == "whole":
        return Whole()
    if data["kind"] == "blended":
        sizes = tuple((int(h), int(w)) for h, w in values.pop("sizes"))
        return Blended(sizes, **values)
    return TilePlan.from_dict(size, values)
