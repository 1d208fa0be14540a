"""Which windows, and which operations to leave global, are worth trying in which order.

The search runs nothing itself: it asks for batches of candidates and is sent their trials, so
that whoever drives it may measure, log and report as they like.
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
"""Windows ÷ training size that are tried first. Published ones lie between 0.3 and 1.5."""

ROUNDS = 2
"""Of halving, on a logarithmic scale, the gaps on both sides of the best window."""

AXIS_STEPS = (0.5, 0.7, 1.4, 2.0)
"""What the height and the width alone are multiplied with."""

Candidate: TypeAlias = tuple[Size, tuple[str, ...]]


@dataclass(frozen=True)
class Batch:
    """Candidates that may be measured in any order.

    Attributes:
        stage: what the search is about, in a word or two.
        candidates: pairs of a window in input pixels and the patterns that are kept global.
    """

    stage: str
    candidates: tuple[Candidate, ...]


Steps: TypeAlias = Generator[Batch, Sequence[Trial], None]


@dataclass
class Search:
    """A search under way; drive `run()` by sending it the trials of every batch it yields.

    Attributes:
        train: (height, width) of the training crops.
        needless: whether a window covers every image, so that it is the original network.
        groups: of operations that may be left global; none to convert all.
        ungrouped: whether there are operations in none of the groups, which are always local.
        per_axis: whether to refine the height and the width alone in the end.
        trials: all that was sent.
    """

    train: Size
    needless: Callable[[Size], bool]
    groups: Sequence[Group] = ()
    ungrouped: bool = False
    per_axis: bool = False
    trials: list[Trial] = field(default_factory=list)

    def run(self) -> Steps:
        """Windows first, joint and coarse to fine; then operations; then each axis alone."""
        yield from self._windows("windows", ())
        if not self.trials:
            return
        yield from self._operations()
        if self.per_axis:
            yield from self._axes()

    def _windows(self, stage: str, kept: tuple[str, ...]) -> Steps:
        joint = [self._scaled(scale) for scale in SCALES]
        yield from self._try(stage, [(window, kept) for window in joint])
        for _ in range(ROUNDS):
            tried = sorted({t.window for t in self.trials if t.kept == kept and t.window in joint})
            if not tried:
                return
            best = choose([t for t in self.trials if t.kept == kept and t.window in tried]).window
            place = tried.index(best)
            between = [
                _between(near, best)
                for near in tried[max(0, place - 1) : place + 2]
                if near != best
            ]
            joint += between
            yield from self._try(f"{stage}, finer", [(window, kept) for window in between])

    def _operations(self) -> Steps:
        """Backward elimination: leave one more group global while that helps beyond noise."""
        while True:
            best = choose(self.trials)
            left = [group for group in self.groups if not set(group.patterns) <= set(best.kept)]
            if not left or (len(left) == 1 and not self.ungrouped):
                return  # without the last of all operations it is the original network
            candidates = [(best.window, (*best.kept, *group.patterns)) for group in left]
            yield from self._try("operations", candidates)
            kept = choose(self.trials).kept
            if kept == best.kept:
                return
            # what is still local may want another window than all together did
            yield from self._windows("windows again", kept)

    def _axes(self) -> Steps:
        for axis, name in enumerate(("height", "width")):
            best = choose(self.trials)
            limits = self._scaled(SCALES[0])[axis], self._scaled(SCALES[-1])[axis]
            candidates = []
            for step in AXIS_STEPS:
                side = min(max(round(best.window[axis] * step), limits[0]), limits[1])
                window = (side, best.window[1]) if axis == 0 else (best.window[0], side)
                candidates.append((window, best.kept))
            yield from self._try(f"{name} alone", candidates)

    def _try(self, stage: str, candidates: Iterable[Candidate]) -> Steps:
        known = {(trial.window, trial.kept) for trial in self.trials}
        new = [
            candidate
            for candidate in dict.fromkeys(candidates)
            if candidate not in known and not self.needless(candidate[0])
        ]
        if new:
            self.trials += yield Batch(stage, tuple(new))

    def _scaled(self, scale: float) -> Size:
        return (max(1, int(self.train[0] * scale)), max(1, int(self.train[1] * scale)))


def _between(first: Size, second: Size) -> Size:
    """The geometric mean of two windows, axis by axis."""
    height, width = (round(math.sqrt(a * b)) for a, b in zip(first, second, strict=True))
    return (height, width)
