"""Record the statistics that pixels take from crops."""

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from glocal.conversion.two_passes import two_passes_of
from glocal.ops.crops import CropGrid, CropStatistics, Replay, gather, running
from glocal.ops.interpolation import interpolation_weights
from glocal.ops.windows import AxisWindows
from glocal.scanning.discover import Scan
from glocal.scanning.plan import Plan, Row
from glocal.study.shift.distances import Values
from glocal.study.shift.probe import Probe
from glocal.study.shift.window_probe import WindowProbe, sampled_pixels

__all__ = ["CropProbe", "row_of"]


class CropProbe(WindowProbe):
    """Returns the statistics from crops at 8x8 pixels, evenly spaced over each map.

    The original network runs on the crops that the converted one uses. A pixel's statistic is
    interpolated between those of the crops around it. Where the converted network interpolates a
    later value (what a gate computes from the pooled map), the statistic before it is shown.
    Operations that take windows are measured as by `WindowProbe`, while the network takes its
    other statistics from crops.

    >>> from glocal.conversion.localize import localize
    >>> from glocal.scanning.example import scan_network
    >>> norm = nn.InstanceNorm2d(3)
    >>> local = localize(norm, 8, statistics="crops")
    >>> probe = CropProbe(norm, scan_network(norm, (8, 8), None), local)
    >>> (values,) = probe(torch.arange(24.0).expand(1, 3, 24, 24))
    >>> values.shape, values[:8, 0].tolist()
    ((64, 6), [3.5, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0, 19.5])
    """

    def __init__(
        self,
        model: nn.Module,
        scan: Scan,
        converted: nn.Module,
        dtype: torch.dtype | str | None = None,
    ) -> None:
        """Prepare copies of `model` and of its converted form."""
        super().__init__(model, scan, converted, dtype)
        self._passes = two_passes_of(converted)
        self._on_crops = Probe(model, scan, dtype)
        self._gathering = False
        self._from_crops = {
            index
            for index, each in enumerate(self.statistics)
            if (row := row_of(self._plan, each.operation.path)) and row.source == "crops"
        }

    def __call__(self, image: Tensor) -> list[Values]:
        """Return the statistics of one image, as `Probe`; 64 samples of each from crops."""
        if self._passes is None:
            return super().__call__(image)
        grid = CropGrid.on(
            (image.shape[-2], image.shape[-1]), self._passes.crop, self._passes.stride
        )
        with running(Replay(self._gather(image, grid))):
            found = super().__call__(image)
        crops = [self._on_crops(image[..., y, x]) for y, x in grid.places()]
        axes = grid.axes(grid.crop, (image.shape[-2], image.shape[-1]))
        down, across = (
            _weights(axis, size) for axis, size in zip(axes, image.shape[-2:], strict=True)
        )
        for index in self._from_crops:
            values = np.concatenate([each[index] for each in crops])
            values = values.reshape(len(grid.rows), len(grid.columns), -1)
            pixels = np.einsum("ya,xb,abc->yxc", down, across, values)
            found[index] = pixels.reshape(-1, pixels.shape[-1])
        return found

    def _gather(self, image: Tensor, grid: CropGrid) -> CropStatistics:
        x = self._input(image)
        self._gathering = True
        try:
            return gather(grid, 1, lambda places: self._runner(_cut(x, places)))
        finally:
            self._gathering = False

    def _restart(self) -> None:
        super()._restart()
        self._recorder.muted = int(self._gathering)

    def _run_windows(self, path: str, args: Any, kwargs: Any) -> None:
        if not self._from_crops.issuperset(self._inside[path]):
            super()._run_windows(path, args, kwargs)
            return
        # The calls of this run count; `__call__` replaces the values by those of the crops.
        recorder = self._recorder
        outside = recorder.found, recorder.lines
        recorder.restart(Counter(recorder.count))
        # the module may write into its arguments
        args, kwargs = tree_map_only(Tensor, torch.clone, (args, kwargs))
        self._original.get_submodule(path)(*args, **kwargs)
        self._found |= {index: [values] for index, values in recorder.found.items()}
        recorder.found, recorder.lines = outside


def row_of(plan: Plan, path: str) -> Row | None:
    """Return the row of the plan that is closest to the operation at a path."""
    inside = f"{path}."
    rows = [row for row in plan.rows if not row.path or inside.startswith(f"{row.path}.")]
    return max(rows, key=lambda row: len(row.path), default=None)


def _cut(x: Tensor, places: list[tuple[slice, slice]]) -> Tensor:
    return torch.cat([x[..., rows, columns] for rows, columns in places])


def _weights(axis: AxisWindows, size: int) -> Values:
    """Return the weight of each crop at each sampled pixel, (8, crops)."""
    if axis.count == 1:
        return np.ones((len(sampled_pixels(size)), 1))
    weights = interpolation_weights(axis, torch.empty(0, dtype=torch.float64))
    return np.asarray(weights[sampled_pixels(size)].numpy(), np.float64)
