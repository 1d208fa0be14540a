"""The statistics of a network's global operations: in training, on full images, under TLC.

TLC's own explanation is that the statistics which global operations take of a whole image are not
distributed as those of training crops are, and that local ones are (Chu et al., ECCV 2022, arXiv
2112.04491, section 3 and figure 1). `analyze` measures that for any network.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glocal.conversion.localize import localize, plan_of
from glocal.conversion.rules import DEFAULT_RULES, Rule
from glocal.errors import ArgumentError
from glocal.ops.windows import Size, as_size
from glocal.scanning.example import Example, scan_network
from glocal.scanning.modules import ancestors
from glocal.scanning.plan import Plan, Status
from glocal.scanning.sandbox import isolated_copy
from glocal.study.shift.distances import Values, distance
from glocal.study.shift.probe import Probe
from glocal.study.shift.report import Shift, StatisticsShift
from glocal.study.shift.window_probe import WindowProbe

__all__ = ["Shift", "StatisticsShift", "WindowShifts", "analyze", "statistics_shift"]

AnyImage: TypeAlias = Tensor | NDArray[Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WindowShifts:
    """How far statistics are from those of training crops, without TLC and with its windows.

    Attributes:
        full: mean distance of all operations (see `Shift.distance`) on full images, in
            deviations; nan where the network has no global operation that varies.
        local: that under TLC, by window.
    """

    full: float
    local: dict[Size, float]


def analyze(
    model: nn.Module,
    data: Sequence[AnyImage],
    train_size: int | Size,
    *,
    window: int | Size | None = None,
    window_scale: float = 1.5,
    crops: Sequence[AnyImage] | None = None,
    crops_per_image: int = 24,
    seed: int = 0,
    keep_global: str | Iterable[str] = (),
    allow_global: bool = True,
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
    progress: Progress | None = None,
) -> StatisticsShift:
    """Where and how far a network's statistics shift from training crops to full images.

    >>> import numpy as np
    >>> from torch import nn
    >>> norm = nn.InstanceNorm2d(3)
    >>> ramp = np.linspace(0, 1, 64).reshape(1, 64, 1) * np.ones((64, 1, 3))
    >>> shifts = analyze(norm, [ramp], train_size=16)
    >>> (shift,) = shifts.ranking()
    >>> shift.distance(shift.local) < shift.distance(shift.full)
    True

    Args:
        model: any network that takes one image tensor; it stays as it is.
        data: degraded images, as the network gets them: arrays (h, w) or (h, w, c) of uint8,
            uint16 or floats in [0, 1], or float tensors (c, h, w) or (1, c, h, w). They are
            taken one at a time, so a sequence may read them as they are asked for.
        train_size: side or (height, width) of the crops the network was trained on, in pixels.
        window, window_scale, keep_global, allow_global, rules, example: as in `localize`; the
            example serves the scan alone.
        crops: images to take training crops from, best those of the training set; `data` itself
            where there are none.
        crops_per_image: how many random crops of an image; smaller images are taken whole.
        seed: of the places of the crops.
        progress: called with (images done, images in all), beginning with none done.

    Returns:
        The statistics of every global operation. Those under TLC are exact for pools and norms;
        `WindowProbe` tells how near they are for blocks with convolutions in them.

    Raises:
        ArgumentError: an argument cannot be used.
        ScanError: the network does not run, or takes other paths at other sizes.
        ConversionError: as in `localize`.
        GlocalError: an image does not fit into memory as a whole.
    """
    train = as_size(train_size, "train_size")
    network = isolated_copy(model)
    converted = localize(
        network,
        train,
        window=window,
        window_scale=window_scale,
        keep_global=keep_global,
        allow_global=allow_global,
        rules=rules,
        example=example,
    )
    plan = plan_of(converted)
    found = _Measured(network, train, example, [converted])
    found.measure(data, crops, crops_per_image, seed, progress)
    shifts = []
    for i, each in enumerate(found.statistics):
        o = each.operation
        shifts.append(
            Shift(
                o.path,
                o.function,
                o.line,
                each.how,
                np.concatenate(found.crops[i]),
                np.concatenate(found.full[i]),
                np.concatenate(found.local[0][i]),
                _status(plan, o.path),
            )
        )
    return StatisticsShift(train, plan.window, len(data), tuple(shifts))


def statistics_shift(
    model: nn.Module,
    images: Sequence[AnyImage],
    train_size: int | Size,
    *,
    windows: Sequence[Size | None],
    seed: int = 0,
    crops_per_image: int = 24,
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
    progress: Progress | None = None,
) -> WindowShifts:
    """The mean shift of a network's statistics for many windows; arguments as in `analyze`.

    Crops and full images are measured once for all windows.

    >>> import numpy as np
    >>> from torch import nn
    >>> norm = nn.InstanceNorm2d(3)
    >>> ramp = np.linspace(0, 1, 64).reshape(1, 64, 1) * np.ones((64, 1, 3))
    >>> shifts = statistics_shift(norm, [ramp], 16, windows=[None, (16, 16), (48, 48)])
    >>> shifts.local[16, 16] < shifts.local[48, 48] < shifts.full
    True

    Args:
        windows: (height, width) in input pixels; None is the full image, which is always
            measured.

    Returns:
        The mean distance of all operations on full images and for each window. What cannot be
        made local, or is kept global, counts with its statistic in the converted network.
    """
    train = as_size(train_size, "train_size")
    network = isolated_copy(model)
    sizes = list(dict.fromkeys(as_size(w, "window") for w in windows if w is not None))
    converted = [
        localize(
            network,
            train,
            window=size,
            keep_global=keep_global,
            allow_global=True,
            rules=rules,
            example=example,
        )
        for size in sizes
    ]
    found = _Measured(network, train, example, converted)
    found.measure(images, None, crops_per_image, seed, progress)

    def mean_distance(way: list[list[Values]]) -> float:
        each = [
            distance(np.concatenate(crops), np.concatenate(values))
            for crops, values in zip(found.crops, way, strict=True)
        ]
        told = [d for d in each if not np.isnan(d)]
        return float(np.mean(told)) if told else float("nan")

    local = dict(zip(sizes, map(mean_distance, found.local), strict=True))
    return WindowShifts(mean_distance(found.full), local)


class _Measured:
    """Samples of every statistic, one array (samples, channels) for each image or crop.

    Attributes:
        statistics: what is measured.
        crops, full: samples by statistic.
        local: likewise, for each of the converted networks.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Size,
        example: Example | None,
        converted: Sequence[nn.Module],
    ) -> None:
        with torch.inference_mode(False):
            scan = scan_network(network, train, example)
        self._train = train
        self._whole = Probe(network, scan)
        self._windows = [WindowProbe(network, scan, each) for each in converted]
        self.statistics = self._whole.statistics
        self.crops: list[list[Values]] = [[] for _ in self.statistics]
        self.full: list[list[Values]] = [[] for _ in self.statistics]
        self.local: list[list[list[Values]]] = [[[] for _ in self.statistics] for _ in converted]

    def measure(
        self,
        images: Sequence[AnyImage],
        crops: Sequence[AnyImage] | None,
        per_image: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        """Take everything; arguments as in `analyze`."""
        if per_image < 1:
            raise ArgumentError(f"crops_per_image must be at least 1, got {per_image}")
        if not len(images) or (crops is not None and not len(crops)):
            raise ArgumentError("there are no images to take statistics of")
        if not self.statistics:
            return
        random = np.random.default_rng(seed)
        total = len(images) + (0 if crops is None else len(crops))
        report = progress or (lambda done, total: None)
        report(0, total)
        for done, image in enumerate(crops or ()):
            self._take_crops(_as_tensor(image), per_image, random)
            report(done + 1, total)
        for done, image in enumerate(images, total - len(images)):
            x = _as_tensor(image)
            if crops is None:
                self._take_crops(x, per_image, random)
            _append(self.full, self._whole(x))
            for local, probe in zip(self.local, self._windows, strict=True):
                _append(local, probe(x))
            report(done + 1, total)

    def _take_crops(self, x: Tensor, count: int, random: np.random.Generator) -> None:
        height, width = (min(n, t) for n, t in zip(x.shape[-2:], self._train, strict=True))
        for _ in range(count):
            top = int(random.integers(x.shape[-2] - height + 1))
            left = int(random.integers(x.shape[-1] - width + 1))
            _append(self.crops, self._whole(x[..., top : top + height, left : left + width]))


def _append(lists: list[list[Values]], found: list[Values]) -> None:
    for values, each in zip(lists, found, strict=True):
        values.append(each)


def _as_tensor(image: AnyImage) -> Tensor:
    """(1, c, h, w) floats in [0, 1]."""
    x = image
    if isinstance(x, np.ndarray):
        peak = np.iinfo(x.dtype).max if x.dtype.kind == "u" else 1
        x = torch.from_numpy(np.ascontiguousarray(x / np.float32(peak), np.float32))
        x = x.permute(2, 0, 1) if x.ndim == 3 else x
    x = x[(None,) * (4 - x.ndim)]
    if not x.is_floating_point() or x.ndim != 4 or x.shape[0] != 1 or 0 in x.shape:
        raise ArgumentError(
            f"an image of shape {tuple(image.shape)} and type {image.dtype} was given; expected "
            "an array (h, w) or (h, w, c), or a float tensor (c, h, w)"
        )
    return x


def _status(plan: Plan, path: str) -> Status:
    """What became of the operation at a path."""
    rows = [row for row in plan.rows if row.path in ancestors(path)]
    return max(rows, key=lambda row: len(row.path)).status
