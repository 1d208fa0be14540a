"""`run`: the tiles of a plan through a network.

If memory runs out, a tile is split, and the smallest ones run on the CPU. So two things change
while a plan runs: how many pixels are known not to fit, which a `TileRunner` remembers, and the
device, which is that of the `ModelRunner`. The plan itself never changes.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from glocal.conversion.two_passes import two_passes_of
from glocal.devices import release_unused
from glocal.errors import GlocalError, GlocalWarning
from glocal.inference.allocator import trim_heap
from glocal.inference.geometry import Tile
from glocal.inference.plan import TilePlan
from glocal.inference.runner import ModelRunner
from glocal.ops.crops import CropStatistics, Replay, running
from glocal.ops.placement import placed
from glocal.ops.windows import Size
from glocal.shortages import is_out_of_memory
from glocal.texts import size_text

__all__ = ["Progress", "TileRunner", "TiledImage", "run", "run_tile", "with_statistics"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (tiles done, total number of tiles)."""


@dataclass(frozen=True)
class TiledImage:
    """An image that is read part by part.

    Attributes:
        read: rows and columns of the image, as (b, c, h, w) in its own dtype.
        size: (height, width).
        convert: turns a restored part into the form that the caller stores; its memory counts.
        statistics: of its crops, for a network that takes them from there.
    """

    read: Callable[[slice, slice], Tensor]
    size: Size
    convert: Callable[[Tensor], object] = lambda restored: restored
    statistics: CropStatistics | None = None


def with_statistics(image: TiledImage, runner: ModelRunner, max_pixels: float) -> TiledImage:
    """Return the image with statistics of its crops, if the network uses them.

    Args:
        image: the image.
        runner: of the network; it is left on the CPU if another device runs out of memory.
        max_pixels: that the network may read at once. Fewer if memory runs out.

    Raises:
        GlocalError: not even one crop fits into memory, on the CPU either.
    """
    passes = two_passes_of(runner.model)
    if passes is None:
        return image
    at_once = min(max_pixels, math.prod(image.size)) // math.prod(passes.crop)
    while True:
        at_once = max(1, at_once)
        try:
            return replace(image, statistics=runner.statistics(image.size, image.read, at_once))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler, whose traceback would keep the tensors alive
        release_unused(runner.device)
        if at_once > 1:
            at_once //= 2
        elif runner.device.type == "cpu":
            raise GlocalError(
                f"not enough memory for a crop of {size_text(passes.crop)} pixels, the training "
                "size; use a narrower dtype, or free some memory"
            )
        else:
            warnings.warn(
                f"not enough memory on {runner.device} for a crop of {size_text(passes.crop)} "
                "pixels; continuing on the CPU",
                GlocalWarning,
                stacklevel=3,
            )
            runner.move_to_cpu()


def run(
    plan: TilePlan,
    runner: ModelRunner,
    image: TiledImage,
    *,
    done: Collection[int] = (),
    progress: Progress | None = None,
) -> Iterator[tuple[int, Tile, Tensor, int]]:
    """Restore the tiles of a plan, one by one.

    Args:
        plan: of the image.
        runner: of the network; it is left on the CPU if another device runs out of memory.
        image: the image.
        done: indices of tiles to skip.
        progress: called at the beginning and after every tile.

    Yields:
        Index of the tile, the tile, its restored core (b, c, s·h, s·w), and the scale s.

    Raises:
        GlocalError: not even the smallest tile fits into memory, on the CPU either.
    """
    report = progress or (lambda done, total: None)
    restore = TileRunner(plan, runner, image)
    total, finished = len(plan.tiles), len(done)
    report(0, total)
    if finished:
        report(finished, total)
    for index, tile in enumerate(plan.tiles):
        if index in done:
            continue
        core, scale = restore(tile)
        yield index, tile, core, scale
        trim_heap()
        finished += 1
        report(finished, total)


@dataclass
class TileRunner:
    """Restores single tiles of a plan.

    If memory runs out, it splits a tile, and runs the smallest tiles on the CPU.
    """

    plan: TilePlan
    runner: ModelRunner
    image: TiledImage
    _too_many: float = field(default=float("inf"), init=False)  # pixels that did not fit

    def __call__(self, tile: Tile) -> tuple[Tensor, int]:
        """The restored core (b, c, s·h, s·w) and the scale s.

        Raises:
            GlocalError: not even the smallest tile fits into memory, on the CPU either.
        """
        halves = self.plan.split(tile)
        if halves is None or tile.pixels < self._too_many:
            try:
                return run_tile(self.plan, self.runner, self.image, tile)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, whose traceback would keep the tensors alive
            device = self.runner.device
            release_unused(device)
            self._too_many = min(self._too_many, tile.pixels)
            if halves is not None:
                then = f"continuing in tiles of {size_text(halves[0].size)}"
                if self.plan.doubt:
                    then += ", whose result may differ from that of the whole image"
            elif device.type != "cpu":
                then = "continuing on the CPU"
            else:
                raise GlocalError(
                    f"not enough memory on {device} for a tile of {size_text(tile.size)} pixels; "
                    "use a narrower dtype, or free some memory"
                )
            warnings.warn(
                f"not enough memory on {device} for {size_text(tile.size)} pixels at once; {then}",
                GlocalWarning,
                stacklevel=3,
            )
            if halves is None:
                self.runner.move_to_cpu()
                self._too_many = float("inf")
                return self(tile)
        (first, scale), (second, _) = self(halves[0]), self(halves[1])
        across = halves[0].rows == halves[1].rows
        return torch.cat([first, second], -1 if across else -2), scale


def run_tile(
    plan: TilePlan, runner: ModelRunner, image: TiledImage, tile: Tile
) -> tuple[Tensor, int]:
    """As `TileRunner`, but raises if memory runs out."""
    part = image.read(*tile.extent)
    with contextlib.ExitStack() as context:
        if plan.resolutions:
            context.enter_context(placed(plan.placement(tile)))
        if image.statistics is not None:
            here = image.statistics.seen_from(tile.rows.start, tile.columns.start)
            context.enter_context(running(Replay(here)))
        result, scale = runner.restore(part)
    return result[..., *tile.core_in_tile(scale)], scale
