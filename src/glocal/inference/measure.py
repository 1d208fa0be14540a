"""`measure`: how wide a halo a network needs on an image, and how much memory.

Strips of the image go through the network twice, whole and without their first half. Where the two
results differ, the cut has an effect; the halo is as wide as that. The same two runs show how much
memory the network needs, and at which resolutions it has grids of windows.

A few lines above 300: the two runs answer three questions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from glocal.inference.blending import BLENDED_OVERLAP, blended
from glocal.inference.geometry import ALIGN, Span, Tile, round_up
from glocal.inference.memory import MemoryNeed, peak_memory
from glocal.inference.plan import BOUND, MAX_HALO_WINDOWS, BlendedTiles, Reach, TilePlan
from glocal.inference.run import TiledImage, run_tile
from glocal.inference.runner import ModelRunner
from glocal.ops.placement import Resolution, recorded_grids, resolutions_of
from glocal.ops.windows import Size
from glocal.shortages import is_out_of_memory

__all__ = ["BYTES_PER_PIXEL", "blending_error", "measure", "pixels_that_fit"]

SAFETY = 20
"""A measured halo must be better than `BOUND` by this factor, to suffice in the whole image."""

MAX_STRIPS = 4
"""Maximum number of strips to measure: those where the image differs most across the cut."""

STRIPS_SHARE = 0.05
"""Maximum share of a large image's pixels in all strips together."""

BYTES_PER_PIXEL = 16 * 1024
"""Bytes per pixel, more than the published networks need on a CPU (NAFNet-w64 4,400, MPRNet 10,100,
Restormer 14,700): an image that fits at this rate is not measured."""

PROBE = 256
"""Side of the part of an image on which the memory per pixel is measured."""

_NEEDS: WeakKeyDictionary[
    nn.Module, dict[tuple[torch.device, torch.dtype, str, int], MemoryNeed]
] = WeakKeyDictionary()
"""Memory needs measured on small parts, by device, dtype, runtime and side. Measuring returns freed
memory to the system, and the next run is up to a fifth slower because it allocates it again."""

_ACROSS = 256  # the shorter side of a strip
_GRID = 6  # positions of strips that are considered along each axis


@dataclass(frozen=True)
class _Strip:
    """A part of the image, `length` along one axis and `across` along the other.

    It is cut at pixel `cut` of its length.
    """

    axis: int
    length: int
    across: int
    cut: int

    @property
    def pixels(self) -> int:
        return self.length * self.across


@dataclass(frozen=True)
class _Measured:
    """Measurements of one strip: effect by distance from the cut, memory, grids."""

    effect: Tensor
    need: MemoryNeed | None
    resolutions: tuple[Resolution, ...]


def measure(
    runner: ModelRunner,
    image: TiledImage,
    window: Size,
    memory: float | None = None,
    least: int | None = None,
    align: int = ALIGN,
) -> Reach:
    """Measure halo, memory and window grids of a network on an image.

    Args:
        runner: of the network.
        image: the image.
        window: of the network's local operations, in pixels of the image.
        memory: bytes that the network may use, None if unknown; few make strips shorter.
        least: the narrowest halo to consider in pixels, one window by default.
        align: pixels at whose multiples tiles begin.
    """
    runs: list[_Measured] = []
    in_torch = replace(runner, engine=None)  # the halo is the network's own
    try:
        strip = _strip(image.size, window, pixels_that_fit(runner, image, memory), align)
        if strip is not None:
            places = sorted(
                _places(image.size, strip, align),
                key=lambda place: _contrast(image, strip, place, window[strip.axis]),
                reverse=True,
            )
            count = int(math.prod(image.size) * STRIPS_SHARE / (2 * strip.pixels))
            places = places[: min(max(count, 1), MAX_STRIPS)]
            runs = [_measured(in_torch, image, strip, place) for place in places]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        runs = []
    # these runs are torch's; `_need_of_part` measures an engine
    needs = [run.need for run in runs if run.need is not None and runner.engine is None]
    need = max(needs, key=lambda need: need.per_pixel, default=None)
    if need is None and memory is not None:
        need = _need_of_part(runner, image, memory)
    if not runs:
        return Reach(need=need, align=align)
    effect = torch.stack([run.effect for run in runs]).amax(0)
    halo, remaining = _halo(effect, max(window) if least is None else least, align)
    return Reach(halo, remaining, need, runs[0].resolutions, align)


