"""`analyze`: compare statistics of training crops, full images, TLC and crops.

The paper explains TLC by a shift of distribution: statistics that global operations take of a full
image differ from those of training crops, and local statistics do not (Chu et al., ECCV 2022,
arXiv 2112.04491, section 3 and figure 1). `analyze` measures this shift for any network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.localize import localize, plan_of
from glocal.conversion.train_size import resolve_train_size
from glocal.errors import ArgumentError
from glocal.inference.placing import device_of
from glocal.ops.windows import Size, as_size
from glocal.scanning.example import Example, scan_network
from glocal.scanning.plan import Plan, Status
from glocal.scanning.sandbox import isolated_copy
from glocal.study.dataset import AnyImage, Data, as_tensor, open_dataset
from glocal.study.options import ConversionOptions, RunOptions
from glocal.study.shift.crop_probe import CropProbe, row_of
from glocal.study.shift.distances import Values, distance
from glocal.study.shift.probe import Probe
from glocal.study.shift.report import Shift, StatisticsShift
from glocal.study.shift.window_probe import WindowProbe

__all__ = ["Shift", "StatisticsShift", "WindowShifts", "analyze", "window_shifts"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WindowShifts:
    """How far statistics are from those of training crops, for several windows.

    Attributes:
        full: mean distance of all operations (see `Shift.distance`) on full images without TLC,
            in deviations; nan if no operation has a statistic that varies.
        local: the same under TLC, by window.
    """

    full: float
    local: dict[Size, float]


def analyze(
    model: nn.Module,
    data: Data,
    train_size: int | Size | None = None,
    *,
    window: int | Size | None = None,
    window_scale: float | None = None,
    stride: float = 1.0,
    crops: Data | None = None,
    crops_per_image: int = 24,
    seed: int = 0,
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
    limit: int | None = None,
    progress: Progress | None = None,
) -> StatisticsShift:
    """Measure how far statistics shift from training crops to full images.

    >>> import numpy as np
    >>> from torch import nn
    >>> norm = nn.InstanceNorm2d(3)
    >>> ramp = np.linspace(0, 1, 64).reshape(1, 64, 1) * np.ones((64, 1, 3))
    >>> shifts = analyze(norm, [ramp], train_size=16)
    >>> full, local, from_crops = shifts.mean_distances()
    >>> max(local, from_crops) < full
    True

    Args:
        model: any network that takes one image tensor, not converted.
        data: as in `glocal.evaluate`, without regard to targets; a folder of images without
            pairs is accepted too.
        train_size: as in `glocal.localize`.
        window, window_scale: as in `glocal.localize`.
        stride: of the crops that give statistics, as in `glocal.localize`.
        crops: images to take training crops from, preferably the training set; of the same kinds
            as `data`, which is the default.
        crops_per_image: number of random crops of each image. A smaller image is used whole.
        seed: of the crop positions.
        conversion: how the network is converted. An operation that cannot be converted
            is measured as it is, whether or not `allow_global` is set.
        run: device and dtype of the network. `output` has no effect: statistics do not depend on
            it.
        limit: number of images of `data` to use, evenly spaced; all by default.
        progress: called with (images done, images in all), first with 0 done.

    Returns:
        The statistics of every global operation. Those under TLC are exact for pools and norms;
        `WindowProbe` documents their accuracy for blocks that contain convolutions, `CropProbe`
        what is shown of statistics from crops.

    Raises:
        ArgumentError: an argument is wrong, or the data does not fit.
        ScanError: the network does not run, or makes other calls at other sizes.
        ConversionError: the conversion fails.
        GlocalError: an image does not fit into memory as a whole.
    """
    images = open_dataset(data, limit, purpose="analyze", needs_targets=False).samples
    sources = None
    if crops is not None:
        sources = open_dataset(crops, purpose="take crops from", needs_targets=False).samples
    train = resolve_train_size(model, train_size)
    network = _copy(model, run)
    options = replace(conversion, allow_global=True)
    arguments = options.arguments()
    converted = localize(network, train, window=window, window_scale=window_scale, **arguments)
    from_crops = localize(network, train, statistics="crops", stride=stride, **arguments)
    plan = plan_of(converted)
    sampling = _Sampling(network, train, options.example, [converted], run, from_crops)
    sampling.measure(
        [each.degraded for each in images],
        None if sources is None else [each.degraded for each in sources],
        crops_per_image,
        seed,
        progress,
    )
    shifts = []
    for i, each in enumerate(sampling.statistics):
        o = each.operation
        shifts.append(
            Shift(
                o.path,
                o.function,
                o.line,
                each.name,
                np.concatenate(sampling.crops[i]),
                np.concatenate(sampling.full[i]),
                np.concatenate(sampling.local[0][i]),
                np.concatenate(sampling.from_crops[i]),
                _status(plan, o.path),
            )
        )
    return StatisticsShift(train, plan.window, len(images), tuple(shifts))


def window_shifts(
    model: nn.Module,
    images: Sequence[AnyImage],
    train_size: int | Size | None = None,
    *,
    windows: Sequence[int | Size],
    crops_per_image: int = 24,
    seed: int = 0,
    conversion: ConversionOptions = ConversionOptions(),
    run: RunOptions = RunOptions(),
    progress: Progress | None = None,
) -> WindowShifts:
    """Return the mean distance of a network's statistics for several windows.

    Crops and full images are measured once for all windows; arguments as in `analyze`.

    >>> import numpy as np
    >>> from torch import nn
    >>> norm = nn.InstanceNorm2d(3)
    >>> ramp = np.linspace(0, 1, 64).reshape(1, 64, 1) * np.ones((64, 1, 3))
    >>> shifts = window_shifts(norm, [ramp], 16, windows=[(16, 16), (48, 48)])
    >>> shifts.local[16, 16] < shifts.local[48, 48] < shifts.full
    True

    Args:
        windows: side or (height, width) in input pixels; full images without TLC are always
            measured.

    Returns:
        The mean distance of all operations on full images and for each window. An operation that
        stays global counts with its statistic in the converted network.
    """
    train = resolve_train_size(model, train_size)
    network = _copy(model, run)
    sizes = list(dict.fromkeys(as_size(window, "window") for window in windows))
    options = replace(conversion, allow_global=True)
    converted = []
    for size in sizes:
        converted.append(localize(network, train, window=size, **options.arguments()))
        options = replace(options, verify=False)  # another window changes no operation
    sampling = _Sampling(network, train, options.example, converted, run)
    readers = [lambda image=image: image for image in images]
    sampling.measure(readers, None, crops_per_image, seed, progress)

    def mean_distance(samples: list[list[Values]]) -> float:
        distances = [
            distance(np.concatenate(crops), np.concatenate(values))
            for crops, values in zip(sampling.crops, samples, strict=True)
        ]
        finite = [d for d in distances if not np.isnan(d)]
        return float(np.mean(finite)) if finite else float("nan")

    local = dict(zip(sizes, map(mean_distance, sampling.local), strict=True))
    return WindowShifts(mean_distance(sampling.full), local)


class _Sampling:
    """Samples of every statistic: one array for each image or crop.

    Arrays are (samples, channels).

    Attributes:
        statistics: what is measured.
        crops, full: samples by statistic.
        local: samples by converted network and statistic.
        from_crops: samples by statistic; empty without a network on crops.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Size,
        example: Example | None,
        converted: Sequence[nn.Module],
        run: RunOptions,
        on_crops: nn.Module | None = None,
    ) -> None:
        with torch.inference_mode(False):
            scan = scan_network(network, train, example)
        self._train = train
        self._whole = Probe(network, scan, run.dtype)
        self._windows = [WindowProbe(network, scan, each, run.dtype) for each in converted]
        self._crops = None if on_crops is None else CropProbe(network, scan, on_crops, run.dtype)
        self.statistics = self._whole.statistics
        self.crops: list[list[Values]] = [[] for _ in self.statistics]
        self.full: list[list[Values]] = [[] for _ in self.statistics]
        self.local: list[list[list[Values]]] = [[[] for _ in self.statistics] for _ in converted]
        self.from_crops: list[list[Values]] = [[] for _ in self.statistics]

    def measure(
        self,
        images: Sequence[Callable[[], AnyImage]],
        crops: Sequence[Callable[[], AnyImage]] | None,
        crops_per_image: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        """Take all samples; images are functions that read them, else as in `analyze`."""
        if crops_per_image < 1:
            raise ArgumentError(f"crops_per_image must be at least 1, got {crops_per_image}")
        if not self.statistics:
            return
        random = np.random.default_rng(seed)
        total = len(images) + (0 if crops is None else len(crops))
        report = progress or (lambda done, total: None)
        report(0, total)
        for done, read in enumerate(crops or ()):
            self._take_crops(as_tensor(read()), crops_per_image, random)
            report(done + 1, total)
        for done, read in enumerate(images, total - len(images)):
            x = as_tensor(read())
            if crops is None:
                self._take_crops(x, crops_per_image, random)
            _append(self.full, self._whole(x))
            for local, probe in zip(self.local, self._windows, strict=True):
                _append(local, probe(x))
            if self._crops is not None:
                _append(self.from_crops, self._crops(x))
            report(done + 1, total)

    def _take_crops(self, x: Tensor, count: int, random: np.random.Generator) -> None:
        height, width = (min(n, t) for n, t in zip(x.shape[-2:], self._train, strict=True))
        for _ in range(count):
            top = int(random.integers(x.shape[-2] - height + 1))
            left = int(random.integers(x.shape[-1] - width + 1))
            _append(self.crops, self._whole(x[..., top : top + height, left : left + width]))


def _copy(model: nn.Module, run: RunOptions) -> nn.Module:
    """Move a network to its device and return a copy that shares its parameters."""
    return isolated_copy(model.to(device_of(model, run.device)))


def _append(lists: list[list[Values]], found: list[Values]) -> None:
    for values, each in zip(lists, found, strict=True):
        values.append(each)


def _status(plan: Plan, path: str) -> Status:
    """Return the status of the operation at a path, from the closest plan row."""
    row = row_of(plan, path)
    return "global" if row is None else row.status
