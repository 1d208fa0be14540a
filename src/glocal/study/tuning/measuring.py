"""Score a network, converted in different ways, on the same images; resumable.

A few lines above 300: two scores, and the loop that both share.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glocal.errors import ArgumentError, ConversionError
from glocal.inference.not_finite import NotFiniteError
from glocal.inference.settings import Settings
from glocal.metrics import Metric
from glocal.ops.windows import Size, as_size, covers
from glocal.runs.journal import Journal
from glocal.scanning.plan import Plan
from glocal.study.dataset import Sample
from glocal.study.evaluation.methods import Method, method_of
from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
from glocal.study.shift.measure import window_shifts
from glocal.study.tuning.trials import Trial

__all__ = ["Measured", "Measuring", "Nearness", "Quality", "Score", "covers_padded"]

PERFECT = 100.0
"""Score for an infinite metric: the PSNR of equal images would outweigh all others."""

PADDING = 64
"""Networks, and `glocal.restore`, pad images to multiples of at most this."""

Floats: TypeAlias = NDArray[np.float32]


class Measured(NamedTuple):
    """The measurement of one image.

    Attributes:
        score: higher is better, always finite.
        seconds: that the restoration took; None if nothing was restored.
    """

    score: float
    seconds: float | None = None


class Score(Protocol):
    """Scores a method on an image."""

    def __call__(self, method: Method, degraded: Floats, target: Floats | None) -> Measured:
        """Return the score; higher is better, always finite."""


def covers_padded(window: Size, size: Size) -> bool:
    """Return True if a window covers an image of a size even after padding.

    >>> covers_padded((100, 130), (97, 128)), covers_padded((128, 130), (97, 128))
    (False, True)
    """
    return covers(window, (-(-size[0] // PADDING) * PADDING, -(-size[1] // PADDING) * PADDING))


@dataclass(frozen=True)
class Quality:
    """Scores a method by a metric of the restored image.

    Attributes:
        metric: to score by.
        options: how images are prepared for the metric.
    """

    metric: Metric
    options: ScoreOptions = ScoreOptions()

    def __call__(self, method: Method, degraded: Floats, target: Floats | None) -> Measured:
        """Return the metric, `PERFECT` at most; 0 if the restored image is not finite."""
        assert target is not None
        started = time.perf_counter()
        try:
            restored = method.restore(degraded)
        except NotFiniteError:
            return Measured(0.0)
        seconds = time.perf_counter() - started
        round8, border = self.options.round8, self.options.border
        value = self.metric.function(restored, target, round8=round8, border=border)
        value = value if self.metric.higher_is_better else -value
        return Measured(min(value, PERFECT), seconds)


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

    def __call__(self, method: Method, degraded: Floats, target: Floats | None) -> Measured:
        """Return minus the mean distance from the statistics of the image's own crops."""
        image = torch.from_numpy(np.ascontiguousarray(degraded)).permute(2, 0, 1)[None]
        window = method.settings.window
        shifts = window_shifts(
            self.model,
            [image],
            self.train_size,
            windows=[] if window is None else [window],
            conversion=self.conversion,
            run=self.run,
        )
        distance = shifts.full if window is None else next(iter(shifts.local.values()))
        return Measured(0.0 if math.isnan(distance) else -distance)


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
        score: scores a method on an image.
        run: how the network runs.
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
    run: RunOptions = RunOptions()
    journal: Journal | None = None
    sizes: dict[str, Size] = field(default_factory=dict)
    _known: dict[Settings, dict[str, Measured]] = field(default_factory=dict)
    _twins: dict[Any, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with self.journal.reading() if self.journal else nullcontext():
            for line in self.journal.lines if self.journal else ():
                found = self._of(Settings(**line["settings"]))
                found[line["image"]] = Measured(line["score"], line["seconds"])
                self.sizes[line["image"]] = tuple(line["size"])

    @property
    def original(self) -> Settings:
        """The original network on the whole image."""
        return Settings("full", self.train_size)

    @property
    def degraded(self) -> tuple[float, ...]:
        """Scores of the images before restoration; empty if a target has another size."""
        known = self._of(alone := Settings("degraded", self.train_size))
        method = method_of(self.model, alone)
        for sample in self.images:
            if sample.name not in known:
                degraded, target = self._read(sample)
                if target is None or target.shape != degraded.shape:
                    return ()
                self._note(alone, sample, self.score(method, degraded, target))
        return tuple(known[sample.name].score for sample in self.images)

    def measure(self, candidate: Settings, done: Callable[[], None] = lambda: None) -> Trial | None:
        """Return the scores of each image; None if the conversion fails or has no effect.

        Calls `done` after each image. A window with the same plan as another (maps are smaller
        than images), or one that covers the image, is not measured again.
        """
        known = self._of(candidate)
        if len(known) < len(self.images):
            method = self._method(candidate)
            if method is None:
                return None
            twin = known
            if method.plan is not None:
                twin = self._of(self._twins.setdefault(_sources(method.plan), candidate))
            self._measure_missing(method, candidate, known, twin, done)
        else:
            for _ in self.images:
                done()
        found = [known[sample.name] for sample in self.images]
        seconds = [each.seconds for each in found if each.seconds is not None]
        mean = math.fsum(seconds) / len(seconds) if seconds else None
        return Trial(candidate, tuple(each.score for each in found), mean)

    def _measure_missing(
        self,
        method: Method,
        candidate: Settings,
        known: Mapping[str, Measured],
        twin: Mapping[str, Measured],
        done: Callable[[], None],
    ) -> None:
        original, warm = self._of(self.original), False
        for sample in self.images:
            if sample.name not in known:
                if sample.name in twin:
                    measured = twin[sample.name]
                elif sample.name in original and self._covers(candidate, self.sizes[sample.name]):
                    measured = original[sample.name]
                else:
                    measured = self._measure(method, sample, warm)
                    warm = True
                self._note(candidate, sample, measured)
            done()

    def _of(self, candidate: Settings) -> dict[str, Measured]:
        return self._known.setdefault(candidate, {})

    def _covers(self, candidate: Settings, size: Size) -> bool:
        return candidate.way == "windows" and covers_padded(
            as_size(candidate.window or self.train_size, "window"), size
        )

    def _method(self, candidate: Settings) -> Method | None:
        """Return the method, or None if the patterns cannot stay global alone."""
        # `search` has proven the conversion; another window changes no operation. Which operations
        # can take statistics from crops, the proof alone knows.
        verify = self.conversion.verify and candidate.way != "windows"
        options = replace(self.conversion, verify=verify)
        try:
            method = method_of(self.model, candidate, options, self.run)
        except (ArgumentError, ConversionError):
            if candidate.keep_global:
                return None
            raise
        if method.plan is None:
            return method
        if candidate.way != "windows" and not (method.plan.takes_crops or candidate.keep_global):
            return None
        unconverted = {(row.path, row.operation) for row in method.plan.with_status("global")}
        known = {(row.path, row.operation) for row in self.plan.with_status("global")}
        # an operation may become unconvertible because it shares a block with one to leave global
        return method if unconverted <= known else None

    def _measure(self, method: Method, sample: Sample, warm: bool) -> Measured:
        degraded, target = self._read(sample)
        if not warm and isinstance(self.score, Quality):
            # the first run of a network takes longer
            method.restore(degraded[: self.train_size[0], : self.train_size[1]])
        return self.score(method, degraded, target)

    def _read(self, sample: Sample) -> tuple[Floats, Floats | None]:
        """Return the part of an image and its target that is used."""
        degraded, target, _ = sample.read()
        if self.crop is not None:
            degraded, target = _centre(degraded, target, self.crop)
        self.sizes[sample.name] = (degraded.shape[0], degraded.shape[1])
        return degraded, target

    def _note(self, candidate: Settings, sample: Sample, measured: Measured) -> None:
        self._of(candidate)[sample.name] = measured
        if self.journal:
            settings = json.loads(candidate.to_json())
            del settings["format"]
            size = self.sizes[sample.name]
            line = {"image": sample.name, "size": size, "settings": settings}
            self.journal.append({**line, **measured._asdict()})


def _sources(plan: Plan) -> tuple[Any, ...]:
    """Return what distinguishes two conversions of a network."""
    local = plan.with_status("local")
    rows = [
        (row.path, row.operation, row.source, row.window if row.source == "windows" else None)
        for row in local
    ]
    # a map of unknown size may have another window although the rows are equal
    unknown = any(row.window is None for row in local if row.source == "windows")
    return (*rows, plan.window if unknown else None, plan.stride if plan.takes_crops else None)


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