def _halo(effect: Tensor, least: int, align: int = ALIGN) -> tuple[int, float]:
    """Return the narrowest sufficient halo, and the effect of the cut beyond it.

    Args:
        effect: largest difference at each distance from the cut.
        least: the narrowest halo in pixels.
        align: halos are multiples of this.
    """
    # the largest at this distance or farther
    beyond = effect.nan_to_num(float("inf")).flip(0).cummax(0).values.flip(0)
    # not as far as the end of the strip, beyond which there is nothing to look at
    least = round_up(least, align)
    halos = range(least, max(least, len(beyond) - align // 2) + 1, align)
    errors = {halo: float(beyond[min(halo, len(beyond) - 1)]) for halo in halos}
    halo = next((h for h, error in errors.items() if error <= BOUND / SAFETY), max(errors))
    return halo, errors[halo]


def _strip(size: Size, window: Size, max_pixels: float, align: int = ALIGN) -> _Strip | None:
    """The strip along the longer axis, as short as it must be; None if none fits.

    Its sides differ from those of the image by multiples of ``align``, so that the network pads it
    like the image. It is cut at an odd multiple, so that a network with a longer period shows it.
    """
    axis = 0 if size[0] > size[1] else 1
    other = max(_ACROSS, round_up(window[1 - axis] * 5 // 4, align))
    across = min(size[1 - axis], round_up(other, align) + size[1 - axis] % align)
    least = max(2 * align, round_up(max(window), align))  # the narrowest halo can be measured
    widest = max(round_up(MAX_HALO_WINDOWS * window[axis], align), least)
    for margin in range(widest, least - 1, -max(align, ALIGN)):
        length = min(size[axis], 2 * margin + align + size[axis] % align)
        cut = min(margin, length // 2 // align * align)
        cut -= align * (cut // align % 2 == 0)
        if length * across <= max_pixels:
            return _Strip(axis, length, across, cut) if cut > 0 else None
    return None


def _measured(
    runner: ModelRunner, image: TiledImage, strip: _Strip, place: tuple[int, int]
) -> _Measured:
    """Run the network on a strip, and on the part of it behind the cut."""
    axis, length, across, cut = strip.axis, strip.length, strip.across, strip.cut
    top, left = place if axis == 0 else place[::-1]

    def read(rows: slice, columns: slice) -> Tensor:
        return image.read(
            slice(top + rows.start, top + rows.stop),
            slice(left + columns.start, left + columns.stop),
        )

    def tile(start: int) -> Tile:
        along, other = Span(start, length, start, length), Span(0, across, 0, across)
        return Tile(along, other) if axis == 0 else Tile(other, along)

    size = (length, across) if axis == 0 else (across, length)
    # The same statistics everywhere: what remains is how far convolutions reach.
    statistics = image.statistics and image.statistics.averaged()
    part = TiledImage(read, size, statistics=statistics)
    with recorded_grids() as lengths, peak_memory(runner.device) as larger:
        reference, scale = run_tile(TilePlan(size, size, 0), runner, part, tile(0))
        image.convert(reference)
    resolutions = resolutions_of(lengths, size)
    plan = TilePlan(size, size, 0, resolutions=resolutions)
    with peak_memory(runner.device) as smaller:
        result, _ = run_tile(plan, runner, part, tile(cut))
        image.convert(result)
    reference = reference.narrow(axis - 2, cut * scale, (length - cut) * scale)
    effect = (result - reference).abs().movedim(axis - 2, 0).flatten(1).amax(1)
    need = None
    if larger.mib and smaller.mib:  # 0: the network used memory that was free already
        need = MemoryNeed.through(
            (length * across, larger.mib * 2**20),
            ((length - cut) * across, smaller.mib * 2**20),
        )
    return _Measured(effect.unflatten(0, (-1, scale)).amax(1), need, resolutions)


def _places(size: Size, strip: _Strip, align: int) -> Iterator[tuple[int, int]]:
    """Return where strips may begin, along their axis and across it, aligned."""
    free = size[strip.axis] - strip.length, size[1 - strip.axis] - strip.across
    along, across = (
        sorted({each * step // (_GRID - 1) // align * align for step in range(_GRID)})
        for each in free
    )
    return ((a, b) for a in along for b in across)


def _contrast(image: TiledImage, strip: _Strip, place: tuple[int, int], window: int) -> float:
    """Return how much mean and deviation differ between both sides of a strip's cut."""
    begin, middle = place[0], place[0] + strip.cut
    across = slice(place[1], place[1] + strip.across)
    sides = slice(max(begin, middle - window), middle), slice(middle, middle + window)
    found = []
    for side in sides:
        part = image.read(*((side, across) if strip.axis == 0 else (across, side)))
        deviation, mean = torch.std_mean(part.to(torch.float32), (0, 2, 3), correction=0)
        found.append(torch.stack([mean, deviation]))
    return float((found[0] - found[1]).abs().max())


def blending_error(
    runner: ModelRunner, image: TiledImage, tiles: BlendedTiles, max_pixels: float
) -> float | None:
    """Return the largest difference between a part in blended tiles and the part as a whole.

    Args:
        runner: of the network.
        image: the image.
        tiles: of the image.
        max_pixels: that fit into memory.

    Returns:
        None if a part of two tiles each way does not fit.
    """
    size = tiles.tile_size
    rows, columns = (min(n, 3 * t // 2) for n, t in zip(image.size, size, strict=True))
    if rows * columns > max_pixels:
        return None
    top, left = (
        (n - part) // 2 // tiles.align * tiles.align
        for n, part in zip(image.size, (rows, columns), strict=True)
    )

    def read(y: slice, x: slice) -> Tensor:
        return image.read(slice(top + y.start, top + y.stop), slice(left + x.start, left + x.stop))

    statistics = image.statistics and image.statistics.seen_from(top, left)
    part = TiledImage(read, (rows, columns), statistics=statistics)
    alone = replace(runner, engine=None)
    try:
        (whole,), bands = (
            [band for _, band, _ in found]
            for found in (
                blended(alone, part, [each], BLENDED_OVERLAP, "linear", None, tiles.align)
                for each in (part.size, size)
            )
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return float((torch.cat(bands, -2) - whole).abs().max())


def pixels_that_fit(runner: ModelRunner, image: TiledImage, memory: float | None) -> float:
    """Return a number of pixels that fits into memory, or 0.

    Args:
        runner: of the network.
        image: the image.
        memory: bytes; None if nothing limits them.
    """
    if memory is None:
        return math.inf
    need = _need_of_part(runner, image, memory)
    return 0.0 if need is None else need.max_pixels(memory)


def _need_of_part(runner: ModelRunner, image: TiledImage, memory: float) -> MemoryNeed | None:
    """Return the memory per pixel, measured on a small part unless there is plenty.

    A network is measured once for each device, dtype, runtime and side. None if the part does not
    fit.
    """
    side = min(PROBE, *image.size)
    part = image.read(slice(0, side), slice(0, side))
    batch = part.shape[0]
    plenty = MemoryNeed(0, batch * BYTES_PER_PIXEL)
    if math.prod(image.size) * plenty.per_pixel <= memory:
        return plenty
    known = _NEEDS.setdefault(runner.model, {})
    kind = runner.device, runner.dtype, runner.runtime, side
    if kind not in known:
        # torch stands for OpenVINO, which needs less memory but seconds to compile for this size
        probed = replace(runner, engine=None) if runner.runtime == "openvino" else runner
        try:
            with peak_memory(runner.device) as peak:
                image.convert(probed.restore(part)[0])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        if not peak.mib:  # not measured, or the network used memory that was free already
            return plenty
        known[kind] = MemoryNeed.through((batch * side**2, peak.mib * 2**20))
    need = known[kind]
    return MemoryNeed(need.fixed, need.per_pixel * batch)
