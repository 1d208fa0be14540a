"""What a tuning found: which window, what to leave global, or the original network after all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from glocal.ops.windows import Size
from glocal.study.intervals import Interval
from glocal.study.tuning.groups import Group
from glocal.study.tuning.trials import Trial, choose, held_out_gain
from glocal.texts import size_text, text_table

__all__ = ["DISTANCE", "Tuning", "Verdict"]

DISTANCE = "distance"
"""What is judged where there are no targets; lower is better, scores are its negative."""

Verdict = Literal[
    "better", "not significant", "not confirmed", "does not hold", "worse", "nothing to convert",
    "nothing larger",
]  # fmt: skip

_RANGE = 4
"""So many windows have two ends."""


@dataclass(frozen=True)
class Tuning:
    """What was tried on a few images, and the recommendation that follows; print it for a table.

    Attributes:
        train_size: (height, width) of the training crops, input pixels.
        metric: name of the metric, or `DISTANCE`.
        images: names of the images.
        original: score of the original network on the whole image, of each image.
        trials: all that was tried; scores are better when higher.
        groups: of operations that were tried global, and the patterns for them.
        always_kept: patterns that were global from the start.
        convertible: how many operations the network has that can be made local.
        notes: what could not be tried, in sentences.
        protocol: how the scores are computed, in words.
    """

    train_size: Size
    metric: str
    images: tuple[str, ...]
    original: tuple[float, ...]
    trials: tuple[Trial, ...]
    groups: tuple[Group, ...] = ()
    always_kept: tuple[str, ...] = ()
    convertible: int = 1
    notes: tuple[str, ...] = ()
    protocol: str = ""

    @property
    def best(self) -> Trial | None:
        """The trial that serves all images best, None where there was nothing to try."""
        return choose(self.trials) if self.trials else None

    @property
    def fitted(self) -> Interval | None:
        """The gain of the best trial over the original, on the images that chose it."""
        return self.best.gain(self.original) if self.best else None

    @property
    def gain(self) -> Interval | None:
        """What to expect on other images: the gain on each image when the others choose.

        Of one image, which has no others, the gain on itself.
        """
        if len(self.images) < 2:
            return self.fitted
        return held_out_gain(self.trials, self.original) if self.trials else None

    @property
    def verdict(self) -> Verdict:
        """How sure it is that TLC helps; the last four mean that the original is recommended."""
        fitted, gain = self.fitted, self.gain
        if fitted is None or gain is None:
            return "nothing larger" if self.convertible else "nothing to convert"
        if fitted.mean <= 0:
            return "worse"
        if gain.mean <= 0:
            return "does not hold"
        if gain.count < 2:
            return "not confirmed"
        return "better" if gain.low > 0 else "not significant"

    @property
    def use_original(self) -> bool:
        """Whether the original network on the whole image is recommended, without TLC."""
        return self.verdict not in ("better", "not significant", "not confirmed")

    @property
    def window(self) -> Size | None:
        """The recommended window (height, width) in input pixels; None to use the original."""
        return None if self.use_original or self.best is None else self.best.window

    @property
    def keep_global(self) -> tuple[str, ...]:
        """Patterns of the operations to leave global: all of them, to use the original."""
        if self.use_original or self.best is None:
            return ("*",) if self.convertible else self.always_kept
        return (*self.always_kept, *self.best.kept)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `localize` that do what is recommended.

        Where that is the original network, every operation is kept global.
        """
        chosen = {"train_size": self.train_size, "keep_global": self.keep_global}
        return chosen if self.window is None else {**chosen, "window": self.window}

    def advice(self) -> str:
        """The recommendation in one or two sentences."""
        verdict, best, fitted, gain = self.verdict, self.best, self.fitted, self.gain
        if verdict == "nothing to convert" and self.always_kept:
            return "No operation is left to convert besides those kept global: TLC changes nothing."
        if verdict == "nothing to convert":
            return "The network has no global operations to convert: TLC would change nothing."
        if best is None or fitted is None or gain is None:
            return (
                "No image is larger than the windows: TLC would change nothing on these images. "
                "Give images of the size of the photographs in use."
            )
        window = size_text(best.window)
        if verdict == "worse":
            return (
                f"Run the original network on the whole image: even with the best window, {window}"
                f"{self._without(best)}, TLC {self._loss(fitted)}."
            )
        if verdict == "does not hold":
            return (
                f"Run the original network on the whole image: TLC with a window of {window}"
                f"{self._without(best)} gains {self._said(fitted)} on the images that chose it, "
                f"but {self._said(gain)} on images that did not."
            )
        than = "than" if self.metric == DISTANCE else "over"
        use = (
            f"Use TLC with a window of {window}{self._without(best)}: {self._said(gain)} {than} "
            "the whole image"
        )
        if verdict == "not confirmed":
            return (
                f"{use}. This gain is not confirmed: the one image that it is measured on chose "
                f"the window; give more.{self._edge(best)}"
            )
        text = f"{use}, on images that did not choose it"
        if verdict == "not significant":
            return (
                f"{text}. This gain is not significant: its interval includes 0, and the original "
                f"may serve as well.{self._edge(best)}"
            )
        return f"{text}.{self._edge(best)}"

    def _edge(self, best: Trial) -> str:
        """A doubt where the window at an end of a range won, which tells of no best one."""
        areas = {trial.window[0] * trial.window[1] for trial in self.trials}
        area = best.window[0] * best.window[1]
        if len(areas) < _RANGE or min(areas) < area < max(areas):
            return ""
        end = "smallest" if area == min(areas) else "largest"
        return f" The window is the {end} that was tried: doubt it."

    @property
    def proxy(self) -> str:
        """What a recommendation without ground truth rests on; empty where there is some."""
        if self.metric != DISTANCE:
            return ""
        return (
            "There are no targets. This is judged by a proxy, how far the statistics of the "
            "global operations lie from those of training-size crops, and not by quality. A whole "
            "image has one value of a statistic, which lies about 0.8 deviations from any spread "
            "of values: less than that says little."
        )

    def rows(self) -> list[tuple[str, ...]]:
        """The table: window, window ÷ training size, what stays global, mean score, gain."""
        full = sum(self.original) / len(self.original) if self.original else None
        rows: list[tuple[str, ...]] = [
            ("full image", "-", "all", "-" if full is None else self._score(full), "-")
        ]
        for trial in sorted(self.trials, key=lambda trial: (trial.kept, trial.window)):
            names = ", ".join(self.names(trial.kept)) or "-"
            scales = [f"{w / t:.2f}" for w, t in zip(trial.window, self.train_size, strict=True)]
            scale = scales[0] if scales[0] == scales[1] else "x".join(scales)
            gain = trial.gain(self.original).text(self._digits)
            rows.append((size_text(trial.window), scale, names, self._score(trial.mean), gain))
            if trial == self.best:
                rows[-1] = (f"{rows[-1][0]} *", *rows[-1][1:])
        return rows

    @property
    def heads(self) -> tuple[str, ...]:
        """Of the columns of `rows`."""
        return ("window", "÷ train", "left global", self.metric, f"gain{self.unit and ', dB'}")

    def names(self, kept: tuple[str, ...]) -> list[str]:
        """Names of the groups that these patterns keep global."""
        return [group.name for group in self.groups if set(group.patterns) <= set(kept)]

    @property
    def unit(self) -> str:
        """Of the scores, with a space before it; empty where they have none."""
        return " dB" if self.metric.startswith("psnr") else ""

    def to_json(self) -> str:
        """Everything that was found, and the recommendation, as JSON text."""
        data: dict[str, Any] = {
            "verdict": self.verdict,
            "use_original": self.use_original,
            "window": self.window,
            "keep_global": self.keep_global,
            "gain": _interval(self.gain),
            "gain_on_the_images_that_chose": _interval(self.fitted),
            "advice": " ".join(filter(None, [self.advice(), self.proxy])),
            **asdict(self),
        }
        return json.dumps(data, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        table = text_table([self.heads, *self.rows()])
        below = filter(None, [self.protocol, *self.notes, self.advice(), self.proxy])
        return "\n".join([table, *below])

    @property
    def _digits(self) -> int:
        return 2 if self.unit else 4

    def _score(self, value: float) -> str:
        # a distance was negated to make more of it better
        return f"{abs(value) if self.metric == DISTANCE else value:.{self._digits}f}"

    def _said(self, gain: Interval) -> str:
        if self.metric != DISTANCE:
            return f"{gain.text(self._digits)}{self.unit}"
        nearer = "nearer to" if gain.mean > 0 else "farther from"
        size = Interval(abs(gain.mean), gain.half_width, gain.count, gain.level)
        return f"{size.text(self._digits, sign=False)} {nearer} the statistics of crops"

    def _loss(self, gain: Interval) -> str:
        if gain.mean == 0:
            return "changes nothing"
        if self.metric == DISTANCE:
            return f"lies {self._said(gain)}"
        size = Interval(-gain.mean, gain.half_width, gain.count, gain.level)
        return f"is worse by {size.text(self._digits, sign=False)}{self.unit}"

    def _without(self, trial: Trial) -> str:
        names = self.names(trial.kept)
        return f" and {' and '.join(names)} left global" if names else ""


def _interval(interval: Interval | None) -> Mapping[str, float | None] | None:
    """As JSON has it, which knows no NaN."""
    if interval is None:
        return None
    one = interval.half_width != interval.half_width
    return {**asdict(interval), "half_width": None if one else interval.half_width}
