"""Generate the windows, and the operations to leave global, that `tune` tries.

The search measures nothing itself: it yields batches of candidates and receives their trials, so
its caller measures, logs and reports.
"""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from glocal.ops.windows import Size
from glocal.study.tuning.groups import Group
from glocal.study.tuning.trials import Trial, choose

__all__ = ["SCALES", "Batch", "Search"]

SCALES = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Window ÷ training size of the first candidates; published windows are from 0.3 to 1.5."""

ROUNDS = 2
"""How often the gaps beside the best window are halved, on a logarithmic scale."""

AXIS_STEPS = (0.5, 0.7, 1.4, 2.0)
"""Factors for the height alone and the width alone."""

Candidate: TypeAlias = tuple[Size, tuple[str, ...]]


@dataclass(frozen=True)
class Batch:
    """Candidates that may be measured in any order.

    Attributes:
        stage: what the batch tries, in a word or two.
        candidates: (window in input pixels, patterns of operations to leave global).
    """

    stage: str
    candidates: tuple[Candidate, ...]


Steps: TypeAlias = Generator[Batch, Sequence[Trial], None]


@dataclass
class Search:
    """A search; drive `run()` by sending it the trials of every batch that it yields.

    Attributes:
        train_size: (height, width) of the training crops.
        covers_images: returns True for a window that covers every image, which makes the
            converted network equal to the original.
        groups: of operations to try leaving global; empty to convert all.
        ungrouped: True if some operations are in no group; these are always local.
        per_axis: refine height and width separately at the end.
        trials: all trials received.
    """

    train_size: Size
    covers_images: Callable[[Size], bool]
    groups: Sequence[Group] = ()
    ungrouped: bool = False
    per_axis: bool = False
    trials: list[Trial] = field(default_factory=list)

    def run(self) -> Steps:
        """Yield windows from coarse to fine, then operations, then each axis alone."""
        yield from self._windows("windows", ())
        if not self.trials:
            return
        yield from self._operations()
        if self.per_axis:
            yield from self._axes()

    def _windows(self, stage: str, keep: tuple[str, ...]) -> Steps:
        joint = [self._scaled(scale) for scale in SCALES]
        yield from self._try(stage, [(window, keep) for window in joint])
        for _ in range(ROUNDS):
            tried = sorted(
                {t.window for t in self.trials if t.keep_global == keep and t.window in joint}
            )
            if not tried:
                return
            best = choose(
                [t for t in self.trials if t.keep_global == keep and t.window in tried]
            ).window
            place = tried.index(best)
            between = [
                _between(near, best)
                for near in tried[max(0, place - 1) : place + 2]
                if near != best
            ]
            joint += between
            yield from self._try(f"{stage}, finer", [(window, keep) for window in between])

    def _operations(self) -> Steps:
        """Leave one more group global while that gains more than noise."""
        while True:
            best = choose(self.trials)
            remaining = [
                group for group in self.groups if not set(group.patterns) <= set(best.keep_global)
            ]
            if not remaining or (len(remaining) == 1 and not self.ungrouped):
                return  # with every operation global it would be the original network
            candidates = [
                (best.window, (*best.keep_global, *group.patterns)) for group in remaining
            ]
            yield from self._try("operations", candidates)
            keep = choose(self.trials).keep_global
            if keep == best.keep_global:
                return
            # the best window may differ for the operations that are still local
            yield from self._windows("windows again", keep)

    def _axes(self) -> Steps:
        for axis, name in enumerate(("height", "width")):
            best = choose(self.trials)
            limits = self._scaled(SCALES[0])[axis], self._scaled(SCALES[-1])[axis]
            candidates = []
            for step in AXIS_STEPS:
                side = min(max(round(best.window[axis] * step), limits[0]), limits[1])
                window = (side, best.window[1]) if axis == 0 else (best.window[0], side)
                candidates.append((window, best.keep_global))
            yield from self._try(f"{name} alone", candidates)

    def _try(self, stage: str, candidates: Iterable[Candidate]) -> Steps:
        known = {(trial.window, trial.keep_global) for trial in self.trials}
        new = [
            candidate
            for candidate in dict.fromkeys(candidates)
            if candidate not in known and not self.covers_images(candidate[0])
        ]
        if new:
            self.trials += yield Batch(stage, tuple(new))

    def _scaled(self, scale: float) -> Size:
        return (max(1, int(self.train_size[0] * scale)), max(1, int(self.train_size[1] * scale)))


def _between(first: Size, second: Size) -> Size:
    """Return the geometric mean of two windows, axis by axis."""
    height, width = (round(math.sqrt(a * b)) for a, b in zip(first, second, strict=True))
    return (height, width)
