"""Score a network, converted in different ways, on the same images; resumable."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glocal.conversion.localize import localize, plan_of
from glocal.errors import ArgumentError, ConversionError
from glocal.metrics import Metric
from glocal.ops.windows import Size, covers
from glocal.runs.journal import Journal
from glocal.scanning.plan import Plan
from glocal.study.dataset import Sample
from glocal.study.evaluation.methods import Method
from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
from glocal.study.shift.measure import window_shifts

__all__ = ["Candidate", "Measuring", "Nearness", "Quality", "Score", "covers_padded"]

PERFECT = 100.0
"""Score for an infinite metric: the PSNR of equal images would outweigh all others."""

PADDING = 64
"""Networks, and `glocal.restore`, pad images to multiples of at most this."""

Floats: TypeAlias = NDArray[np.float32]
Candidate: TypeAlias = tuple[Size | None, tuple[str, ...]]
"""A window, None for the original network, and the patterns of operations to leave global."""


class Score(Protocol):
    """Scores a network on an image; higher is better, always finite."""

    def __call__(
        self, network: nn.Module, window: Size | None, degraded: Floats, target: Floats | None
    ) -> float:
        """Return the score; `window` is that of the conversion, None for the original."""


def covers_padded(window: Size, size: Size) -> bool:
    """Return True if a window covers an image of a size even after padding.

    >>> covers_padded((100, 130), (97, 128)), covers_padded((128, 130), (97, 128))
    (False, True)
    """
    return covers(window, (-(-size[0] // PADDING) * PADDING, -(-size[1] // PADDING) * PADDING))


@dataclass(frozen=True)
class Quality:
    """Scores a network by a metric of the restored image.

    Attributes:
        metric: to score by.
        options: how images are prepared for the metric.
        run: how the network runs.
    """

    metric: Metric
    options: ScoreOptions = ScoreOptions()
    run: RunOptions = RunOptions()

    def __call__(
        self, network: nn.Module, window: Size | None, degraded: Floats, target: Floats | None
    ) -> float:
        """Return the metric, `PERFECT` at most; 0 if the restored image is not finite."""
        assert target is not None
        restored = Method("", network, "", self.run.arguments()).restore(degraded)
        round8, border = self.options.round8, self.options.border
        value = self.metric.function(restored, target, round8=round8, border=border)
        value = value if self.metric.higher_is_better else -value
        return 0.0 if math.isnan(value) else min(value, PERFECT)


@dataclass(frozen=True)
class Nearness:
    """Scores a window by the statistics of the global operations, without a target.

    Attributes:
        model: the network, not converted.
        train_size: (height, width) of the training crops.
        conversion: how the network is converted.
        run: how the network runs.
    """

    model: nn.Module
    train_size: Size
    conversion: ConversionOptions = ConversionOptions()
    run: RunOptions = RunOptions()

    def __call__(
        self, network: nn.Module, window: Size | None, degraded: Floats, target: Floats | None
    ) -> float:
        """Return minus the mean distance from the statistics of the image's own crops."""
        image = torch.from_numpy(np.ascontiguousarray(degraded)).permute(2, 0, 1)[None]
        shifts = window_shifts(
            self.model,
            [image],
            self.train_size,
            windows=[] if window is None else [window],
            conversion=self.conversion,
            run=self.run,
        )
        distance = shifts.full if window is None else shifts.local[window]
        return 0.0 if math.isnan(distance) else -distance


