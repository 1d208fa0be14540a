"""Scores of one network, converted in many ways, on the same images; resumable."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glocal.conversion.localize import localize, plan_of
from glocal.data.datasets import read_pair
from glocal.data.pairing import Pair
from glocal.errors import ArgumentError, ConversionError
from glocal.inference.runner import device_of
from glocal.metrics import Metric
from glocal.ops.windows import Size, covers
from glocal.runs.journal import Journal
from glocal.scanning.plan import Plan
from glocal.study.evaluation.ways import Way
from glocal.study.shift.measure import statistics_shift

__all__ = ["Candidate", "Measuring", "Nearness", "Quality", "Score", "covers_all"]

PERFECT = 100.0
"""What an infinite score counts: the PSNR of equal images would outweigh all others."""

PADDING = 64
"""Networks, and `glocal.restore`, pad images up to multiples of at most this."""

Floats: TypeAlias = NDArray[np.float32]
Candidate: TypeAlias = tuple[Size | None, tuple[str, ...]]


class Score(Protocol):
    """Judges a network on an image; higher is better, finite."""

    def __call__(
        self, network: nn.Module, window: Size | None, degraded: Floats, target: Floats | None
    ) -> float:
        """The score of the network, which was converted for this window, None for the original."""


def covers_all(window: Size, size: Size) -> bool:
    """Whether a window covers an image of that size also when it is padded.

    >>> covers_all((100, 130), (97, 128)), covers_all((128, 130), (97, 128))
    (False, True)
    """
    return covers(window, (-(-size[0] // PADDING) * PADDING, -(-size[1] // PADDING) * PADDING))


@dataclass(frozen=True)
class Quality:
    """Scores a network by a metric of the image that it restores.

    Attributes:
        metric: what to compare by.
        round8, border: see `glocal.metrics`.
        options: of `glocal.restore`.
    """

    metric: Metric
    round8: bool
    border: int
    options: Mapping[str, Any]

    def __call__(
        self, network: nn.Module, window: Size | None, degraded: Floats, target: Floats | None
    ) -> float:
        """The metric; 0 for images that are not finite, `PERFECT` at most."""
        assert target is not None
        restored = Way("", network, "", self.options).restore(degraded)
        value = self.metric.function(restored, target, round8=self.round8, border=self.border)
        value = value if self.metric.higher_is_better else -value
        return 0.0 if math.isnan(value) else min(value, PERFECT)


@dataclass(frozen=True)
class Nearness:
    """Scores a window by the statistics of the global operations, without any ground truth.

    Attributes:
        model: the network, not converted.
        train: (height, width) of the training crops.
        conversion: arguments of `localize`.
        device: where to run, None for where the network is.
    """

    model: nn.Module
    train: Size
    conversion: Mapping[str, Any]
    device: torch.device | str | None = None

    def __call__(
        self, network: nn.Module, window: Size | None, degraded: Floats, target: Floats | None
    ) -> float:
        """Minus the mean distance from the statistics of the image's own training-size crops."""
        device = device_of(self.model, self.device)
        image = torch.from_numpy(np.ascontiguousarray(degraded)).permute(2, 0, 1)[None].to(device)
        options = {name: self.conversion[name] for name in ("keep_global", "rules")}
        shifts = statistics_shift(
            self.model.to(device), [image], self.train, windows=[window], **options
        )
        distance = shifts.full if window is None else shifts.local[window]
        return 0.0 if math.isnan(distance) else -distance


@dataclass
class Measuring:
    """Measurements of candidates: a window, None for the original, and the patterns kept global.

    Attributes:
        model: the network, not converted.
        train: (height, width) of the training crops.
        images: what to measure on.
        crop: use so much of the centre of each image, None for all of it.
        conversion: arguments of `localize`.
        plan: of the conversion by these arguments.
        score: of a network on an image.
        journal: what was measured before, and where to write more.
        sizes: (height, width) of the images that were seen.
    """

    model: nn.Module
    train: Size
    images: Sequence[Pair]
    crop: Size | None
    conversion: Mapping[str, Any]
    plan: Plan
    score: Score
    journal: Journal | None = None
    sizes: dict[str, Size] = field(default_factory=dict)
    _known: dict[Candidate, dict[str, float]] = field(default_factory=dict)
    _twins: dict[Any, Candidate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.journal.lines if self.journal else ():
            window = line["window"] and tuple(line["window"])
            self._of((window, tuple(line["kept"])))[line["image"]] = line["score"]
            self.sizes[line["image"]] = tuple(line["size"])

    def scores(
        self, candidate: Candidate, done: Callable[[], None] = lambda: None
    ) -> tuple[float, ...] | None:
        """Of every image; calls `done` after each. None where the candidate cannot be had.

        A window whose plan is another's, for maps are smaller than images, is not run again, and
        nor is one that covers the image.
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
        for pair in self.images:
            if pair.name not in known:
                if pair.name in twin:
                    value = twin[pair.name]
                elif candidate[0] and covers_all(candidate[0], self.sizes[pair.name]):
                    value = original[pair.name]
                else:
                    value = self._measure(network, candidate[0], pair)
                self._note(candidate, pair, value)
            done()
        return tuple(known[pair.name] for pair in self.images)

    def _of(self, candidate: Candidate) -> dict[str, float]:
        return self._known.setdefault(candidate, {})

    def _converted(self, candidate: Candidate) -> nn.Module | None:
        """The network with this window, or None where just these cannot stay global."""
        window, kept = candidate
        patterns = (*self.conversion["keep_global"], *kept)
        options = {**self.conversion, "keep_global": patterns, "window": window}
        try:
            network = localize(self.model, self.train, **options)
        except (ArgumentError, ConversionError):
            if kept:
                return None
            raise
        left = {(row.path, row.operation) for row in plan_of(network).with_status("global")}
        known = {(row.path, row.operation) for row in self.plan.with_status("global")}
        # what shares a block with an operation that is kept may be left global against our will
        return network if left <= known else None

    def _measure(self, network: nn.Module, window: Size | None, pair: Pair) -> float:
        degraded, target = read_pair(pair)
        if self.crop is not None:
            degraded, target = _centre(degraded, target, self.crop)
        self.sizes[pair.name] = (degraded.shape[0], degraded.shape[1])
        return self.score(network, window, degraded, target)

    def _note(self, candidate: Candidate, pair: Pair, value: float) -> None:
        self._of(candidate)[pair.name] = value
        if self.journal:
            window, kept = candidate
            size = self.sizes[pair.name]
            line = {"image": pair.name, "size": size, "window": window, "kept": kept}
            self.journal.append({**line, "score": value})


def _windows(plan: Plan) -> tuple[Any, ...]:
    """What tells one conversion of a network from another."""
    rows = [(row.path, row.operation, row.window) for row in plan.with_status("local")]
    # maps whose size cannot be told may follow the window in steps of their own
    unknown = any(row.window is None for row in plan.with_status("local"))
    return (*rows, plan.window if unknown else None)


def _centre(degraded: Floats, target: Floats | None, size: Size) -> tuple[Floats, Floats | None]:
    """The same part of both; a super-resolution target is larger by a whole factor."""
    inside = [
        slice(start := max(0, (have - want) // 2), start + want)
        for have, want in zip(degraded.shape, size, strict=False)
    ]
    if target is None:
        return degraded[*inside], None
    factor = target.shape[0] // degraded.shape[0]
    return degraded[*inside], target[*(slice(s.start * factor, s.stop * factor) for s in inside)]
