"""Statistics from crops of an image that is restored in tiles: gathered once, before the tiles."""

import math
from dataclasses import replace

import torch

from glocal.conversion.two_passes import two_passes_of
from glocal.inference.run import TiledImage
from glocal.inference.runner import ModelRunner
from glocal.ops.crops import CropGrid, gather

__all__ = ["with_statistics"]


def with_statistics(runner: ModelRunner, image: TiledImage, max_pixels: float) -> TiledImage:
    """The image with the statistics that a network takes from its crops.

    Args:
        runner: of the network.
        image: the image.
        max_pixels: that the network may read at once.

    Returns:
        the image itself if the network takes its statistics from windows.
    """
    passes = two_passes_of(runner.model)
    if passes is None:
        return image
    grid = CropGrid.on(image.size, passes.crop, passes.stride)

    def run(places: list[tuple[slice, slice]]) -> None:
        runner.restore(torch.cat([image.read(*place) for place in places]))

    at_once = min(max_pixels, math.prod(image.size)) // math.prod(grid.crop)
    return replace(image, statistics=gather(grid, max(1, int(at_once)), run))
