"""How far the border of a tile is felt, and what a pixel costs: measured on the image itself.

Strips of the image go through the network twice, whole and without their first half. Where the
second result differs from the first, the cut is felt; beyond the halo it is not. The same two
runs tell how much memory the network takes.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glocal.errors import GlocalError, GlocalWarning
from glocal.inference.geometry import ALIGN, Part, Piece, aligned, largest_tile, pieces
from glocal.inference.memory import Need, peak_memory
from glocal.inference.runner import is_out_of_memory
from glocal.inference.tiling import Level, Tiler, affordable, levels_of
from glocal.ops.placement import looked_up
from glocal.ops.windows import Size
from glocal.texts import size_text

__all__ = ["BOUND", "Layout", "Reach", "lay_out", "measure"]

BOUND = 1 / 255
"""How much a pixel of a tiled result may differ from the untiled one."""

SAFETY = 20
"""A halo is as wide as `BOUND` ÷ this takes where it is measured: it holds elsewhere too."""

WIDEST = 3
"""Windows from a cut to where its effect is looked for at most; a halo has one at least."""

PLACES = 4
"""Strips that are measured at most, where the image differs most on both sides of the cut."""

SHARE = 0.05
"""Of a large image's pixels that all strips together may have."""

_ACROSS = 256
_GRID = 6


@dataclass(frozen=True)
class Reach:
    """What was measured of a network on one image.

    Attributes:
        halo: pixels from the border of a tile from which on it is not felt.
        error: how much is felt there, as a difference of samples in [0, 1].
        need: the memory that pixels take, None where that cannot be told.
        levels: where the network has grids of windows.
    """

    halo: int
    error: float
    need: Need | None
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class _Strip:
    """`length` pixels along an axis, `across` the other, cut at a pixel from its beginning."""

    axis: int
    length: int
    across: int
    cut: int


@dataclass(frozen=True)
class _Compared:
    """What is felt at each distance from the cut, what it took, and the grids that were met."""

    felt: Tensor
    need: Need | None
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Layout:
    """The tiles of an image.

    Attributes:
        tile: (height, width) that the network sees at most.
        halo: of each tile in pixels.
        pieces: the tiles, row by row.
        exact: whether the result is the untiled one up to `BOUND`, as far as it was measured.
    """

    tile: Size
    halo: int
    pieces: list[Piece]
    exact: bool

    def __str__(self) -> str:
        if len(self.pieces) == 1:
            return "the whole image at once"
        return f"{len(self.pieces)} of up to {size_text(self.tile)} with a halo of {self.halo}"


