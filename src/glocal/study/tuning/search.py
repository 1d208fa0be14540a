"""`tune`: the window and the operations to convert, chosen on a few images, doing no harm."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glocal.conversion.localize import localize, plan_of
from glocal.conversion.rules import DEFAULT_RULES, Rule
from glocal.data.datasets import pairs
from glocal.data.pairing import Pair, check_names, data_sha256, evenly_spaced
from glocal.errors import ArgumentError
from glocal.inference.runner import device_of, resolve_dtype
from glocal.metrics import Metric, metric_named
from glocal.ops.windows import Size, as_size, covers
from glocal.runs.journal import Journal
from glocal.runs.provenance import versions, weights_sha256
from glocal.study.tuning.candidates import Batch, Search
from glocal.study.tuning.groups import groups_of
from glocal.study.tuning.measuring import Measuring, Nearness, Quality, Score, covers_all
from glocal.study.tuning.recommendation import DISTANCE, Tuning
from glocal.study.tuning.trials import Trial

__all__ = ["LEAST_CROP", "Trial", "Tuning", "tune"]

LEAST_CROP = 3
"""Times the training size that a crop of an image measures at least: the largest window tried."""

Progress = Callable[[str, int, int], None]


def tune(
    model: nn.Module,
    data: str | Path | Sequence[Pair],
    train_size: int | Size,
    *,
    metric: str = "psnr",
    per_axis: bool = False,
    operations: bool = True,
    limit: int | None = None,
    crop: int | Size | None = None,
    round8: bool = True,
    border: int = 0,
    keep_global: str | Iterable[str] = (),
    allow_global: bool = False,
    rules: Sequence[Rule] = DEFAULT_RULES,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    output: int | None = None,
    log: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Tuning:
    """Choose the window of a network, and which operations to convert, from a few images.

    Windows of 0.3 to 3 × the training size are tried, coarse to fine; then leaving one group of
    operations after the other global. With targets, the metric of the restored images decides;
    without, how near the statistics of the global operations come to those of crops of the
    training size, which is a proxy. The recommendation is judged on images that did not choose
    it, each being left out in turn, and is the original network where TLC does not help.

    Args:
        model: the network, not converted.
        data: folder of a data set, see `glocal.data.datasets.pairs`, or its pairs; all with targets
            or all without. Images as large as those in use, far larger than the crops.
        train_size: side or (height, width) of the crops it was trained on, in pixels.
        metric: name, see `glocal.metrics.METRICS`; ignored where there are no targets.
        per_axis: refine the window's height and width alone in the end.
        operations: whether to try leaving groups of operations global; it takes two images.
        limit: use so many images, spread evenly over the data set.
        crop: use the centre of each image alone, side or (height, width), which is faster. The
            smaller the crop, the smaller the effect of TLC: the gain is understated.
        round8, border: how images are prepared for the metric, see `glocal.metrics`.
        keep_global, allow_global, rules: see `glocal.localize`.
        device, dtype, output: see `glocal.restore`.
        log: file of JSON lines, see `glocal.runs.journal`. What it holds is not measured again.
        overwrite: begin the log anew, whatever is there.
        progress: called with (what is tried, images done, images in all), beginning with none
            done, once for each stage of the search.

    Raises:
        ArgumentError: an argument cannot be used, the data does not fit, or the log was made by
            another tuning.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.
    """
    train = as_size(train_size, "train_size")
    part = None if crop is None else as_size(crop, "crop")
    if part is not None and not covers(part, (LEAST_CROP * train[0], LEAST_CROP * train[1])):
        raise ArgumentError(
            f"crops of {part[0]}x{part[1]} are too small to tell windows apart; give at least "
            f"{LEAST_CROP} × the training size, {LEAST_CROP * train[0]}x{LEAST_CROP * train[1]}"
        )
    images = _images(data, limit)
    kept = (keep_global,) if isinstance(keep_global, str) else tuple(keep_global)
    conversion: dict[str, Any] = {
        "keep_global": kept, "allow_global": allow_global, "rules": tuple(rules),
    }  # fmt: skip
    proxy = images[0].target is None
    measure = metric_named(metric)
    plan = plan_of(localize(model, train, **conversion))
    # what stays global stays far from the statistics of crops: that proxy cannot judge it
    grouped = operations and len(images) > 1 and not proxy
    groups, inseparable = groups_of(plan) if grouped else ((), ())
    found = Tuning(
        train, DISTANCE if proxy else metric, tuple(pair.name for pair in images), (), (),
        groups, kept, len(plan.with_status("local")), tuple(map(_not_tried, inseparable)),
        _protocol(None if proxy else measure, round8, border),
    )  # fmt: skip
    if not found.convertible:
        return found
    header = {
        "command": "tune",
        "weights_sha256": weights_sha256(model),
        "train_size": train,
        "metric": found.metric,
        "round8": round8,
        "border": border,
        "crop": part,
        "images": found.images,
        "data_sha256": data_sha256(images),
        "device": str(device_of(model, device)),
        "dtype": str(resolve_dtype(model, dtype)).removeprefix("torch."),
        "output": output,
        "keep_global": kept,
        "allow_global": allow_global,
        "rules": [rule.name for rule in rules],
        "versions": versions(),
    }
    opened = None if log is None else Journal(log, header, overwrite=overwrite)
    with opened or nullcontext() as journal:
        running = {"device": device, "dtype": dtype, "output": output}
        score: Score = (
            Nearness(model, train, conversion, device)
            if proxy
            else Quality(measure, round8, border, running)
        )
        measuring = Measuring(model, train, images, part, conversion, plan, score, journal)
        return _searched(found, measuring, per_axis, progress or (lambda stage, done, total: None))


def _searched(found: Tuning, measuring: Measuring, per_axis: bool, progress: Progress) -> Tuning:
    """The original network first, then whatever the search asks for."""
    notes = list(found.notes)

    def measured(batch: Batch) -> list[Trial]:
        count = len(measuring.images)
        total, done = len(batch.candidates) * count, 0

        def image_done() -> None:
            nonlocal done
            done += 1
            progress(batch.stage, done, total)

        progress(batch.stage, 0, total)
        trials = []
        for window, kept in batch.candidates:
            scores = measuring.scores((window, kept), image_done)
            if scores is None:
                total -= count
                notes.append(_not_tried(" and ".join(found.names(kept))))
            else:
                trials.append(Trial(window, kept, scores))
        return trials

    count = len(measuring.images)
    progress("full image", 0, count)
    done = iter(range(1, count + 1))
    original = measuring.scores((None, ()), lambda: progress("full image", next(done), count))
    assert original is not None

    def needless(window: Size) -> bool:
        return all(covers_all(window, size) for size in measuring.sizes.values())

    ungrouped = found.convertible > sum(group.count for group in found.groups)
    search = Search(found.train_size, needless, found.groups, ungrouped, per_axis)
    steps = search.run()
    try:
        batch = next(steps)
        while True:
            batch = steps.send(measured(batch))
    except StopIteration:
        pass
    return replace(
        found, original=original, trials=tuple(search.trials), notes=tuple(dict.fromkeys(notes))
    )


def _protocol(metric: Metric | None, round8: bool, border: int) -> str:
    """How scores are computed, for below the table."""
    intervals = "Gains are paired image by image: their mean with Student's 95 % interval."
    if metric is None:
        return (
            f"{DISTANCE}: Wasserstein, of each statistic on the image from that over its crops of "
            "the training size, in deviations over these; mean over channels and operations. "
            f"{intervals}"
        )
    rounded = "clamped and rounded to 8 bits" if round8 else "neither clamped nor rounded"
    cut = f", {border} pixels cut from each border" if border else ""
    return (
        f"{metric.name}: {metric.protocol} Restored image and target are {rounded}{cut}. "
        f"{intervals}"
    )


def _not_tried(names: str) -> str:
    return f"Not tried: {names} cannot be left global without other operations."


def _images(data: str | Path | Sequence[Pair], limit: int | None) -> list[Pair]:
    """The pairs to measure on.

    Raises:
        ArgumentError: there are none, or not all of them have targets, or none has.
    """
    found = pairs(data) if isinstance(data, str | Path) else list(data)
    found = evenly_spaced(found, limit)
    check_names(found, "tune on")
    lacking = [pair.name for pair in found if pair.target is None]
    if 0 < len(lacking) < len(found):
        raise ArgumentError(
            f"{len(lacking)} of {len(found)} images have no target, {lacking[0]} for one; give all "
            "with targets, or all without"
        )
    return found
