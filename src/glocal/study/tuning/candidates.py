"""Generate what `tune` tries: ways, their options, operations to leave global.

The search measures nothing itself: it yields batches of candidates and receives their trials, so
its caller measures, logs and reports.
"""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from glocal.inference.settings import Settings
from glocal.inference.ways import CONVERTING, Way
from glocal.ops.windows import Size
from glocal.study.tuning.groups import Group
from glocal.study.tuning.trials import Trial, choose

__all__ = ["SCALES", "STRIDES", "Batch", "Search"]

SCALES = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Window ÷ training size of the first candidates; published windows are from 0.3 to 1.5."""

ROUNDS = 2
"""How often the gaps beside the best window are halved, on a logarithmic scale."""

STRIDES = (2.0, 1.0)
"""Most distance between crops, in crops; the cheapest is first and wins where scores are equal."""

AXIS_STEPS = (0.5, 0.7, 1.4, 2.0)
"""Factors for the height alone and the width alone."""


@dataclass(frozen=True)
class Batch:
    """Candidates that may be measured in any order.

    Attributes:
        stage: what the batch tries, in a word or two.
        candidates: ways with their options.
    """

    stage: str
    candidates: tuple[Settings, ...]


Steps: TypeAlias = Generator[Batch, Sequence[Trial], None]


@dataclass
class Search:
    """A search; drive `run()` by sending it the trials of every batch that it yields.

    Attributes:
        train_size: (height, width) of the training crops.
        covers_images: returns True for a window or crop that covers every image, which makes the
            result that of the original network.
        ways: to try; "auto" needs "windows" and "crops".
        groups: of operations to try leaving global; empty to convert all.
        ungrouped: True if some operations are in no group; these are always local.
        per_axis: refine height and width separately at the end.
        trials: all trials received.
    """

    train_size: Size
    covers_images: Callable[[Size], bool]
    ways: Sequence[Way] = ("windows",)
    groups: Sequence[Group] = ()
    ungrouped: bool = False
    per_axis: bool = False
    trials: list[Trial] = field(default_factory=list)

    def run(self) -> Steps:
        """Yield windows from coarse to fine, then ways, operations, and each axis."""
        yield from self._windows("windows", ())
        yield from self._other_ways()
        if not self._of(CONVERTING):
            return
        yield from self._operations()
        if self.per_axis:
            yield from self._axes()

    def _other_ways(self) -> Steps:
        """From the cheapest to the dearest."""
        if "crops" in self.ways:
            yield from self._try(
                "crops", [Settings("crops", self.train_size, stride=stride) for stride in STRIDES]
            )
        windows, crops = self._of(("windows",)), self._of(("crops",))
        if "auto" in self.ways and windows and crops:
            auto = Settings(
                "auto",
                self.train_size,
                window=choose(windows).window,
                stride=choose(crops).settings.stride,
            )
            yield from self._try("auto", [auto])
        if "stitch" in self.ways:
            yield from self._try("crop-and-stitch", [Settings("stitch", self.train_size)])

    def _windows(self, stage: str, keep: tuple[str, ...]) -> Steps:
        joint = [self._scaled(scale) for scale in SCALES]
        yield from self._try(stage, [self._on_windows(window, keep) for window in joint])
        for _ in range(ROUNDS):
            trials = {
                trial.window: trial
                for trial in self._of(("windows",))
                if trial.keep_global == keep and trial.window in joint
            }
            tried = sorted(window for window in trials if window is not None)
            if not tried:
                return
            best = choose([trials[window] for window in tried]).window
            assert best is not None
            place = tried.index(best)
            between = [
                _between(near, best)
                for near in tried[max(0, place - 1) : place + 2]
                if near != best
            ]
            joint += between
            yield from self._try(
                f"{stage}, finer", [self._on_windows(window, keep) for window in between]
            )

    def _operations(self) -> Steps:
        """Leave one more group global while that gains more than noise."""
        while True:
            best = choose(self._of(CONVERTING))
            remaining = [
                group for group in self.groups if not set(group.patterns) <= set(best.keep_global)
            ]
            if not remaining or (len(remaining) == 1 and not self.ungrouped):
                return  # with every operation global it would be the original network
            candidates = [
                replace(best.settings, keep_global=(*best.keep_global, *group.patterns))
                for group in remaining
            ]
            yield from self._try("operations", candidates)
            chosen = choose(self._of(CONVERTING))
            if chosen.keep_global == best.keep_global:
                return
            # the best way and window may differ for the operations that are still local
            keep = chosen.keep_global
            yield from self._windows("windows again", keep)
            again = [choose(trials) for way in ("crops", "auto") if (trials := self._of((way,)))]
            yield from self._try(
                "crops again", [replace(trial.settings, keep_global=keep) for trial in again]
            )

    def _axes(self) -> Steps:
        for axis, name in enumerate(("height", "width")):
            trials = self._of(("windows",))
            if not trials:
                return
            best = choose(trials)
            assert best.window is not None
            limits = self._scaled(SCALES[0])[axis], self._scaled(SCALES[-1])[axis]
            candidates = []
            for step in AXIS_STEPS:
                side = min(max(round(best.window[axis] * step), limits[0]), limits[1])
                window = (side, best.window[1]) if axis == 0 else (best.window[0], side)
                candidates.append(replace(best.settings, window=window))
            yield from self._try(f"{name} alone", candidates)

    def _try(self, stage: str, candidates: Iterable[Settings]) -> Steps:
        known = {trial.settings for trial in self.trials}
        new = [
            candidate
            for candidate in dict.fromkeys(candidates)
            if candidate not in known and not self._is_original(candidate)
        ]
        if new:
            self.trials += yield Batch(stage, tuple(new))

    def _of(self, ways: Sequence[Way]) -> list[Trial]:
        return [trial for trial in self.trials if trial.way in ways]

    def _is_original(self, candidate: Settings) -> bool:
        """Return True if a candidate equals the original network on every image."""
        window = candidate.window if candidate.way == "windows" else None
        size = self.train_size if window is None else window
        return self.covers_images((size, size) if isinstance(size, int) else size)

    def _on_windows(self, window: Size, keep: tuple[str, ...]) -> Settings:
        return Settings("windows", self.train_size, window=window, keep_global=keep)

    def _scaled(self, scale: float) -> Size:
        return (max(1, int(self.train_size[0] * scale)), max(1, int(self.train_size[1] * scale)))


def _between(first: Size, second: Size) -> Size:
    """Return the geometric mean of two windows, axis by axis."""
    height, width = (round(math.sqrt(a * b)) for a, b in zip(first, second, strict=True))
    return (height, width)
