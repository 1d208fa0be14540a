"""`evaluate`: compare full image, crop-and-stitch, TLC and crops on a data set.

Each image goes through all methods before the next one, so that a machine that slows down affects
all methods alike. With a log, an interrupted evaluation continues.

A few lines above 300: the arguments of `evaluate`, described.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glocal.conversion.train_size import resolve_train_size
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.memory import peak_memory
from glocal.inference.options import TilesLike
from glocal.inference.placing import device_of, resolve_dtype
from glocal.inference.settings import Settings
from glocal.inference.ways import Way
from glocal.metrics import Metric
from glocal.ops.windows import Size
from glocal.provenance import machine_name, versions, weights_sha256
from glocal.runs.journal import Journal
from glocal.study.dataset import Data, Dataset, Sample, open_dataset
from glocal.study.evaluation.methods import DEFAULT_WAYS, Method, Overlap, methods_of
from glocal.study.evaluation.perceptual import metrics_named
from glocal.study.evaluation.pictures import TARGET, Pictures, picture, write_picture
from glocal.study.evaluation.records import DEGRADED, Evaluation, Failure, Protocol, Record
from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
from glocal.texts import few_names

__all__ = ["evaluate"]

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]


def evaluate(
    model: nn.Module,
    data: Data,
    train_size: int | Size | None = None,
    *,
    ways: Sequence[Way | Settings] = DEFAULT_WAYS,
    windows: Sequence[int | Size | None] = (None,),
    window_scale: float | None = None,
    strides: Sequence[float] = (1.0,),
    tiles: TilesLike = "auto",
    overlaps: Sequence[Overlap] = (None,),
    pictures: Pictures | None = None,
    name: str | None = None,
    conversion: ConversionOptions = ConversionOptions(),
    score: ScoreOptions = ScoreOptions(),
    run: RunOptions = RunOptions(),
    limit: int | None = None,
    log: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    tile_progress: Progress | None = None,
) -> Evaluation:
    """Compare ways of running a network: metrics, seconds and memory.

    By default the full image, crop-and-stitch, TLC, and statistics from crops. An image that cannot
    be read or restored is listed in `Evaluation.failures`, and the others are measured. Images
    without targets are restored, timed, and measured by metrics without reference.

    >>> import numpy as np
    >>> norm = nn.InstanceNorm2d(3)
    >>> image = np.random.default_rng(0).random((48, 64, 3))
    >>> evaluation = evaluate(norm, [(image, image)], 16, score=ScoreOptions(metrics=("psnr",)))
    >>> evaluation.methods
    ('degraded', 'full image', 'crop-and-stitch 16/2 linear', 'TLC 24', 'crops 16')
    >>> evaluation.mean("degraded", "psnr").mean
    inf

    Args:
        model: the network, not converted.
        data: a folder (see `glocal.pairs`; one of images without targets if no metric needs them),
            a sequence of `Pair`, or a sequence of images or of (degraded, target) tuples of images:
            arrays (h, w) or (h, w, c) of uint8, uint16 or floats in [0, 1], or float tensors
            (c, h, w).
        train_size: as in `glocal.localize`.
        ways: to compare: "full", "stitch" (crop-and-stitch), "windows" (TLC), "crops", "auto", or
            `Settings`, such as those that `tune` recommends.
        windows: one TLC method for each: side or (height, width) in input pixels, or None for
            that of `glocal.localize`. Likewise for "auto".
        window_scale: for the windows that are None, as in `glocal.localize`.
        strides: one method of crops for each: most distance between crops, in crops. Likewise for
            "auto".
        tiles: of crop-and-stitch, as in `glocal.restore`; "auto" is the training size.
        overlaps: one crop-and-stitch method for each: least overlap of tiles in pixels, or, below
            1, as a fraction of the tile; None is that of `tiles`, by default an eighth. Overlaps
            of 0.5 and 0.75 cost 4 and 16 times as much and leave no visible seam.
        pictures: which restored images to write, and where; none by default.
        name: of the network in reports; its class name by default.
        conversion: how the network is converted.
        score: metrics, and how images are prepared for them.
        run: device, dtype, output and runtime of the network.
        limit: number of images to use, evenly spaced over the data set; all by default.
        log: file of JSON lines. Measurements it contains are not repeated.
        overwrite: replace the log instead of continuing it.
        progress: called with (images done, images in all), first with 0 done.
        tile_progress: likewise for the tiles of the current image.

    Raises:
        ArgumentError: an argument is wrong, the data does not fit, or the log belongs to another
            evaluation.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    device = device_of(model, run.device)
    metrics = metrics_named(score.names, device)
    needs_targets = any(metric.needs_target for metric in metrics)
    dataset = open_dataset(data, limit, purpose="evaluate on", needs_targets=needs_targets)
    train = resolve_train_size(model, train_size)
    methods = methods_of(
        model, train, ways=ways, windows=windows, window_scale=window_scale, strides=strides,
        tiles=tiles, overlaps=overlaps, conversion=conversion, run=run,
    )  # fmt: skip
    protocol = Protocol(
        network=name or type(model).__name__,
        weights_sha256=weights_sha256(model),
        train_size=train,
        methods={method.name: method.protocol for method in methods},
        plans={method.name: str(method.plan) for method in methods if method.plan},
        conversion=conversion.record(),
        metrics={metric.name: metric.protocol for metric in metrics},
        round8=score.round8,
        border=score.border,
        data=dataset.label,
        image_count=len(dataset.samples),
        data_sha256=dataset.digest(),
        device=str(device),
        dtype=str(resolve_dtype(model, run.dtype)).removeprefix("torch."),
        runtime=run.runtime,
        machine=machine_name(device),
        threads=torch.get_num_threads(),
        versions=versions(),
        lower_is_better=tuple(each.name for each in metrics if not each.higher_is_better),
    )
    folders = pictures.folders(dataset.names) if pictures else {}
    running = _Evaluating(methods, metrics, score, device, train, folders, tile_progress)
    return running(dataset, protocol, log, overwrite, progress or (lambda done, total: None))


