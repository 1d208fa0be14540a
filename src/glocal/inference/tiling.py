"""Tiles whose results are those of the whole image, up to a halo that is thrown away.

A tile of a converted network sees its core and a halo around it. Statistics over windows then
have nearly the windows that they have in the whole image, and operations that lie on a grid of
windows are told where the tile lies (`glocal.ops.placement`).
"""

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from glocal.errors import GlocalError, GlocalWarning
from glocal.inference.geometry import ALIGN, Piece, halved
from glocal.inference.memory import Need, peak_memory
from glocal.inference.runner import Runner, is_out_of_memory
from glocal.ops.placement import Extent, Whole, placed
from glocal.ops.windows import Size

__all__ = ["UNMEASURED", "Level", "Tiler", "affordable", "levels_of", "run_tile"]

UNMEASURED = 16 * 1024
"""Bytes a pixel of which the published networks take fewer (NAFNet-w64 4,400, MPRNet 10,100,
Restormer 14,700 on the CPU); where there are as many, nothing has to be measured."""

PROBE = 256
"""Side of the small part of an image that tells what a pixel costs."""

_NEEDS: WeakKeyDictionary[nn.Module, dict[tuple[torch.device, torch.dtype, int], Need]] = (
    WeakKeyDictionary()
)
"""What small parts showed, by device, type and side: what is kept for reuse has to be given back
for it, and the network then takes up to a fifth longer to have it again."""

Cut = Callable[[slice, slice], Tensor]


@dataclass(frozen=True)
class Level:
    """A resolution on which grids of windows lie.

    Attributes:
        axis: 0 for rows, 1 for columns.
        by: how many pixels of the image one pixel of the map stands for.
        padding: how many pixels the network adds to that axis of the whole image.
    """

    axis: int
    by: int
    padding: int


def run_tile(runner: Runner, samples: Tensor, grey: bool) -> tuple[Tensor, int]:
    """(b, c, h, w) of any number type through the network: float32 or wider, and the scale."""
    x = samples.to(runner.device)
    x = x if x.is_floating_point() else x.to(torch.float32) / torch.iinfo(x.dtype).max
    result, scale = runner(x.expand(-1, 3, -1, -1) if grey else x)
    result = result.to(torch.promote_types(result.dtype, torch.float32))
    return (result.mean(1, keepdim=True) if grey else result).to(samples.device), scale


def levels_of(extents: set[Extent], size: Size) -> tuple[Level, ...]:
    """Which resolutions of an image of this size have maps with such axes.

    >>> levels_of({(0, 320), (0, 160), (1, 248)}, (320, 494))
    (Level(axis=0, by=1, padding=0), Level(axis=0, by=2, padding=0), Level(axis=1, by=2, padding=2))
    """
    return tuple(
        Level(axis, by, length * by - size[axis])
        for axis in (0, 1)
        for by in (1, 2, 4, 8, 16, 32, 64)
        for own, length in sorted(extents)
        if own == axis and 0 <= length * by - size[axis] < ALIGN
    )


@dataclass
class Tiler:
    """Runs the pieces of one image; in smaller ones, then on the CPU, where memory is short.

    Attributes:
        runner: the network; `Runner.device` becomes the CPU's when the device's memory is short.
        cut: rows and columns of the image, as (b, c, h, w) of its own number type.
        size: (height, width) of the image.
        grey: whether a grey image goes through a colour network.
        halo: of the tiles, in pixels.
        levels: where the network has grids of windows.
        exact: whether tiles with this halo are known to give the whole image's result.
        finish: what becomes of a restored piece, whose memory counts as well.
    """

    runner: Runner
    cut: Cut
    size: Size
    grey: bool = False
    halo: int = 0
    levels: tuple[Level, ...] = ()
    exact: bool = True
    finish: Callable[[Tensor], object] = lambda restored: restored
    _too_many: float = field(default=float("inf"), init=False)

    def __call__(self, piece: Piece) -> tuple[Tensor, int]:
        """The restored core (b, c, s·h, s·w) and the scale s.

        Raises:
            GlocalError: memory is short of the smallest piece, on the CPU too.
        """
        height, width = piece.seen
        both = halved(piece, self.size, self.halo)
        if both is None or height * width < self._too_many:
            try:
                return self.run(piece)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, whose traceback would keep the tensors alive
            where = self.runner.device
            if where.type == "cuda":
                torch.cuda.empty_cache()
            self._too_many = min(self._too_many, height * width)
            if both is not None:
                then = f"going on in tiles of {both[0].seen[0]}×{both[0].seen[1]}"
                if not self.exact:
                    then += ", whose result may not be that of the whole image"
            elif where.type != "cpu":
                then = "going on on the CPU"
            else:
                raise GlocalError(
                    f"not enough memory on {where} for a tile of {height}×{width} pixels; "
                    "give a narrower dtype, or free some memory"
                )
            warnings.warn(
                f"not enough memory on {where} for {height}×{width} pixels at once; {then}",
                GlocalWarning,
                stacklevel=3,
            )
            if both is None:
                self.runner.device = torch.device("cpu")
                self.runner.model.to("cpu")
                self._too_many = float("inf")
                return self(piece)
        (first, scale), (second, _) = self(both[0]), self(both[1])
        across = both[0].rows == both[1].rows
        return torch.cat([first, second], -1 if across else -2), scale

    def run(self, piece: Piece) -> tuple[Tensor, int]:
        """The same, without an answer to short memory."""
        rows, columns = piece.rows, piece.columns
        seen = self.cut(slice(rows.first, rows.end), slice(columns.first, columns.end))
        with placed(self._wholes(piece)) if self.levels else contextlib.nullcontext():
            result, scale = run_tile(self.runner, seen, self.grey)
        down, across = (
            slice((p.start - p.first) * scale, (p.stop - p.first) * scale) for p in (rows, columns)
        )
        return result[..., down, across], scale

    def _wholes(self, piece: Piece) -> dict[Extent, Whole]:
        """What the maps of a tile are parts of."""
        wholes: dict[Extent, Whole] = {}
        for level in self.levels:
            seen, size = (piece.rows, piece.columns)[level.axis], self.size[level.axis]
            padding = level.padding if seen.end == size else 0
            if (seen.seen + padding) % level.by or (size + level.padding) % level.by:
                continue
            whole = Whole((size + level.padding) // level.by, seen.first // level.by)
            wholes.setdefault((level.axis, (seen.seen + padding) // level.by), whole)
        return wholes


def affordable(tiler: Tiler, room: float | None) -> float:
    """Pixels that these bytes are surely enough for; 0 where not even a small part fits.

    A small part of the image shows it, the first time that a network is asked about.

    Args:
        tiler: of the whole image.
        room: bytes; None where nothing limits them.
    """
    side = min(PROBE, *tiler.size)
    part = tiler.cut(slice(0, side), slice(0, side))
    if room is None or math.prod(tiler.size) * part.shape[0] * UNMEASURED <= room:
        return math.inf
    runner = tiler.runner
    known = _NEEDS.setdefault(runner.model, {})
    kind = runner.device, runner.dtype, side
    if kind not in known:
        try:
            with peak_memory(runner.device) as peak:
                tiler.finish(run_tile(runner, part, tiler.grey)[0])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return 0.0
        if not peak.mib:  # not measured, or nothing was taken that was not there
            return room / (part.shape[0] * UNMEASURED)
        known[kind] = Need.through((part.shape[0] * side**2, peak.mib * 2**20))
    return known[kind].pixels(room) / part.shape[0]
