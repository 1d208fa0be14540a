"""`tune`: choose the way of running a network, and its options, on a few images."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from glocal.conversion.localize import localize, plan_of
from glocal.conversion.train_size import resolve_train_size
from glocal.errors import ArgumentError
from glocal.inference.placing import device_of, resolve_dtype
from glocal.inference.settings import Settings
from glocal.inference.ways import Way
from glocal.metrics import Metric, metric_named
from glocal.ops.windows import Size, as_size, covers
from glocal.provenance import versions, weights_sha256
from glocal.runs.journal import Journal
from glocal.study.dataset import Data, Dataset, open_dataset
from glocal.study.intervals import FEWEST
from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
from glocal.study.tuning.advice import DISTANCE
from glocal.study.tuning.candidates import Batch, Search
from glocal.study.tuning.groups import groups_of
from glocal.study.tuning.measuring import Measuring, Nearness, Quality, Score, covers_padded
from glocal.study.tuning.recommendation import Tuning
from glocal.study.tuning.trials import Trial

__all__ = ["LEAST_CROP", "Trial", "Tuning", "tune"]

LEAST_CROP = 3
"""Least side of a crop ÷ training size: the largest window that is tried."""

ONLY_WINDOWS = (
    "Not tried: statistics from crops and crop-and-stitch, whose statistics are those of crops, so "
    "that the proxy cannot judge them; give targets."
)

Progress = Callable[[str, int, int], None]


def tune(
    model: nn.Module,
    data: Data,
    train_size: int | Size | None = None,
    *,
    per_axis: bool = False,
    operations: bool = True,
    crop: int | Size | None = None,
    conversion: ConversionOptions = ConversionOptions(),
    score: ScoreOptions = ScoreOptions(),
    run: RunOptions = RunOptions(),
    limit: int | None = None,
    log: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Tuning:
    """Choose the way of running a network, and its options, on a few images.

    `tune` tries windows of 0.3 to 3 × the training size, from coarse to fine; statistics from crops
    at several strides; both in one network ("auto") where it has operations of several kinds; and
    crop-and-stitch. Then it tries to leave one group of operations after the other global. It
    compares the metric of the restored images with that of the original network on the whole
    image. The gain is validated on held-out images by leave-one-out. The original network is
    recommended if nothing helps, and none if nothing beats the degraded images.

    Without targets `tune` compares windows only, and, as a proxy, how close the statistics of the
    global operations come to those of crops of the training size.

    >>> import numpy as np
    >>> image = np.linspace(0, 1, 80 * 80 * 3).reshape(80, 80, 3)
    >>> tuning = tune(nn.Conv2d(3, 3, 3, padding=1), [(image, image)], 16)
    >>> tuning.verdict, tuning.settings.way
    ('degraded is best', 'degraded')

    Args:
        model: the network, not converted.
        data: as in `glocal.evaluate`; all images with targets, or all without. Use images as
            large as those you restore, much larger than the crops.
        train_size: as in `glocal.localize`.
        per_axis: refine the height and the width of the window separately at the end.
        operations: try to leave groups of operations global; this needs two images.
        crop: use only the centre of each image: side or (height, width). It is faster, but a
            smaller crop shows a smaller effect of TLC, so the gain is underestimated.
        conversion: options of every conversion.
        score: `tune` decides by the first of its metrics; without targets it is ignored.
        run: device, dtype and output of the network.
        limit: number of images to use, evenly spaced over the data set; all by default.
        log: file of JSON lines. Measurements it contains are not repeated.
        overwrite: replace the log instead of continuing it.
        progress: called with (stage, images done, images in all), first with 0 done, in each
            stage of the search.

    Raises:
        ArgumentError: an argument is wrong, the data does not fit, or the log belongs to another
            run.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    if not score.names:
        raise ArgumentError("score.metrics is empty; name the metric to decide by")
    metric = metric_named(score.names[0])
    train = resolve_train_size(model, train_size)
    part = None if crop is None else as_size(crop, "crop")
    if part is not None and not covers(part, (LEAST_CROP * train[0], LEAST_CROP * train[1])):
        raise ArgumentError(
            f"crops of {part[0]}x{part[1]} are too small to compare windows; give at least "
            f"{LEAST_CROP} × the training size, {LEAST_CROP * train[0]}x{LEAST_CROP * train[1]}"
        )
    dataset = open_dataset(data, limit, purpose="tune on")
    proxy = not _have_targets(dataset)
    plan = plan_of(localize(model, train, **conversion.arguments()))
    # operations left global keep their distance from the crops, so the proxy cannot compare them
    grouped = operations and len(dataset.samples) > 1 and not proxy
    groups, inseparable = groups_of(plan) if grouped else ((), ())
    notes = [*map(_not_tried, inseparable), *([ONLY_WINDOWS] if proxy else [])]
    found = Tuning(
        train_size=train,
        metric=DISTANCE if proxy else metric.name,
        images=dataset.names,
        original=(),
        trials=(),
        groups=groups,
        always_global=conversion.patterns,
        allow_global=conversion.allow_global,
        output=run.output,
        convertible=len(plan.with_status("local")),
        notes=tuple(notes),
        protocol=_protocol(None if proxy else metric, score),
    )
    if proxy and not found.convertible:
        return found
    header = {
        "command": "tune",
        "format": 2,
        "weights_sha256": weights_sha256(model),
        "train_size": train,
        "metric": found.metric,
        "round8": score.round8,
        "border": score.border,
        "crop": part,
        "images": found.images,
        "data_sha256": dataset.digest(),
        "device": str(device_of(model, run.device)),
        "dtype": str(resolve_dtype(model, run.dtype)).removeprefix("torch."),
        "output": run.output,
        **conversion.record(),
        "versions": versions(),
    }
    opened = None if log is None else Journal(Path(log), header, overwrite=overwrite)
    with opened or nullcontext() as journal:
        judge: Score = Nearness(model, train, conversion, run) if proxy else Quality(metric, score)
        measuring = Measuring(
            model, train, dataset.samples, part, conversion, plan, judge, run, journal
        )
        ways: tuple[Way, ...] = ("windows",)
        if not proxy:
            ways = _ways(model, train, conversion) if found.convertible else ()
        report = progress or (lambda stage, done, total: None)
        return _search(found, measuring, ways, per_axis, report)