@dataclass
class _Evaluating:
    """An evaluation under way."""

    methods: list[Method]
    metrics: list[Metric]
    score: ScoreOptions
    device: torch.device
    train_size: Size
    folders: dict[str, Path]
    tile_progress: Progress | None
    warm: bool = False

    def __call__(
        self,
        dataset: Dataset,
        protocol: Protocol,
        log: str | Path | None,
        overwrite: bool,
        progress: Progress,
    ) -> Evaluation:
        """Measure what the log does not contain."""
        samples = dataset.samples
        records: dict[tuple[str, str], Record] = {}
        failures = []
        header = {"command": "evaluate", **asdict(protocol)}
        header["data_sha256"] = None  # each record has that of its image
        header["names_sha256"] = sha256("\n".join(dataset.names).encode()).hexdigest()
        opened = None if log is None else Journal(Path(log), header, overwrite=overwrite)
        with opened or nullcontext() as journal:
            with journal.reading() if journal else nullcontext():
                for line in journal.lines if journal else ():
                    record = Record.from_dict(line)
                    records[record.image, record.method] = record
            changed = self._forget_changed(records, dataset.digests)
            progress(0, len(samples))
            for index, sample in enumerate(samples):
                done = {method for image, method in records if image == sample.name}
                for result in self._measure(sample, dataset.digests[sample.name], done):
                    if isinstance(result, Failure):
                        failures.append(result)
                    # where only a picture was missing, the existing record stays
                    elif (key := (result.image, result.method)) not in records:
                        records[key] = result
                        if journal:
                            journal.append(result.to_dict())
                progress(index + 1, len(samples))
        if changed:
            warnings.warn(
                f"{len(changed)} of {len(samples)} images changed since they were measured, and "
                f"were measured again: {few_names(changed)}",
                GlocalWarning,
                stacklevel=3,
            )
        names = tuple(sample.name for sample in samples)
        order = ((name, method) for name in names for method in (DEGRADED, *protocol.methods))
        ordered = tuple(records[key] for key in order if key in records)
        return Evaluation(protocol, names, ordered, tuple(failures))

    def _forget_changed(
        self, records: dict[tuple[str, str], Record], digests: Mapping[str, str]
    ) -> list[str]:
        """Drop records and pictures of images that changed since; return their names."""
        stale = [key for key, each in records.items() if each.data_sha256 != digests.get(key[0])]
        for key in stale:
            del records[key]
        names = list(dict.fromkeys(image for image, _ in stale))
        for name in names:
            for each in (DEGRADED, TARGET, *(method.name for method in self.methods)):
                if name in self.folders:
                    picture(self.folders[name], each).unlink(missing_ok=True)
        return names

    def _measure(self, sample: Sample, digest: str, done: set[str]) -> Iterator[Record | Failure]:
        """Measure an image with each method that is not done or whose picture is missing."""
        folder = self.folders.get(sample.name)
        missing = [
            method
            for method in self.methods
            if method.name not in done or _lacks(folder, method.name)
        ]
        # a target is only looked for where its picture is missing: that may read the image
        if not missing and not (
            _lacks(folder, DEGRADED) or (_lacks(folder, TARGET) and sample.has_target)
        ):
            return
        try:
            degraded, target, notes = sample.read()
            if folder is not None:
                _write_pictures(folder, degraded, target)
        except GlocalError as error:
            yield Failure.of(sample.name, "", error)
            return
        size = (degraded.shape[0], degraded.shape[1])
        if DEGRADED not in done:
            own = target if target is not None and target.shape == degraded.shape else None
            try:
                if values := self._values(degraded, own):
                    yield Record(
                        sample.name, DEGRADED, size, values, data_sha256=digest, notes=notes
                    )
            except GlocalError as error:
                yield Failure.of(sample.name, DEGRADED, error)
        self._warm_up(degraded)
        for method in missing:
            try:
                with peak_memory(self.device) as peak:
                    started = time.perf_counter()
                    restored = method.restore(degraded, progress=self.tile_progress)
                    seconds = time.perf_counter() - started
                values = self._values(restored, target)
                if folder is not None:
                    write_picture(picture(folder, method.name), restored)
                yield Record(
                    sample.name, method.name, size, values, seconds, peak.mib, digest, notes
                )
            except Exception as error:  # a network may raise anything; the other images count
                yield Failure.of(sample.name, method.name, error)

    def _values(self, restored: Floats, target: Floats | None) -> dict[str, float]:
        """Value of each metric; of those without reference if there is no target."""
        values = {}
        for each in self.metrics:
            if each.needs_target and target is None:
                continue
            second = restored if target is None else target
            value = each.function(
                restored, second, border=self.score.border, round8=self.score.round8
            )
            if math.isnan(value):
                raise ArgumentError(f"{each.name} is not a number: the image is not finite")
            values[each.name] = value
        return values

    def _warm_up(self, image: Floats) -> None:
        """Run each method once on a small image: the first run of a network takes longer."""
        if self.warm:
            return
        self.warm = True
        small = image[: self.train_size[0], : self.train_size[1]]
        for method in self.methods:
            try:
                method.restore(small)
            except ArgumentError:  # would be raised for every image
                raise
            except Exception:  # may be due to the size; the images will show
                continue


def _lacks(folder: Path | None, name: str) -> bool:
    return folder is not None and not picture(folder, name).exists()


def _write_pictures(folder: Path, degraded: Floats, target: Floats | None) -> None:
    if target is not None:
        write_picture(picture(folder, TARGET), target)
    write_picture(picture(folder, DEGRADED), degraded)
