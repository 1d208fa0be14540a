"""Overlapping tiles that are blended: crop-and-stitch, for networks that are not local."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.geometry import ALIGN, AxisTiles, Blend, grid
from glocal.inference.runner import Runner, is_out_of_memory
from glocal.inference.samples import finite
from glocal.inference.tiling import Tiler, affordable, run_tile
from glocal.ops.windows import Size

__all__ = ["FALLBACK_TILES", "blended", "plans_for"]

FALLBACK_TILES = (1024, 512, 256)
"""Sizes of blended tiles, tried in turn when the whole image does not fit into memory."""

Progress = Callable[[int, int], None]


def plans_for(tiler: Tiler, given: Size | None, room: float | None, overlap: int) -> list[Size]:
    """Sizes of blended tiles that may overlap by so many pixels, to be tried in turn."""
    if given is not None:
        return [given]
    first = size = tiler.size
    pixels = affordable(tiler, room)
    if pixels < size[0] * size[1]:
        edge = max(FALLBACK_TILES[-1], overlap + ALIGN, int(math.sqrt(pixels)) // ALIGN * ALIGN)
        first = edge, edge
        warnings.warn(
            f"memory is short for {size[0]}×{size[1]} pixels at once, and global "
            f"operations see a tile only: blended tiles of {edge}×{edge} are not the "
            "whole image's result; a network that is converted has no such difference",
            GlocalWarning,
            stacklevel=3,
        )
    return [first, *((t, t) for t in FALLBACK_TILES if overlap < t < max(first))]


def blended(
    tiler: Tiler,
    source: Tensor,
    plans: list[Size],
    overlap: int | None,
    blend: Blend,
    progress: Progress | None,
) -> Tensor:
    """Overlapping tiles, in smaller ones and then on the CPU where memory is short."""
    runner = tiler.runner
    # the whole image at once overlaps with nothing
    grids = {
        plan: grid(tiler.size, plan, None if plan == tiler.size else overlap) for plan in plans
    }
    left = list(plans)
    while True:
        plan = left.pop(0)
        try:
            return finite(_stitch(runner, source, grids[plan], blend, tiler.grey, progress))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler, whose traceback would keep the tensors alive
        where = runner.device
        if where.type == "cuda":
            torch.cuda.empty_cache()
        if left:
            warnings.warn(
                f"not enough memory for {plan[0]}×{plan[1]} pixels at once; "
                f"going on in blended tiles of {left[0][0]}×{left[0][0]}",
                GlocalWarning,
                stacklevel=3,
            )
        elif where.type != "cpu":
            warnings.warn(
                f"not enough memory on {where} for {plan[0]}×{plan[1]} pixels at once; "
                "going on on the CPU",
                GlocalWarning,
                stacklevel=3,
            )
            runner.device = torch.device("cpu")
            runner.model.to("cpu")
            left = list(plans)
        else:
            raise GlocalError(
                f"not enough memory on {where} for a tile of {plan[0]}×{plan[1]} "
                "pixels; give a smaller tile, or a narrower dtype"
            )


def _stitch(
    runner: Runner,
    source: Tensor,
    axes: tuple[AxisTiles, AxisTiles],
    blend: Blend,
    grey: bool,
    progress: Progress | None,
) -> Tensor:
    """Run the tiles one by one and add them up, weighted; in float32 or wider."""
    rows, columns = axes
    count = len(rows.starts) * len(columns.starts)
    report = progress or (lambda done, total: None)
    report(0, count)
    total: Tensor | None = None
    scale = 1
    for done in range(count):
        row, column = divmod(done, len(columns.starts))
        top, left = rows.starts[row], columns.starts[column]
        cut = source[..., top : top + rows.tile, left : left + columns.tile]
        result, tile_scale = run_tile(runner, cut, grey)
        if count == 1:
            report(1, 1)
            return result
        if total is None:
            scale = tile_scale
            weights = rows.weights(scale, blend), columns.weights(scale, blend)
            shape = (*result.shape[:2], rows.size * scale, columns.size * scale)
            total = result.new_zeros(shape)
        if tile_scale != scale or result.shape[1] != total.shape[1]:
            raise ArgumentError(
                f"the network gave {tuple(result.shape)} for one tile and a scale of {scale} "
                "for another; its tiles do not fit together"
            )
        weight = weights[0][row][:, None] * weights[1][column]
        place = total[
            ...,
            top * scale : (top + rows.tile) * scale,
            left * scale : (left + columns.tile) * scale,
        ]
        place += result * weight.to(result)
        report(done + 1, count)
    assert total is not None
    return total
