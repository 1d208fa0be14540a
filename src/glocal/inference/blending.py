"""Crop-and-stitch: overlapping, blended tiles for networks that are not local."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import TypeAlias

from torch import Tensor

from glocal.devices import release_unused
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.geometry import ALIGN, AxisTiles, Blend, overlapping_tiles
from glocal.inference.run import Progress, TiledImage
from glocal.inference.runner import ModelRunner
from glocal.ops.crops import Replay, running
from glocal.ops.windows import Size
from glocal.shortages import is_out_of_memory
from glocal.texts import size_text

__all__ = ["BLENDED_OVERLAP", "FALLBACK_TILES", "Band", "blended", "blended_sizes", "smaller_sizes"]

Band: TypeAlias = tuple[int, Tensor, int]
"""Finished rows of a result: the first row, (b, c, rows, s·w), and the scale s."""

BLENDED_OVERLAP = 0.5
"""Overlap of blended tiles in place of tiles with a halo, as a fraction of a tile."""

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


def smaller_sizes(size: Size) -> list[Size]:
    """Return a size of tiles and its halves, down to 64 pixels.

    >>> smaller_sizes((256, 96))
    [(256, 96), (128, 64), (64, 64)]
    """
    found = [size]
    while max(found[-1]) > 64:
        height, width = (max(n // 2, min(n, 64)) for n in found[-1])
        found.append((height, width))
    return found


def blended(
    runner: ModelRunner,
    image: TiledImage,
    sizes: list[Size],
    overlap: int | float | None,
    blend: Blend,
    progress: Progress | None,
    align: int = 1,
) -> Iterator[Band]:
    """Restore an image in overlapping tiles that are blended.

    If memory runs out, it begins again in smaller tiles, then on the CPU.

    Args:
        runner: of the network; it is left on the CPU if another device runs out of memory.
        image: the image.
        sizes: sizes of tiles to try in turn; the size of the image means one tile.
        overlap: least overlap, as in `overlap_pixels`.
        blend: how the tiles become one image.
        progress: called with (tiles done, total number of tiles).
        align: pixels at whose multiples tiles begin.

    Yields:
        Bands of rows, from the first to the last; again from the first if memory has run out.

    Raises:
        GlocalError: the smallest tile does not fit into memory, even on the CPU.
        ArgumentError: the tiles cannot have this overlap, or their results do not fit together.
    """
    grids = {
        size: overlapping_tiles(image.size, size, None if size == image.size else overlap, align)
        for size in sizes
    }
    left = list(sizes)
    while True:
        size = left.pop(0)
        try:
            yield from _stitched(runner, image, grids[size], blend, progress)
            return
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


def _stitched(
    runner: ModelRunner,
    image: TiledImage,
    axes: tuple[AxisTiles, AxisTiles],
    blend: Blend,
    progress: Progress | None,
) -> Iterator[Band]:
    """Run the tiles one by one and add them up, weighted; in float32 or wider."""
    rows, columns = axes
    count = len(rows.starts) * len(columns.starts)
    report = progress or (lambda done, total: None)
    report(0, count)
    below: Tensor | None = None  # rows to which tiles of the next row add
    for row, top in enumerate(rows.starts):
        band: Tensor | None = None
        for column, left in enumerate(columns.starts):
            result, scale = _tile(runner, image, rows, columns, (top, left))
            if count == 1:
                report(1, 1)
                yield 0, result, scale
                return
            length = rows.length * scale
            if band is None:
                band = result.new_zeros((*result.shape[:2], length, columns.size * scale))
                if below is not None and not _apart(below, band):
                    band[..., : below.shape[-2], :] = below
                weights = rows.weights(scale, blend), columns.weights(scale, blend)
            expected = (*band.shape[:2], length, columns.length * scale)
            if result.shape != expected or (
                below is not None and below.shape[-1] != band.shape[-1]
            ):
                raise ArgumentError(
                    f"the network returned {tuple(result.shape)} for one tile and "
                    f"{band.shape[1]} channels of {length} rows for another; its tiles do not fit "
                    "together"
                )
            weight = weights[0][row][:, None] * weights[1][column]
            place = slice(left * scale, (left + columns.length) * scale)
            band[..., place] += result * weight.to(result)
            report(row * len(columns.starts) + column + 1, count)
        assert band is not None
        end = rows.starts[row + 1] if row + 1 < len(rows.starts) else rows.size
        done = (end - top) * scale
        yield top * scale, band[..., :done, :], scale
        below = band[..., done:, :]


def _apart(one: Tensor, other: Tensor) -> bool:
    """True if two bands have another number of channels or columns."""
    return (one.shape[1], one.shape[-1]) != (other.shape[1], other.shape[-1])


def _tile(
    runner: ModelRunner,
    image: TiledImage,
    rows: AxisTiles,
    columns: AxisTiles,
    start: tuple[int, int],
) -> tuple[Tensor, int]:
    """Run one tile, with the statistics of the image's crops if there are any."""
    top, left = start
    part = image.read(slice(top, top + rows.length), slice(left, left + columns.length))
    with contextlib.ExitStack() as context:
        if image.statistics is not None:
            context.enter_context(running(Replay(image.statistics.seen_from(top, left))))
        return runner.restore(part)