def _ways(model: nn.Module, train: Size, conversion: ConversionOptions) -> tuple[Way, ...]:
    """Return the ways whose results can differ from those of the others."""
    # the proof, which can refuse crops, runs when a candidate is measured
    arguments = {**conversion.arguments(), "verify": False}
    crops, auto = (
        plan_of(localize(model, train, statistics=statistics, **arguments))
        for statistics in ("crops", "auto")
    )
    if not crops.takes_crops:
        return "windows", "stitch"
    several = len({row.source for row in auto.with_status("local")}) > 1
    return ("windows", "crops", *(("auto",) if several else ()), "stitch")


def _search(
    found: Tuning,
    measuring: Measuring,
    ways: tuple[Way, ...],
    per_axis: bool,
    progress: Progress,
) -> Tuning:
    """Measure the original network, then every candidate of the search."""
    notes = list(found.notes)

    def measure(batch: Batch) -> list[Trial]:
        count = len(measuring.images)
        total, done = len(batch.candidates) * count, 0

        def image_done() -> None:
            nonlocal done
            done += 1
            progress(batch.stage, done, total)

        progress(batch.stage, 0, total)
        trials = []
        for candidate in batch.candidates:
            trial = measuring.measure(candidate, image_done)
            if trial is None:
                total -= count
                notes.append(_why_not(found, candidate))
            else:
                trials.append(trial)
        return trials

    count = len(measuring.images)
    progress("full image", 0, count)
    done = iter(range(1, count + 1))
    original = measuring.measure(
        measuring.original, lambda: progress("full image", next(done), count)
    )
    assert original is not None

    def covers_images(window: Size) -> bool:
        return all(covers_padded(window, size) for size in measuring.sizes.values())

    ungrouped = found.convertible > sum(group.count for group in found.groups)
    search = Search(found.train_size, covers_images, ways, found.groups, ungrouped, per_axis)
    steps = search.run()
    with suppress(StopIteration):
        batch = next(steps) if ways else None
        while batch is not None:
            batch = steps.send(measure(batch))
    return replace(
        found,
        original=original.scores,
        original_seconds=original.seconds,
        degraded=() if found.metric == DISTANCE else measuring.degraded,
        trials=tuple(search.trials),
        notes=tuple(dict.fromkeys(notes)),
    )


def _protocol(metric: Metric | None, score: ScoreOptions) -> str:
    """Describe how scores are computed; no metric means the proxy."""
    intervals = (
        "Gains are means over images of paired differences, with Student's 95 % interval; of fewer "
        f"than {FEWEST} images, with their number n."
    )
    if metric is None:
        return (
            f"{DISTANCE}: Wasserstein distance of each statistic on the image from that on crops "
            "of the training size, in deviations over the crops; mean over channels and "
            f"operations. {intervals}"
        )
    return f"{metric.name}: {metric.protocol} {score.preparation()} {intervals}"


def _why_not(found: Tuning, candidate: Settings) -> str:
    if candidate.keep_global:
        return _not_tried(" and ".join(found.group_names(candidate.keep_global)))
    return "Not tried: statistics from crops, which the proof of the conversion refuses."


def _not_tried(names: str) -> str:
    return f"Not tried: {names} cannot be left global without other operations."


def _have_targets(dataset: Dataset) -> bool:
    """Return True if all images have targets, False if none has.

    Raises:
        ArgumentError: only some have targets.
    """
    lacking = [sample.name for sample in dataset.samples if not sample.has_target]
    if 0 < len(lacking) < len(dataset.samples):
        raise ArgumentError(
            f"{len(lacking)} of {len(dataset.samples)} images have no target, such as "
            f"{lacking[0]}; give targets for all images, or for none"
        )
    return not lacking