@dataclass
class Measuring:
    """Measures candidates on a set of images.

    Attributes:
        model: the network, not converted.
        train_size: (height, width) of the training crops.
        images: to measure on.
        crop: (height, width) of the centre of each image to use; None for the whole image.
        conversion: options of every conversion.
        plan: of the conversion with these options.
        score: scores a network on an image.
        journal: earlier measurements, and where to write new ones.
        sizes: (height, width) of the images that were read.
    """

    model: nn.Module
    train_size: Size
    images: Sequence[Sample]
    crop: Size | None
    conversion: ConversionOptions
    plan: Plan
    score: Score
    journal: Journal | None = None
    sizes: dict[str, Size] = field(default_factory=dict)
    _known: dict[Candidate, dict[str, float]] = field(default_factory=dict)
    _twins: dict[Any, Candidate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.journal.lines if self.journal else ():
            window = line["window"] and tuple(line["window"])
            self._of((window, tuple(line["keep_global"])))[line["image"]] = line["score"]
            self.sizes[line["image"]] = tuple(line["size"])

    def scores(
        self, candidate: Candidate, done: Callable[[], None] = lambda: None
    ) -> tuple[float, ...] | None:
        """Return the score of each image; None if the conversion is impossible.

        Calls `done` after each image. A window with the same plan as another (maps are smaller
        than images), or one that covers the image, is not measured again.
        """
        known = self._of(candidate)
        network, twin = self.model, known
        if candidate[0] is not None and len(known) < len(self.images):
            converted = self._converted(candidate)
            if converted is None:
                return None
            network = converted
            twin = self._of(self._twins.setdefault(_windows(plan_of(network)), candidate))
        original = self._of((None, ()))
        for sample in self.images:
            if sample.name not in known:
                if sample.name in twin:
                    value = twin[sample.name]
                elif candidate[0] and covers_padded(candidate[0], self.sizes[sample.name]):
                    value = original[sample.name]
                else:
                    value = self._measure(network, candidate[0], sample)
                self._note(candidate, sample, value)
            done()
        return tuple(known[sample.name] for sample in self.images)

    def _of(self, candidate: Candidate) -> dict[str, float]:
        return self._known.setdefault(candidate, {})

    def _converted(self, candidate: Candidate) -> nn.Module | None:
        """Return the converted network, or None if the patterns cannot stay global alone."""
        window, keep = candidate
        # `search` has proven the conversion; another window changes no operation
        patterns = (*self.conversion.patterns, *keep)
        options = replace(self.conversion, keep_global=patterns, verify=False)
        try:
            network = localize(self.model, self.train_size, window=window, **options.arguments())
        except (ArgumentError, ConversionError):
            if keep:
                return None
            raise
        unconverted = {(row.path, row.operation) for row in plan_of(network).with_status("global")}
        known = {(row.path, row.operation) for row in self.plan.with_status("global")}
        # an operation may become unconvertible because it shares a block with one to leave global
        return network if unconverted <= known else None

    def _measure(self, network: nn.Module, window: Size | None, sample: Sample) -> float:
        degraded, target = sample.read()
        if self.crop is not None:
            degraded, target = _centre(degraded, target, self.crop)
        self.sizes[sample.name] = (degraded.shape[0], degraded.shape[1])
        return self.score(network, window, degraded, target)

    def _note(self, candidate: Candidate, sample: Sample, value: float) -> None:
        self._of(candidate)[sample.name] = value
        if self.journal:
            window, keep = candidate
            size = self.sizes[sample.name]
            line = {"image": sample.name, "size": size, "window": window, "keep_global": keep}
            self.journal.append({**line, "score": value})


def _windows(plan: Plan) -> tuple[Any, ...]:
    """Return what distinguishes two conversions of a network."""
    rows = [(row.path, row.operation, row.window) for row in plan.with_status("local")]
    # a map of unknown size may have another window although the rows are equal
    unknown = any(row.window is None for row in plan.with_status("local"))
    return (*rows, plan.window if unknown else None)


def _centre(degraded: Floats, target: Floats | None, size: Size) -> tuple[Floats, Floats | None]:
    """Return the centre of both images.

    A super-resolution target is larger by an integer factor."""
    inside = [
        slice(start := max(0, (have - want) // 2), start + want)
        for have, want in zip(degraded.shape, size, strict=False)
    ]
    if target is None:
        return degraded[*inside], None
    factor = target.shape[0] // degraded.shape[0]
    return degraded[*inside], target[*(slice(s.start * factor, s.stop * factor) for s in inside)]
