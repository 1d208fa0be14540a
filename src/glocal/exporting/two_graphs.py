"""Capture a network with statistics from crops as two programs.

The first maps crops of the training size to the statistics that the network computes on them. The
second maps an image, the places of its crops and their statistics to the result; it computes none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from glocal.conversion.two_passes import TwoPasses
from glocal.exporting.capture import (
    CapturedProgram,
    Inputs,
    any_number,
    capture_program,
    capture_with,
)
from glocal.ops.crops import CropGrid, ProgramReplay, Record, Recording, running
from glocal.ops.numerics import sum_dtype
from glocal.ops.program_map import ProgramGrid
from glocal.ops.windows import Size

__all__ = ["TwoGraphs", "capture_two_graphs", "pass_inputs", "run_both"]


@dataclass(frozen=True)
class TwoGraphs:
    """The programs of both passes.

    Attributes:
        crops: from crops (n, c, h, w) of the training size to statistics (n, ...).
        image: from an image (b, c, h, w), the starts of its crops along rows (r,) and columns (k,)
            in pixels, and statistics (r, k, b, ...) to the result.
        names: of the statistics, in order.
    """

    crops: ExportedProgram
    image: CapturedProgram
    names: tuple[str, ...]


def capture_two_graphs(
    model: nn.Module,
    passes: TwoPasses,
    image: Callable[[int, Size], Tensor],
    fixed: Size | None,
) -> TwoGraphs:
    """Capture both passes of a network that is in eval mode.

    Args:
        model: from `localize`; takes one (b, c, h, w).
        passes: how it takes statistics from crops.
        image: makes an example from a batch size and a (height, width).
        fixed: the only (height, width) of images that the second program accepts; None for any.

    Raises:
        GlocalError: the network cannot be captured.
    """
    recording = Recording()
    with running(recording):
        model(image(1, passes.crop))
    results = recording.results
    found = [value for _, values in results for value in values]
    first = capture_program(_OnCrops(model), image, passes.crop, passes.crop)

    batch, rows, columns = (any_number(name) for name in ("batch", "rows", "columns"))

    def example(size: Size) -> tuple[Any, ...]:
        grid = CropGrid.on(size, passes.crop, passes.stride)
        # Numbers of crops that are no other size of the example, if they may change.
        down, along = (len(grid.rows), len(grid.columns)) if fixed else (3, 5)
        places = (torch.arange(n, device=found[0].device) * 16 for n in (down, along))
        statistics = [value.expand(down, along, 2, *value.shape[1:]).clone() for value in found]
        return (image(2, size), *places, statistics)

    def shapes(dims: dict[int, Any]) -> Any:
        crops = ({0: rows}, {0: columns}, {0: rows, 1: columns, 2: batch})
        if not dims:
            crops = ({}, {}, {2: batch})
        return ({0: batch, **dims}, *crops[:2], [crops[2] for _ in found])

    kinds = [(size, len(values)) for size, values in results]
    inputs = Inputs(example, shapes)
    second = capture_with(_OnImage(model, passes.crop, kinds), inputs, fixed, passes.crop)
    names = tuple(f"statistic_{i}" for i in range(len(found)))
    return TwoGraphs(first.program, second, names)


class _OnCrops(nn.Module):
    """The first pass as a function without side effects."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, crops: Tensor) -> list[Tensor]:
        recording = Recording()
        with running(recording):
            self.network(crops)
        return [value for _, values in recording.results for value in values]


class _OnImage(nn.Module):
    """The second pass as a function without side effects."""

    def __init__(self, network: nn.Module, crop: Size, kinds: Sequence[tuple[Size, int]]) -> None:
        """Wrap a network.

        Args:
            network: from `localize`.
            crop: (height, width) of the crops.
            kinds: size of the map on a crop and number of statistics, by operation.
        """
        super().__init__()
        self.network = network
        self.training = network.training
        self._crop = crop
        self._kinds = tuple(kinds)

    def forward(
        self, image: Tensor, rows: Tensor, columns: Tensor, statistics: list[Tensor]
    ) -> Any:
        following = iter(statistics)
        records = [
            Record(size, tuple(next(following) for _ in range(count)))
            for size, count in self._kinds
        ]
        dtype = sum_dtype(image)
        grid = ProgramGrid(rows.to(dtype), columns.to(dtype), self._crop)
        with running(ProgramReplay(grid, records)):
            return self.network(image)


def run_both(
    passes: TwoPasses,
    crops: Callable[[Tensor], list[Tensor]],
    image: Callable[..., list[Tensor]],
) -> Callable[[Tensor], list[Tensor]]:
    """Return the function of an image that both programs compute together.

    Args:
        passes: where the crops of an image are.
        crops: the first program.
        image: the second, whose statistics are separate arguments.
    """

    return lambda x: image(*pass_inputs(passes, crops, x)[1])


def pass_inputs(
    passes: TwoPasses, crops: Callable[[Tensor], list[Tensor]], x: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the crops of an image (n, c, h, w), and the arguments of the second program.

    Args:
        passes: where the crops of an image are.
        crops: the first program.
        x: the image (b, c, h, w).
    """
    grid = CropGrid.on((x.shape[-2], x.shape[-1]), passes.crop, passes.stride)
    cut = torch.cat([x[..., rows, columns] for rows, columns in grid.places()])
    starts = (torch.tensor(places, device=x.device) for places in (grid.rows, grid.columns))
    shape = (len(grid.rows), len(grid.columns), -1)
    return cut, (x, *starts, *(value.unflatten(0, shape) for value in crops(cut)))
