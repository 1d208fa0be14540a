"""`restore`: an image of any size, layout and dtype through a network.

The whole image goes through the network at once if memory suffices. If not, a converted network
runs on tiles with a halo, whose result is that of the whole image (`tiling`, `run`); any
other network runs on overlapping tiles that are blended (`blending`). An *unconverted* network in
tiles of the training size is the crop-and-stitch inference that TLC is compared with.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from glocal.engines.runtimes import Runtime
from glocal.errors import GlocalWarning
from glocal.inference.blending import (
    BLENDED_OVERLAP,
    FALLBACK_TILES,
    Band,
    blended,
    blended_sizes,
    smaller_sizes,
)
from glocal.inference.colours import Grey
from glocal.inference.geometry import Tile
from glocal.inference.inputs import InputValue, extras_of, with_maps
from glocal.inference.measure import pixels_that_fit
from glocal.inference.memory import memory_budget
from glocal.inference.memory_limit import memory_limit
from glocal.inference.options import Tiles, TilesLike, as_tiles
from glocal.inference.plan import BlendedTiles, TilePlan
from glocal.inference.prepared import Blended, Layout, Prepared, Whole
from glocal.inference.run import Progress, TiledImage, run, with_statistics
from glocal.inference.runner import ModelRunner
from glocal.inference.runtime import model_runner
from glocal.inference.tensors import AnyImage, as_batch
from glocal.inference.tiling import local_window, measured_plan
from glocal.ops.crops import Replay, running
from glocal.ops.windows import Size, covers
from glocal.scanning.modules import eval_mode
from glocal.shortages import is_out_of_memory
from glocal.texts import size_text

__all__ = ["FALLBACK_TILES", "restore"]

_LOG = logging.getLogger(__name__)


def restore(
    model: nn.Module,
    image: AnyImage,
    *,
    tiles: TilesLike = "auto",
    memory: int | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    inputs: Mapping[str, InputValue] | None = None,
    output: int | str | None = None,
    channels: int | None = None,
    grey: Grey = "channels",
    runtime: Runtime = "torch",
    strength: float = 1.0,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
    prepared: Prepared | None = None,
) -> AnyImage:
    """Restore the pixels of one image, or of a batch of one size.

    Args:
        model: as for `glocal.restore`, like the options.
        image: a tensor or an array, as for `glocal.restore`.
        prepared: what was decided for earlier images of this size; decisions are added.

    Returns:
        The restored image, of the type, layout and dtype of ``image``.

    Raises:
        ArgumentError, GlocalError: as `glocal.restore`.
    """
    report = report or _LOG.info
    tiles = as_tiles(tiles)
    source, convert = as_batch(image)
    size: Size = (source.shape[-2], source.shape[-1])
    extras = extras_of(model, inputs or {})
    decided = Prepared() if prepared is None else prepared
    key = decided.key(model, source.shape)
    runner = decided.runner(
        key,
        lambda: model_runner(
            model, source.shape[1], size, dtype=dtype, device=device, output=output,
            channels=channels, grey=grey, extras=extras, runtime=runtime, strength=strength,
            report=report,
        ),
    )  # fmt: skip
    if inputs:
        source = with_maps(source, inputs, extras)
    tiled = TiledImage(lambda rows, columns: source[..., rows, columns], size, convert)
    limit = memory_limit(runner.device, memory)
    with eval_mode(model, runner.device), torch.inference_mode(), limit:
        budget = None
        if tiles.size == "auto":
            budget = memory_budget(runner.device, memory, reserved=source.nbytes)
        layout = decided.layout(key, size)
        if layout is None:
            layout, tiled = _layout(runner, tiled, tiles, budget)
        if isinstance(layout, Whole):
            try:
                restored = _whole(runner, source, tiled, decided, progress)
                decided.keep(key, layout)
                return convert(restored)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, whose traceback would keep the tensors alive
            layout, tiled = _smaller_layout(runner, tiled, tiles, budget)
        decided.keep(key, layout)
        first = layout.sizes[0] if isinstance(layout, Blended) else layout.tile_size
        is_alone = isinstance(layout, Blended) and covers(first, size) and decided.smooth is None
        if not is_alone and (tiled.statistics is None or prepared is not None):
            # again for the first of several images, as for the others: rounding may differ
            tiled = with_statistics(tiled, runner, math.prod(first))
        tiled = decided.smoothed(tiled)
        if isinstance(layout, Blended):
            sizes = list(layout.sizes)
            bands = blended(
                runner, tiled, sizes, layout.overlap, layout.blend, progress, layout.align
            )
            return _assembled(_parts_of_bands(bands, size), tiled, convert)
        if len(layout.tiles) > 1:
            report(str(layout))
        cores = run(layout, runner, tiled, progress=progress)
        return _assembled(_parts_of_tiles(cores), tiled, convert)


def _layout(
    runner: ModelRunner, image: TiledImage, tiles: Tiles, budget: float | None
) -> tuple[Layout, TiledImage]:
    """Decide how an image is divided; return it with the statistics that this took."""
    given, size = tiles.given_size, image.size
    window = local_window(runner.model, tiles.halo)
    if window is None or tiles.blended or (given and covers(given, size)):
        fitting = math.inf if given else pixels_that_fit(runner, image, budget)
        sizes = blended_sizes(size, given, fitting, tiles.overlap)
        return Blended(tuple(sizes), tiles.overlap, tiles.blend or "linear"), image
    if given is None and pixels_that_fit(runner, image, budget) >= math.prod(size):
        return Whole(), image
    return _tile_layout(runner, image, tiles, budget, math.inf)


def _smaller_layout(
    runner: ModelRunner, image: TiledImage, tiles: Tiles, budget: float | None
) -> tuple[Blended | TilePlan, TiledImage]:
    """As `_layout`, for an image for which memory did not suffice at once; warns."""
    found, image = _tile_layout(runner, image, tiles, budget, math.prod(image.size) / 2)
    warnings.warn(
        f"not enough memory on {runner.device} for {size_text(image.size)} pixels at once; "
        f"continuing in tiles{'' if isinstance(found, Blended) else f', {found}'}",
        GlocalWarning,
        stacklevel=3,
    )
    return found, image


def _tile_layout(
    runner: ModelRunner,
    image: TiledImage,
    tiles: Tiles,
    budget: float | None,
    max_pixels: float,
) -> tuple[Blended | TilePlan, TiledImage]:
    """Tiles with a halo, as measured; blended ones where a halo is not possible."""
    given, window = tiles.given_size, local_window(runner.model, tiles.halo)
    assert window is not None
    fitting = min(max_pixels, pixels_that_fit(runner, image, budget))
    image = with_statistics(image, runner, math.prod(given) if given else fitting)
    found = measured_plan(runner, image, window, tiles, budget, max_pixels)
    if isinstance(found, BlendedTiles):
        sizes = tuple(smaller_sizes(found.tile_size))
        return Blended(sizes, BLENDED_OVERLAP, "linear", found.align), image
    return found, image


def _whole(
    runner: ModelRunner,
    source: Tensor,
    image: TiledImage,
    prepared: Prepared,
    progress: Progress | None,
) -> Tensor:
    """The restored image, in one forward pass."""
    report = progress or (lambda done, total: None)
    report(0, 1)
    if prepared.smooth is not None:
        image = prepared.smoothed(with_statistics(image, runner, math.prod(image.size)))
    statistics = image.statistics
    with contextlib.nullcontext() if statistics is None else running(Replay(statistics)):
        restored, _ = runner.restore(source)
    report(1, 1)
    return restored


_Part: TypeAlias = tuple[slice, slice, Tensor, int]
"""Rows and columns of the result, (b, c, rows, columns), and the scale."""


def _parts_of_tiles(cores: Iterable[tuple[int, Tile, Tensor, int]]) -> Iterator[_Part]:
    for _, tile, core, scale in cores:
        yield *tile.core(scale), core, scale


def _parts_of_bands(bands: Iterable[Band], size: Size) -> Iterator[_Part]:
    for top, band, scale in bands:
        yield slice(top, top + band.shape[-2]), slice(0, size[1] * scale), band, scale


def _assembled(
    parts: Iterable[_Part], image: TiledImage, convert: Callable[[Tensor], AnyImage]
) -> AnyImage:
    """The restored image from its parts, in the form of the image."""
    restored: Any = None
    for rows, columns, result, scale in parts:
        part: Any = convert(result)
        height, width = (n * scale for n in image.size)
        if isinstance(part, Tensor):
            if restored is None or restored.shape[-2:] != (height, width):
                with torch.inference_mode(False):  # so that it can take part in autograd
                    restored = part.new_empty((*part.shape[:-2], height, width))
            restored[..., rows, columns] = part
        else:
            if restored is None or restored.shape[:2] != (height, width):
                restored = np.empty((height, width, *part.shape[2:]), part.dtype)
            restored[rows, columns] = part
    assert restored is not None
    return cast("AnyImage", restored)