def measure(tiler: Tiler, window: Size, room: float | None = None) -> Reach | None:
    """Measure the network of a tiler on its image; None where memory or image are too small.

    Args:
        tiler: of the whole image; its levels are not used.
        window: of the network's local operations, in input pixels.
        room: bytes that the network may take; the strip is shorter where they are few.
    """
    try:
        strip = _strip(tiler.size, window, affordable(tiler, room))
        if strip is None:
            return None
        places = sorted(
            _places(tiler.size, strip),
            key=lambda place: _contrast(tiler, strip, place, window[strip.axis]),
            reverse=True,
        )
        count = int(tiler.size[0] * tiler.size[1] * SHARE / (2 * strip.length * strip.across))
        runs = [_compared(tiler, strip, place) for place in places[: min(max(count, 1), PLACES)]]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    felt = torch.stack([run.felt for run in runs]).amax(0)
    # from each pixel on, whatever lies farther from the cut
    beyond = felt.nan_to_num(float("inf")).flip(0).cummax(0).values.flip(0)
    # the strip's other end is no place to look at: there is nothing beyond
    least = aligned(max(window))
    halos = range(least, max(least, len(beyond) - ALIGN // 2) + 1, ALIGN)
    errors = {halo: float(beyond[min(halo, len(beyond) - 1)]) for halo in halos}
    halo = next((h for h, error in errors.items() if error <= BOUND / SAFETY), max(errors))
    needs = [run.need for run in runs if run.need is not None]
    need = max(needs, key=lambda need: need.per_pixel, default=None)
    return Reach(halo, errors[halo], need, runs[0].levels)


def lay_out(
    tiler: Tiler,
    window: Size,
    tile: Size | Literal["auto"],
    halo: int | None,
    room: float | None,
    most: float = float("inf"),
) -> Layout:
    """The tiles of a tiler's image; its halo and levels are set.

    Args:
        tiler: of the whole image.
        window: of the network's local operations, in input pixels.
        tile: what the network may see, or "auto" for what the memory is enough for.
        halo: in pixels, None for the measured one.
        room: bytes that the network may take, None where that is not told.
        most: pixels that the network may see in any case.

    Raises:
        GlocalError: not even a small tile fits.
        ArgumentError: a tile has no room for a halo that was asked for.
    """
    reach = measure(tiler, window, room)
    tiler.levels = () if reach is None else reach.levels
    wanted = halo
    if halo is None:
        halo = aligned(WIDEST * max(window)) if reach is None else reach.halo
    if tile == "auto":
        guess = most
        if room is not None and reach is not None and reach.need is not None:
            most = min(most, reach.need.pixels(room))
        elif (pixels := affordable(tiler, room)) > 0 or room == 0:  # else the tiler finds out
            most = min(most, pixels)
        size, kept = _fitting(tiler.size, halo, most)
        if size[0] * size[1] > most and most < guess:
            raise GlocalError(
                f"not enough memory: there is some for {int(most)} pixels at once, and a tile has "
                f"{size[0] * size[1]} or more; give more, or a narrower dtype"
            )
    else:
        size, kept = tile, halo
        tiled = [t for t, s in zip(tile, tiler.size, strict=True) if t < s]
        if wanted is None and tiled:
            kept = min(halo, max(0, (min(tiled) // ALIGN - 1) // 2 * ALIGN))
    tiler.halo = kept
    cut = pieces(tiler.size, size, kept)
    doubt = ""
    if kept < halo:
        doubt = f"tiles of {size_text(size)} have room for a halo of {kept} pixels, not of {halo}"
    elif reach is None and wanted is None:
        doubt = f"there is too little of image or memory to measure a halo; it is {halo} pixels"
    elif reach is not None and reach.error > BOUND:
        felt = f"{reach.error / BOUND:.1f}/255"
        doubt = f"{reach.halo} pixels from the border of a tile samples still differ by {felt}"
    elif reach is not None and aligned(kept) < reach.halo:
        doubt = f"a halo of {kept} pixels is narrower than the measured one of {reach.halo}"
    elif len({(level.axis, level.by) for level in tiler.levels}) < len(tiler.levels):
        doubt = "the network pads maps of one resolution in two ways"
    tiler.exact = not doubt
    if len(cut) > 1 and doubt:
        warnings.warn(
            f"{doubt}: the result may not be that of the whole image", GlocalWarning, stacklevel=3
        )
    return Layout(size, kept, cut, exact=len(cut) == 1 or not doubt)


def _fitting(size: Size, halo: int, most: float) -> tuple[Size, int]:
    """The best tile of no more pixels, and its halo, narrower where nothing else fits."""
    if size[0] * size[1] <= most:
        return size, halo
    for narrower in range(aligned(halo), -1, -ALIGN):
        tile = largest_tile(size, narrower, most)
        if tile is not None:
            return tile, min(halo, narrower)
    return (ALIGN, ALIGN), 0


def _piece(axis: int, along: Part, across: Part) -> Piece:
    return Piece(along, across) if axis == 0 else Piece(across, along)


def _strip(size: Size, window: Size, most: float) -> _Strip | None:
    """The strip along the longer axis, shorter where it has to be; None where none will do.

    Its sides are those of the image but for multiples of `ALIGN`, so that the network pads it as
    it pads the image.
    """
    axis = 0 if size[0] > size[1] else 1
    other = max(_ACROSS, aligned(window[1 - axis] * 5 // 4))
    across = min(size[1 - axis], other + size[1 - axis] % ALIGN)
    least = max(2 * ALIGN, aligned(max(window)))  # the narrowest halo has to be looked at
    for margin in range(max(aligned(WIDEST * window[axis]), least), least - 1, -ALIGN):
        length = min(size[axis], 2 * margin + ALIGN + size[axis] % ALIGN)
        cut = min(margin, length // 2 // ALIGN * ALIGN)
        if length * across <= most:
            return _Strip(axis, length, across, cut) if cut > 0 else None
    return None


def _compared(tiler: Tiler, strip: _Strip, place: tuple[int, int]) -> _Compared:
    """The network on a strip, and on the strip without what lies before the cut."""
    axis, length, across, cut = strip.axis, strip.length, strip.across, strip.cut
    top, left = place if axis == 0 else place[::-1]

    def part(rows: slice, columns: slice) -> Tensor:
        return tiler.cut(
            slice(top + rows.start, top + rows.stop),
            slice(left + columns.start, left + columns.stop),
        )

    size = (length, across) if axis == 0 else (across, length)
    alone = Tiler(tiler.runner, part, size, tiler.grey)
    whole, other = Part(0, length, 0, length), Part(0, across, 0, across)
    with looked_up() as lengths, peak_memory(tiler.runner.device) as larger:
        reference, scale = alone.run(_piece(axis, whole, other))
        tiler.finish(reference)
    alone.levels = levels_of(lengths, size)
    with peak_memory(tiler.runner.device) as smaller:
        result, _ = alone.run(_piece(axis, Part(cut, length, cut, length), other))
        tiler.finish(result)
    reference = reference.narrow(axis - 2, cut * scale, (length - cut) * scale)
    felt = (result - reference).abs().movedim(axis - 2, 0).flatten(1).amax(1)
    need = None
    if larger.mib and smaller.mib:  # 0: nothing was taken that was not there
        need = Need.through(
            (length * across, larger.mib * 2**20),
            ((length - cut) * across, smaller.mib * 2**20),
        )
    return _Compared(felt.unflatten(0, (-1, scale)).amax(1), need, alone.levels)


def _places(size: Size, strip: _Strip) -> Iterator[tuple[int, int]]:
    """Where strips may begin, along and across; at multiples of `ALIGN`."""
    free = size[strip.axis] - strip.length, size[1 - strip.axis] - strip.across
    along, across = (
        sorted({each * step // (_GRID - 1) // ALIGN * ALIGN for step in range(_GRID)})
        for each in free
    )
    return ((a, b) for a in along for b in across)


def _contrast(tiler: Tiler, strip: _Strip, place: tuple[int, int], window: int) -> float:
    """How much the image differs on both sides of where a strip will be cut."""
    begin, middle = place[0], place[0] + strip.cut
    across = slice(place[1], place[1] + strip.across)
    sides = slice(max(begin, middle - window), middle), slice(middle, middle + window)
    found = []
    for side in sides:
        samples = tiler.cut(*((side, across) if strip.axis == 0 else (across, side)))
        deviation, mean = torch.std_mean(samples.to(torch.float32), (0, 2, 3), correction=0)
        found.append(torch.stack([mean, deviation]))
    return float((found[0] - found[1]).abs().max())
