"""Crop-and-stitch: overlapping, blended tiles for networks that are not local."""

import math
import warnings

from torch import Tensor

from glocal.devices import release_unused
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.geometry import ALIGN, AxisTiles, Blend, overlapping_tiles
from glocal.inference.run import Progress
from glocal.inference.runner import ModelRunner, is_out_of_memory
from glocal.inference.tensors import checked_finite
from glocal.ops.windows import Size
from glocal.texts import size_text

__all__ = ["FALLBACK_TILES", "blended", "blended_sizes"]

FALLBACK_TILES = (1024, 512, 256)
"""Sides of blended tiles to try in turn when the whole image does not fit into memory."""


def blended_sizes(
    size: Size, given: Size | None, max_pixels: float, overlap: int | float | None
) -> list[Size]:
    """Return the sizes of blended tiles to try in turn.

    Warns if the whole image does not fit into memory.

    Args:
        size: (height, width) of the image.
        given: size of tiles that the user wants; nothing else is tried then.
        max_pixels: that fit into memory.
        overlap: of the tiles; each must exceed one in pixels.
    """
    least = overlap if isinstance(overlap, int) else 0
    if given is not None:
        return [given]
    first = size
    if max_pixels < size[0] * size[1]:
        edge = max(FALLBACK_TILES[-1], least + ALIGN, int(math.sqrt(max_pixels)) // ALIGN * ALIGN)
        first = edge, edge
        warnings.warn(
            f"memory is too small for {size_text(size)} pixels at once: using blended tiles of "
            f"{size_text(first)}. Global operations of the network see one tile only, so the "
            "result is not that of the whole image; convert the network with localize to get it",
            GlocalWarning,
            stacklevel=3,
        )
    return [first, *((t, t) for t in FALLBACK_TILES if least < t < max(first))]


def blended(
    runner: ModelRunner,
    image: Tensor,
    sizes: list[Size],
    overlap: int | float | None,
    blend: Blend,
    progress: Progress | None,
) -> Tensor:
    """Restore an image in overlapping tiles that are blended.

    If memory runs out, it continues in smaller tiles, then on the CPU.

    Args:
        runner: of the network; it is left on the CPU if another device runs out of memory.
        image: (b, c, h, w).
        sizes: sizes of tiles to try in turn; the size of the image means one tile.
        overlap: least overlap, as in `overlap_pixels`.
        blend: how the tiles become one image.
        progress: called with (tiles done, total number of tiles).

    Raises:
        GlocalError: the smallest tile does not fit into memory, even on the CPU.
        ArgumentError: the tiles cannot have this overlap, or their results do not fit together.
    """
    whole = image.shape[-2], image.shape[-1]
    grids = {
        size: overlapping_tiles(whole, size, None if size == whole else overlap) for size in sizes
    }
    left = list(sizes)
    while True:
        size = left.pop(0)
        try:
            return checked_finite(_stitch(runner, image, grids[size], blend, progress))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler, whose traceback would keep the tensors alive
        device = runner.device
        release_unused(device)
        if left:
            warnings.warn(
                f"not enough memory for {size_text(size)} pixels at once; "
                f"continuing in blended tiles of {size_text(left[0])}",
                GlocalWarning,
                stacklevel=3,
            )
        elif device.type != "cpu":
            warnings.warn(
                f"not enough memory on {device} for {size_text(size)} pixels at once; "
                "continuing on the CPU",
                GlocalWarning,
                stacklevel=3,
            )
            runner.move_to_cpu()
            left = list(sizes)
        else:
            raise GlocalError(
                f"not enough memory on {device} for a tile of {size_text(size)} pixels; "
                "use smaller tiles, or a narrower dtype"
            )


def _stitch(
    runner: ModelRunner,
    image: Tensor,
    axes: tuple[AxisTiles, AxisTiles],
    blend: Blend,
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
        part = image[..., top : top + rows.length, left : left + columns.length]
        result, tile_scale = runner.restore(part)
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
                f"the network returned {tuple(result.shape)} for one tile and {total.shape[1]} "
                f"channels at a scale of {scale} for another; its tiles do not fit together"
            )
        weight = weights[0][row][:, None] * weights[1][column]
        place = total[
            ...,
            top * scale : (top + rows.length) * scale,
            left * scale : (left + columns.length) * scale,
        ]
        place += result * weight.to(result)
        report(done + 1, count)
    assert total is not None
    return total
