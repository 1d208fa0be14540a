"""What was tried on a few images, which of it serves best, and what that is worth on others.

Scores are better when higher, one for each image, in one order for all trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glocal.ops.windows import Size
from glocal.study.intervals import Interval, paired

__all__ = ["Trial", "choose", "held_out_gain"]


@dataclass(frozen=True)
class Trial:
    """One way to make a network local, and how it served.

    Attributes:
        window: (height, width) in input pixels.
        kept: patterns of the operations that stayed global for it.
        scores: one for each image.
    """

    window: Size
    kept: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the scores."""
        return _mean(self.scores)

    def gain(self, original: Sequence[float]) -> Interval:
        """Over the original network, image by image."""
        return paired(self.scores, original)


def choose(trials: Sequence[Trial], images: Sequence[int] | None = None) -> Trial:
    """The trial that serves these images best, all of them by default.

    The window is the one of the highest mean; the first of equals. Operations stay global only
    where that gains more than the noise of the paired differences: it is the larger departure,
    and each group of operations that is tried is one more chance to be misled.

    >>> plain = Trial((96, 96), (), (30.0, 25.0, 28.0))
    >>> noisy = Trial((96, 96), ("norm",), (31.0, 25.1, 27.9))
    >>> clear = Trial((96, 96), ("pool",), (30.2, 25.2, 28.3))
    >>> choose([plain, noisy]).kept, choose([plain, noisy, clear]).kept
    ((), ('pool',))
    """
    chosen = range(len(trials[0].scores)) if images is None else images

    def scores(trial: Trial) -> list[float]:
        return [trial.scores[index] for index in chosen]

    def mean(trial: Trial) -> float:
        return _mean(scores(trial))

    fewest = min(len(trial.kept) for trial in trials)
    best = max((trial for trial in trials if len(trial.kept) == fewest), key=mean)
    while True:
        better = [
            trial
            for trial in trials
            if len(trial.kept) > len(best.kept) and paired(scores(trial), scores(best)).low > 0
        ]
        if not better:
            return best
        best = max(better, key=mean)


def held_out_gain(trials: Sequence[Trial], original: Sequence[float]) -> Interval:
    """The gain over the original on images that did not choose: each is left out in turn.

    A trial that was chosen for its score on an image is flattered by that score. Here the others
    choose, and the image that is left out only judges. At least two images.
    """
    images = range(len(original))
    held_out = [
        choose(trials, [other for other in images if other != image]).scores[image]
        for image in images
    ]
    return paired(held_out, original)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
