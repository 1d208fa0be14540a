"""`evaluate`: compare full image, crop-and-stitch, TLC and crops on a data set.

Each image goes through all methods before the next one, so that a machine that slows down affects
all methods alike. With a log, an interrupted evaluation continues.

A few lines above 300: the arguments of `evaluate`, described.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from glob import escape
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glocal.conversion.train_size import resolve_train_size
from glocal.errors import GlocalWarning
from glocal.inference.options import TilesLike
from glocal.inference.placing import device_of, resolve_dtype
from glocal.inference.settings import Settings
from glocal.inference.ways import Way
from glocal.ops.windows import Size
from glocal.provenance import machine_name, versions, weights_sha256
from glocal.runs.executors.work import Executor
from glocal.runs.journal import Journal
from glocal.runs.shards import Shard
from glocal.study.dataset import Data, Dataset, open_dataset
from glocal.study.evaluation.measuring import Measuring, Task
from glocal.study.evaluation.methods import DEFAULT_WAYS, Overlap, methods_of
from glocal.study.evaluation.perceptual import metrics_named
from glocal.study.evaluation.pictures import TARGET, Pictures, picture
from glocal.study.evaluation.records import DEGRADED, Evaluation, Failure, Protocol, Record
from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
from glocal.texts import few_names

__all__ = ["evaluate", "evaluate_by"]

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
    return evaluate_by(
        None, None, model, data, train_size, ways=ways, windows=windows, window_scale=window_scale,
        strides=strides, tiles=tiles, overlaps=overlaps, pictures=pictures, name=name,
        conversion=conversion, score=score, run=run, limit=limit, log=log, overwrite=overwrite,
        progress=progress, tile_progress=tile_progress,
    )  # fmt: skip


def evaluate_by(
    executor: Executor | None,
    shard: Shard | None,
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
    """Evaluate as `evaluate` does, which describes the options, with others.

    Args:
        executor: who measures, if not this process: several processes, or a cluster.
        shard: measure this part of the images alone, into a log beside `log`; an evaluation without
            it reads the logs of all parts.
        model, data, train_size: as for `evaluate`, and so are the options.
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
    work = Measuring(
        methods, score, device, train, pictures.folders(dataset.names) if pictures else {},
        tile_progress,
    )  # fmt: skip
    running = _Evaluating(work, executor, shard)
    return running(dataset, protocol, log, overwrite, progress or (lambda done, total: None))


@dataclass
class _Evaluating:
    """An evaluation under way."""

    work: Measuring
    executor: Executor | None
    shard: Shard | None

    def __call__(
        self,
        dataset: Dataset,
        protocol: Protocol,
        log: str | Path | None,
        overwrite: bool,
        progress: Progress,
    ) -> Evaluation:
        """Measure what the logs do not contain."""
        samples = dataset.samples
        records: dict[tuple[str, str], Record] = {}
        failures = []
        header = {"command": "evaluate", **asdict(protocol)}
        header["data_sha256"] = None  # each record has that of its image
        header["names_sha256"] = sha256("\n".join(dataset.names).encode()).hexdigest()
        opened, others = self._logs(log, header, overwrite)
        with opened or nullcontext() as journal:
            for each in others if journal is None else (*others, journal):
                with each.reading():
                    for line in each.lines:
                        record = Record.from_dict(line)
                        records[record.image, record.method] = record
            changed = self._forget_changed(records, dataset.digests)
            tasks = [
                Task(
                    sample,
                    dataset.digests[sample.name],
                    frozenset(method for image, method in records if image == sample.name),
                )
                for sample in samples
                if self.shard is None or self.shard.has(sample.name)
            ]
            for result in self._results(tasks, progress):
                if isinstance(result, Failure):
                    failures.append(result)
                # where only a picture was missing, the existing record stays
                elif (key := (result.image, result.method)) not in records:
                    records[key] = result
                    if journal:
                        journal.append(result.to_dict())
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

    def _results(self, tasks: list[Task], progress: Progress) -> Iterator[Record | Failure]:
        """Measure images; yield the measurements one by one, where this process makes them."""
        progress(0, len(tasks))
        if self.executor is None:
            for index, task in enumerate(tasks, 1):
                yield from self.work.measured(task)
                progress(index, len(tasks))
            return
        with closing(self.executor.run(self.work, tasks)) as found:
            for index, results in enumerate(found, 1):
                yield from results
                progress(index, len(tasks))

    def _logs(
        self, log: str | Path | None, header: Mapping[str, Any], overwrite: bool
    ) -> tuple[Journal | None, list[Journal]]:
        """Return the log to write, if any, and those of other shards, or of all of them."""
        if log is None:
            return None, []
        whole = Path(log)
        parts = whole.parent.glob(f"{escape(whole.stem)}.shard-*-of-*{escape(whole.suffix)}")
        own = whole
        if self.shard is not None:
            own = whole.with_name(f"{whole.stem}.{self.shard.name}{whole.suffix}")
        others = sorted({whole, *parts} - {own})
        if overwrite and self.shard is None:
            for path in others:
                path.unlink()
            others = []
        return Journal(own, header, overwrite=overwrite), [Journal(path, header) for path in others]

    def _forget_changed(
        self, records: dict[tuple[str, str], Record], digests: Mapping[str, str]
    ) -> list[str]:
        """Drop records and pictures of images that changed since; return their names."""
        stale = [key for key, each in records.items() if each.data_sha256 != digests.get(key[0])]
        for key in stale:
            del records[key]
        names = list(dict.fromkeys(image for image, _ in stale))
        for name in names:
            for each in (DEGRADED, TARGET, *(method.name for method in self.work.methods)):
                if name in self.work.folders:
                    picture(self.work.folders[name], each).unlink(missing_ok=True)
        return names
