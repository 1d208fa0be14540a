"""`restore`: an image of any size, layout and dtype through a network.

The whole image goes through the network at once if memory suffices. If not, a converted network
runs on tiles with a halo, whose result is that of the whole image (`measure`, `plan`, `run`); any
other network runs on overlapping tiles that are blended (`blending`). An *unconverted* network in
tiles of the training size is the crop-and-stitch inference that TLC is compared with.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.inside import converted_network, own_plan
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
from glocal.inference.geometry import Tile, alignment
from glocal.inference.inputs import InputValue, extras_of, with_maps
from glocal.inference.measure import blending_error, measure, pixels_that_fit
from glocal.inference.memory import memory_budget
from glocal.inference.memory_limit import memory_limit
from glocal.inference.options import Tiles, TilesLike, as_tiles
from glocal.inference.plan import BOUND, BlendedTiles, TilePlan, plan
from glocal.inference.run import Progress, TiledImage, run, with_statistics
from glocal.inference.runner import ModelRunner, is_out_of_memory
from glocal.inference.runtime import model_runner
from glocal.inference.tensors import AnyImage, as_batch, checked_finite
from glocal.ops.windows import Size, covers
from glocal.scanning.modules import eval_mode
from glocal.scanning.plan import Plan
from glocal.texts import size_text

__all__ = ["FALLBACK_TILES", "local_window", "measured_plan", "restore"]


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
) -> AnyImage:
    """Restore the pixels of one image, or of a batch of one size.

    Args:
        model: as for `glocal.restore`, like the options.
        image: a tensor or an array, as for `glocal.restore`.

    Returns:
        The restored image, of the type, layout and dtype of ``image``.

    Raises:
        ArgumentError, GlocalError: as `glocal.restore`.
    """
    tiles = as_tiles(tiles)
    source, convert = as_batch(image)
    size: Size = (source.shape[-2], source.shape[-1])
    extras = extras_of(model, inputs or {})
    runner = model_runner(
        model, source.shape[1], size, dtype=dtype, device=device, output=output,
        channels=channels, grey=grey, extras=extras, runtime=runtime, strength=strength,
        report=report,
    )  # fmt: skip
    if inputs:
        source = with_maps(source, inputs, extras)
    tiled = TiledImage(lambda rows, columns: source[..., rows, columns], size, convert)
    given = tiles.given_size
    window = local_window(model, tiles.halo)
    limit = memory_limit(runner.device, memory)
    with eval_mode(model, runner.device), torch.inference_mode(), limit:
        budget = None
        if tiles.size == "auto":
            budget = memory_budget(runner.device, memory, reserved=source.nbytes)
        if window is None or tiles.blended or (given and covers(given, size)):
            fitting = math.inf if given else pixels_that_fit(runner, tiled, budget)
            sizes = blended_sizes(size, given, fitting, tiles.overlap)
            if not covers(sizes[0], size):
                tiled = with_statistics(tiled, runner, math.prod(sizes[0]))
            blend = tiles.blend or "linear"
            bands = blended(runner, tiled, sizes, tiles.overlap, blend, progress)
            return _assembled(_parts_of_bands(bands, size), tiled, convert)
        max_pixels = math.inf
        if given is None and pixels_that_fit(runner, tiled, budget) >= math.prod(size):
            try:
                return convert(checked_finite(_whole(runner, source, progress)))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, whose traceback would keep the tensors alive
            max_pixels = math.prod(size) / 2
        fitting = min(max_pixels, pixels_that_fit(runner, tiled, budget))
        tiled = with_statistics(tiled, runner, math.prod(given) if given else fitting)
        found = measured_plan(runner, tiled, window, tiles, budget, max_pixels)
        if max_pixels < math.inf:
            warnings.warn(
                f"not enough memory on {runner.device} for {size_text(size)} pixels at once; "
                f"continuing in tiles{'' if isinstance(found, BlendedTiles) else f', {found}'}",
                GlocalWarning,
                stacklevel=2,
            )
        if isinstance(found, BlendedTiles):
            sizes = smaller_sizes(found.tile_size)
            bands = blended(runner, tiled, sizes, BLENDED_OVERLAP, "linear", progress, found.align)
            return _assembled(_parts_of_bands(bands, size), tiled, convert)
        if report is not None and len(found.tiles) > 1:
            report(str(found))
        cores = run(found, runner, tiled, progress=progress)
        return _assembled(_parts_of_tiles(cores), tiled, convert)


def measured_plan(
    runner: ModelRunner,
    image: TiledImage,
    window: Size,
    tiles: Tiles,
    memory: float | None,
    max_pixels: float = math.inf,
) -> TilePlan | BlendedTiles:
    """Measure the network on the image and plan the tiles; warn of inexact results.

    A network is measured on tiles that begin at multiples of its period, and again on `ALIGN` if
    that does not suffice: it may pad an image to larger multiples.

    Args:
        runner: of the network.
        image: the image.
        window: of the network's local operations, in pixels of the image.
        tiles: size and halo that the user wants.
        memory: bytes that the network may use, None if unknown.
        max_pixels: that the network may read at once, even if more fit into memory.

    Raises:
        GlocalError: not even the smallest tile fits into memory.
        ArgumentError: the given tile is too small for the given halo.
    """
    network = converted_network(runner.model)
    plan_of_network = None if network is None else own_plan(network)
    runner.learn(image.read, image.size)
    period = 0 if plan_of_network is None else plan_of_network.period
    aligns = (alignment(each, runner.accepted.multiple) for each in (period, 0))
    for align in dict.fromkeys(aligns):
        least = align if plan_of_network and _only_crops(plan_of_network) else max(window)
        reach = measure(runner, image, window, memory, least, align)
        if reach.error <= BOUND:
            break
    found = plan(
        image.size,
        window,
        reach,
        tile_size=tiles.given_size,
        halo=tiles.halo,
        memory=memory,
        max_pixels=max_pixels,
    )
    if isinstance(found, BlendedTiles):
        apart = blending_error(runner, image, found, pixels_that_fit(runner, image, memory))
        measured = (
            ""
            if apart is None
            else f", by up to {255 * apart:.1f}/255 on the part that was compared"
        )
        warnings.warn(
            f"{found.why}: tiles of {size_text(found.tile_size)} that overlap by half are blended, "
            f"and the result differs from that of the whole image{measured}",
            GlocalWarning,
            stacklevel=3,
        )
    elif found.doubt and len(found.tiles) > 1:
        warnings.warn(
            f"{found.doubt}: the result may differ from that of the whole image",
            GlocalWarning,
            stacklevel=3,
        )
    return found


def local_window(model: nn.Module, halo: int | None = None) -> Size | None:
    """Return the window of a fully converted network in image pixels, or None.

    If all statistics come from crops, it is the crop.

    Args:
        model: the network.
        halo: given by a user who thereby says that a network is local by itself; it then counts
            as the window.
    """
    network = converted_network(model)
    found = None if network is None else own_plan(network)
    if found is not None and len(found.with_status("local")) == len(found.rows):
        return found.train_size if _only_crops(found) else found.window
    return None if halo is None else (max(1, halo), max(1, halo))


def _only_crops(plan: Plan) -> bool:
    return bool(plan.rows) and all(row.source == "crops" for row in plan.rows)


def _whole(runner: ModelRunner, source: Tensor, progress: Progress | None) -> Tensor:
    """The restored image, in one forward pass."""
    report = progress or (lambda done, total: None)
    report(0, 1)
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
