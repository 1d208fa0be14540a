"""Statistics recorded on crops and interpolated over the image.

Crops are the other source of statistics, besides windows of the map. A network runs twice. On crops
of the training size each global operation computes what it computed in training, border padding
included, and `recorded` stores the result. On the whole image no statistic is computed: `recorded`
returns the results of the crops, interpolated bilinearly between their centres and constant beyond
the outermost ones.

Above 300 lines: both passes, and the grid and the records that they share, are read together.

`forward` of a network takes the image only, so the pass cannot be an argument: a context variable
holds it, as `placement` holds the position of a tile. Functions that read it are not compiled: a
compiled one would keep the pass that it saw.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from glocal.errors import GlocalError
from glocal.ops.gradient_map import GradientMap
from glocal.ops.interpolation import interpolation_weights
from glocal.ops.numerics import no_autocast, weighted_sum
from glocal.ops.program_map import ProgramAxis, ProgramGrid, ProgramMap, mix
from glocal.ops.programs import not_compiled, not_compiled_itself
from glocal.ops.window_map import as_map
from glocal.ops.windows import AxisWindows, Size, map_scale

__all__ = [
    "CropGrid",
    "CropStatistics",
    "ProgramReplay",
    "Record",
    "Recording",
    "Replay",
    "begin_run",
    "crop_starts",
    "end_run",
    "gather",
    "is_replaying",
    "is_running",
    "mix_between",
    "mixed",
    "record",
    "recorded",
    "replayed",
    "running",
]

Values = tuple[Tensor, ...]


def crop_starts(size: int, crop: int, stride: int) -> list[int]:
    """Return starts of the fewest even crops of an axis, at most `stride` apart.

    The first and the last touch the border.

    >>> crop_starts(720, 256, 256), crop_starts(200, 256, 256)
    ([0, 232, 464], [0])
    """
    if size <= crop:
        return [0]
    gaps = -(-(size - crop) // stride)
    return [i * (size - crop) // gaps for i in range(gaps + 1)]


@dataclass(frozen=True)
class CropGrid:
    """Crops of an image, in pixels of the image.

    Attributes:
        rows, columns: starts of the crops along both axes.
        crop: (height, width) of every crop.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    crop: Size

    @classmethod
    def on(cls, size: Size, crop: Size, stride: float) -> Self:
        """Crops over an image.

        Args:
            size: (height, width) of the image.
            crop: of a crop, which is cut to the image.
            stride: largest distance between crops, as a multiple of their size.
        """
        rows, columns = (
            tuple(crop_starts(n, k, max(1, round(stride * k))))
            for n, k in zip(size, crop, strict=True)
        )
        return cls(rows, columns, (min(crop[0], size[0]), min(crop[1], size[1])))

    @property
    def count(self) -> int:
        """Number of crops."""
        return len(self.rows) * len(self.columns)

    def places(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each crop, row by row."""
        h, w = self.crop
        return [(slice(y, y + h), slice(x, x + w)) for y in self.rows for x in self.columns]

    def seen_from(self, top: int, left: int) -> Self:
        """The same crops in pixels of a tile that begins at this pixel of the image."""
        rows, columns = (
            tuple(start - origin for start in starts)
            for starts, origin in ((self.rows, top), (self.columns, left))
        )
        return replace(self, rows=rows, columns=columns)

    def axes(self, small: Size, size: Size) -> tuple[AxisWindows, AxisWindows]:
        """The crops on a feature map, as windows whose values are interpolated.

        Args:
            small: (height, width) of the feature map of a crop.
            size: (height, width) of the feature map of the image or tile.
        """
        rows, columns = (
            _axis(starts, crop, *sizes)
            for starts, crop, *sizes in zip(
                (self.rows, self.columns), self.crop, small, size, strict=True
            )
        )
        return rows, columns


def _axis(starts: tuple[int, ...], crop: int, small: int, size: int) -> AxisWindows:
    if len(starts) == 1:
        return AxisWindows(1, 1)
    scale = map_scale(small, crop)
    centres = tuple(start * scale + (small - 1) / 2 for start in starts)
    return AxisWindows(size, len(starts), centres=centres)


class _Pass(Protocol):
    def begin(self) -> None: ...

    def end(self) -> None: ...

    def statistic(self, size: Size, compute: Callable[[], Values]) -> Values: ...

    def mix(self, v: Tensor, compute: Callable[[], Tensor]) -> Tensor: ...


@dataclass(frozen=True)
class Record:
    """The results of one operation on all crops.

    Attributes:
        size: (height, width) of its map on a crop.
        values: each (crops down, crops along, b, ...).
    """

    size: Size
    values: Values


@dataclass(frozen=True)
class CropStatistics:
    """All that the operations of a network computed on the crops of an image.

    Attributes:
        grid: the crops.
        records: by operation, in the order in which they run.
    """

    grid: CropGrid
    records: tuple[Record, ...]

    def seen_from(self, top: int, left: int) -> Self:
        """The same for a tile that begins at this pixel of the image."""
        return replace(self, grid=self.grid.seen_from(top, left))

    def averaged(self) -> Self:
        """The mean of all crops, as if it were the result of one."""
        means = tuple(
            Record(each.size, tuple(v.mean((0, 1), keepdim=True) for v in each.values))
            for each in self.records
        )
        return replace(self, grid=CropGrid((0,), (0,), self.grid.crop), records=means)


class Recording:
    """The first pass, on some crops after the others."""

    def __init__(self) -> None:
        self._finished: list[list[tuple[Size, Values]]] = []  # by run, then by operation
        self._run: list[tuple[Size, Values]] = []

    def begin(self) -> None:
        """Begin a run; one that failed is forgotten."""
        self._run = []

    def end(self) -> None:
        """End a run."""

    @property
    def count(self) -> int:
        """Number of operations recorded in this run so far."""
        return len(self._run)

    @property
    def results(self) -> tuple[tuple[Size, Values], ...]:
        """Size of the map and results of each operation in this run so far."""
        return tuple(self._run)

    def finish(self) -> None:
        """Keep the results of the run."""
        self._finished.append(self._run)

    def statistic(self, size: Size, compute: Callable[[], Values]) -> Values:
        """Compute and keep."""
        values = compute()
        self._run.append((size, values))
        return values

    def mix(self, v: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Store the matrices (b, heads, c, c); return their product with the pixels."""
        (matrices,) = self.statistic(_size(v), lambda: (compute(),))
        with no_autocast(v.device.type):
            product = matrices.to(v.dtype) @ v.flatten(-2)
            mixed: Tensor = product.unflatten(-1, v.shape[-2:])
            return mixed

    def take(self, results: Sequence[tuple[Size, Values]]) -> None:
        """Begin a run and keep results that were computed elsewhere."""
        self._run = list(results)

    def on(self, grid: CropGrid) -> CropStatistics:
        """Return the records of runs that went through the crops of a grid in order."""
        shape = (len(grid.rows), len(grid.columns), -1)
        records = []
        for runs in zip(*self._finished, strict=True):
            joined = (torch.cat(each) for each in zip(*(values for _, values in runs), strict=True))
            records.append(Record(runs[0][0], tuple(each.unflatten(0, shape) for each in joined)))
        return CropStatistics(grid, tuple(records))


class Replay:
    """The second pass: the recorded results, interpolated."""

    def __init__(self, statistics: CropStatistics) -> None:
        self.statistics: CropStatistics | None = statistics
        self._recorded = statistics.records
        self._grid: CropGrid | ProgramGrid = statistics.grid
        self.begin()

    def begin(self) -> None:
        """Begin a run, with the first operation."""
        self._records = iter(self._recorded)

    def end(self) -> None:
        """End a run, which must have taken all results.

        Raises:
            GlocalError: it has not.
        """
        if next(self._records, None) is not None:
            raise GlocalError(
                "the network runs fewer global operations on the image than on crops of the "
                "training size: its statistics cannot come from crops"
            )

    def statistic(self, size: Size, compute: Callable[[], Values]) -> Values:
        """The results of the crops as maps (b, k, h, w); `compute` is not called."""
        record = self._take()
        axes = self._grid.axes(record.size, size)
        return tuple(_as_map(each[..., 0, 0].permute(2, 3, 0, 1), axes) for each in record.values)

    def mix(self, v: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """The pixels times the interpolated matrices."""
        record = self._take()
        axes = self._grid.axes(record.size, _size(v))
        return mix_between(record.values[0].to(v.dtype), v, *axes)

    def _take(self) -> Record:
        record = next(self._records, None)
        if record is None:
            raise GlocalError(
                "the network runs more global operations on the image than on crops of the "
                "training size: its statistics cannot come from crops"
            )
        return record


class ProgramReplay(Replay):
    """The second pass while a program is recorded, whose inputs hold crops and results."""

    def __init__(self, grid: ProgramGrid, records: Sequence[Record]) -> None:
        self.statistics = None
        self._recorded = tuple(records)
        self._grid = grid
        self.begin()


_pass: ContextVar[_Pass | None] = ContextVar("glocal_crops", default=None)


@contextmanager
def running(which: Recording | Replay) -> Iterator[None]:
    """Context in which operations with statistics from crops belong to this pass."""
    token = _pass.set(which)
    try:
        yield
    finally:
        _pass.reset(token)


@not_compiled_itself
def gather(
    grid: CropGrid, at_once: int, run: Callable[[list[tuple[slice, slice]]], object]
) -> CropStatistics:
    """Statistics of the crops of a grid.

    Args:
        grid: the crops.
        at_once: most crops of a run.
        run: runs the network on some crops, given their rows and columns.
    """
    recording, places = Recording(), grid.places()
    with running(recording):
        for first in range(0, grid.count, at_once):
            run(places[first : first + at_once])
            recording.finish()
    return recording.on(grid)


@not_compiled
def is_running() -> bool:
    """True during either pass."""
    return _pass.get() is not None


@not_compiled
def is_replaying() -> bool:
    """True during the second pass, which computes no statistics."""
    return isinstance(_pass.get(), Replay)


def replayed() -> CropStatistics | None:
    """The statistics that the second pass returns; None unless it is running."""
    current = _pass.get()
    return current.statistics if isinstance(current, Replay) else None


def record(results: Sequence[tuple[Size, Values]]) -> None:
    """Keep the results of a run of the first pass that an engine has computed.

    Args:
        results: size of the map and results of each operation, in order.

    Raises:
        GlocalError: the first pass is not running.
    """
    current = _current()
    assert isinstance(current, Recording)
    current.take(results)


@not_compiled
def begin_run() -> None:
    """Begin a run of the network in the current pass, even after a failed run."""
    _current().begin()


@not_compiled
def end_run() -> None:
    """End a run of the network in the current pass.

    Raises:
        GlocalError: an image took fewer statistics than crops have given.
    """
    _current().end()


@not_compiled
def recorded(size: Size, compute: Callable[[], Values]) -> Values:
    """Statistics of a map from crops.

    Args:
        size: (height, width) of the map.
        compute: computes them, each (b, k, 1, 1), over the whole map.

    Returns:
        what `compute` returns where the network runs on crops; else maps that broadcast against
        the pixels.

    Raises:
        GlocalError: no pass is running.
    """
    return _current().statistic(size, compute)


@not_compiled
def mixed(v: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """Multiply the channels of each pixel by a matrix from crops.

    Args:
        v: (b, heads, c, h, w).
        compute: computes the matrices (b, heads, d, c) from the whole map.

    Returns:
        (b, heads, d, h, w).
    """
    return _current().mix(v, compute)


def _current() -> _Pass:
    running_pass = _pass.get()
    if running_pass is None:
        raise GlocalError(
            "statistics from crops need the whole network: call the network that localize "
            "returned, not one of its modules"
        )
    return running_pass


def _as_map(values: Tensor, axes: tuple[AxisWindows, AxisWindows]) -> Tensor:
    rows, columns = axes
    if isinstance(rows, ProgramAxis) and isinstance(columns, ProgramAxis):
        return ProgramMap(values, (rows, columns))
    if torch.is_grad_enabled() and any(axis.centres for axis in axes):
        return GradientMap(values, axes)
    return as_map(values, axes)


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def mix_between(matrices: Tensor, v: Tensor, rows: AxisWindows, columns: AxisWindows) -> Tensor:
    """Multiply each pixel by the matrices of the crops around it, weighted.

    The matrices are interpolated for each row of pixels. Along a row the products are: they are
    linear in the matrices.

    Args:
        matrices: (crops down, crops along, b, heads, d, c).
        v: (b, heads, c, h, w).
        rows, columns: the crops on the map.
    """
    if isinstance(rows, ProgramAxis) and isinstance(columns, ProgramAxis):
        return mix(matrices, v, rows, columns)
    h, w = v.shape[-2:]
    down, across = (_weights(axis, n, v) for axis, n in ((rows, h), (columns, w)))
    out = v.new_zeros(*v.shape[:2], matrices.shape[-2], h, w)
    with no_autocast(v.device.type):
        of_rows = weighted_sum(down, matrices).movedim(1, 0)  # (crops along, h, b, ...)
        for of_row, weights in zip(of_rows, across.unbind(1), strict=True):
            x = _support(weights)
            product = of_row @ v[..., x].movedim(-2, 0)
            out[..., x] += product.movedim(0, -2) * weights[x]
    return out


def _weights(axis: AxisWindows, size: int, like: Tensor) -> Tensor:
    if axis.count == 1:
        return like.new_ones(size, 1)
    return interpolation_weights(axis, like)


def _support(weights: Tensor) -> slice:
    """The run of pixels with weights above zero; empty for a crop far from a tile."""
    found = weights.nonzero().flatten().tolist()
    return slice(found[0], found[-1] + 1) if found else slice(0, 0)
