"""Choose the best of several trials, and estimate its gain on held-out images.

A trial has one score for each image; all trials have the images in the same order. Higher scores
are better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from glocal.inference.settings import Settings
from glocal.inference.ways import Way
from glocal.ops.windows import Size
from glocal.study.intervals import Interval, paired

__all__ = ["Trial", "choose", "held_out_gain"]


@dataclass(frozen=True)
class Trial:
    """One way of running a network and its scores.

    Attributes:
        settings: the way and its options; what they leave global is what this trial left global.
        scores: one for each image.
        seconds: mean over the images; None if not measured. Trials are compared without it.
    """

    settings: Settings
    scores: tuple[float, ...]
    seconds: float | None = field(default=None, compare=False)

    @property
    def way(self) -> Way:
        """The way, see `Way`."""
        return self.settings.way

    @property
    def window(self) -> Size | None:
        """(height, width) of the window in input pixels; None without windows."""
        window = self.settings.window
        return (window, window) if isinstance(window, int) else window

    @property
    def keep_global(self) -> tuple[str, ...]:
        """Patterns of the operations that this trial left global."""
        return self.settings.keep_global

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return _mean(self.scores)

    def gain(self, original: Sequence[float]) -> Interval:
        """Return the paired gain over the original network."""
        return paired(self.scores, original)


def choose(trials: Sequence[Trial], images: Sequence[int] | None = None) -> Trial:
    """Return the best trial on some images, by default on all.

    The highest mean wins, the first of equals. Operations are left global only if the gain exceeds
    the noise of the paired differences: it is the larger change, and each group that is tried is
    one more chance of a false positive.

    >>> def trial(keep_global, *scores):
    ...     return Trial(Settings("windows", window=96, keep_global=keep_global), scores)
    >>> plain = trial((), 30.0, 25.0, 28.0)
    >>> noisy = trial(("norm",), 31.0, 25.1, 27.9)
    >>> clear = trial(("pool",), 30.2, 25.2, 28.3)
    >>> choose([plain, noisy]).keep_global, choose([plain, noisy, clear]).keep_global
    ((), ('pool',))
    """
    chosen = range(len(trials[0].scores)) if images is None else images

    def scores(trial: Trial) -> list[float]:
        return [trial.scores[index] for index in chosen]

    def mean(trial: Trial) -> float:
        return _mean(scores(trial))

    fewest = min(len(trial.keep_global) for trial in trials)
    best = max((trial for trial in trials if len(trial.keep_global) == fewest), key=mean)
    while True:
        better = [
            trial
            for trial in trials
            if len(trial.keep_global) > len(best.keep_global)
            and paired(scores(trial), scores(best)).low > 0
        ]
        if not better:
            return best
        best = max(better, key=mean)


def held_out_gain(trials: Sequence[Trial], original: Sequence[float]) -> Interval:
    """Return the gain over the original by leave-one-out validation.

    A trial chosen for its score on an image has an inflated score there. So each image in turn is
    held out, the others choose, and the held-out image gives the score.

    Args:
        trials: with at least two images.
        original: scores of the original network.
    """
    images = range(len(original))
    held_out = [
        choose(trials, [other for other in images if other != image]).scores[image]
        for image in images
    ]
    return paired(held_out, original)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
