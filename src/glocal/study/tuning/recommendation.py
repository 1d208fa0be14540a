"""The result of `tune`: trials and a recommendation."""

import json
import math
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
"""Name of the score without targets; lower is better, so scores are its negative."""

Verdict = Literal[
    "better", "not significant", "single image", "overfitted", "worse", "nothing to convert",
    "images too small",
]  # fmt: skip
"""How certain it is that TLC helps; with the last four, the original network is recommended.

- better: the held-out gain is above 0 with 95 % confidence
- not significant: the held-out gain is above 0, but its interval includes 0
- single image: there is a gain, but no other image to validate it on
- overfitted: there is a gain on the images that chose the window, but none on held-out images
- worse: no window gains anything
- nothing to convert: the network has no operation to convert
- images too small: every window covers every image
"""

_RANGE = 4
"""Fewest window sizes for which the largest or smallest counts as the end of a range."""


@dataclass(frozen=True)
class Tuning:
    """The trials of `tune` and its recommendation; print it for a table.

    Attributes:
        train_size: (height, width) of the training crops in pixels.
        metric: name of the metric; "distance" without targets.
        images: names of the images.
        original: scores of the original network on the whole images.
        trials: all trials.
        groups: of operations that `tune` tried to leave global.
        always_global: patterns of the operations that the caller left global.
        convertible: number of operations that can be made local.
        notes: sentences about what could not be tried.
        protocol: how the scores are computed, as text.
    """

    train_size: Size
    metric: str
    images: tuple[str, ...]
    original: tuple[float, ...]
    trials: tuple[Trial, ...]
    groups: tuple[Group, ...] = ()
    always_global: tuple[str, ...] = ()
    convertible: int = 1
    notes: tuple[str, ...] = ()
    protocol: str = ""

    @property
    def best(self) -> Trial | None:
        """The best trial on all images; None without trials."""
        return choose(self.trials) if self.trials else None

    @property
    def fitted_gain(self) -> Interval | None:
        """Gain of the best trial on the images that chose it, which is optimistic."""
        return self.best.gain(self.original) if self.best else None

    @property
    def gain(self) -> Interval | None:
        """Expected gain on other images, by leave-one-out validation.

        With a single image it is the fitted gain.
        """
        if len(self.images) < 2:
            return self.fitted_gain
        return held_out_gain(self.trials, self.original) if self.trials else None

    @property
    def verdict(self) -> Verdict:
        """How certain it is that TLC helps, see `Verdict`."""
        fitted, gain = self.fitted_gain, self.gain
        if fitted is None or gain is None:
            return "images too small" if self.convertible else "nothing to convert"
        if fitted.mean <= 0:
            return "worse"
        if gain.mean <= 0:
            return "overfitted"
        if gain.count < 2:
            return "single image"
        return "better" if gain.low > 0 else "not significant"

    @property
    def use_original(self) -> bool:
        """True if the original network is recommended, without TLC."""
        return self.verdict not in ("better", "not significant", "single image")

    @property
    def window(self) -> Size | None:
        """Recommended window, (height, width) in input pixels; None for the original."""
        return None if self.use_original or self.best is None else self.best.window

    @property
    def keep_global(self) -> tuple[str, ...]:
        """Patterns of operations to leave global; all, to use the original network."""
        if self.use_original or self.best is None:
            return ("*",) if self.convertible else self.always_global
        return (*self.always_global, *self.best.keep_global)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `localize` for the recommendation.

        If the original network is recommended, they leave every operation global.
        """
        chosen = {"train_size": self.train_size, "keep_global": self.keep_global}
        return chosen if self.window is None else {**chosen, "window": self.window}

    def advice(self) -> str:
        """Return the recommendation in one or two sentences."""
        verdict, best, fitted, gain = self.verdict, self.best, self.fitted_gain, self.gain
        if verdict == "nothing to convert" and self.always_global:
            return "keep_global covers all operations that could be converted; TLC changes nothing."
        if verdict == "nothing to convert":
            return "The network has no global operations to convert; TLC would change nothing."
        if best is None or fitted is None or gain is None:
            return (
                "Every window covers every image, so TLC would change nothing on these images. "
                "Give images as large as those you restore."
            )
        window = size_text(best.window)
        if verdict == "worse":
            return (
                f"Use the original network on the whole image: even with the best window, {window}"
                f"{self._without(best)}, TLC {self._loss(fitted)}."
            )
        if verdict == "overfitted":
            return (
                f"Use the original network on the whole image: TLC with a window of {window}"
                f"{self._without(best)} gains {self._gain_text(fitted)} on the images that chose "
                f"it, but {self._gain_text(gain)} on held-out images."
            )
        than = "than" if self.metric == DISTANCE else "over"
        use = (
            f"Use TLC with a window of {window}{self._without(best)}: "
            f"{self._gain_text(gain)} {than} the whole image"
        )
        if verdict == "single image":
            return (
                f"{use}. The gain is not validated, because the only image chose the window; give "
                f"more images.{self._edge(best)}"
            )
        text = f"{use}, on held-out images"
        if verdict == "not significant":
            return (
                f"{text}. The gain is not significant: its interval includes 0, so the original "
                f"network may be as good.{self._edge(best)}"
            )
        return f"{text}.{self._edge(best)}"

    def _edge(self, best: Trial) -> str:
        """Return a warning if the best window is the end of the range that was tried."""
        areas = {trial.window[0] * trial.window[1] for trial in self.trials}
        area = best.window[0] * best.window[1]
        if len(areas) < _RANGE or min(areas) < area < max(areas):
            return ""
        if area == min(areas):
            return " It is the smallest window that was tried; a smaller one may be better."
        return " It is the largest window that was tried; a larger one may be better."

    @property
    def proxy_note(self) -> str:
        """What a recommendation without targets is based on; empty with targets."""
        if self.metric != DISTANCE:
            return ""
        return (
            "There are no targets, so the score is not quality but a proxy: the distance of the "
            "statistics of global operations from those of training-size crops. The single value "
            "of a statistic on a whole image is about 0.8 deviations from any distribution, so a "
            "smaller distance means little."
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table as text, without headings: one row for each trial."""
        full = sum(self.original) / len(self.original) if self.original else None
        rows: list[tuple[str, ...]] = [
            ("full image", "-", "all", "-" if full is None else self._score(full), "-")
        ]
        for trial in sorted(self.trials, key=lambda trial: (trial.keep_global, trial.window)):
            names = ", ".join(self.group_names(trial.keep_global)) or "-"
            scales = [f"{w / t:.2f}" for w, t in zip(trial.window, self.train_size, strict=True)]
            scale = scales[0] if scales[0] == scales[1] else "x".join(scales)
            gain = trial.gain(self.original).text(self._digits)
            rows.append((size_text(trial.window), scale, names, self._score(trial.mean), gain))
            if trial == self.best:
                rows[-1] = (f"{rows[-1][0]} *", *rows[-1][1:])
        return rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `rows`."""
        return ("window", "÷ train", "left global", self.metric, f"gain{self.unit and ', dB'}")

    def group_names(self, patterns: tuple[str, ...]) -> list[str]:
        """Return the names of the groups that these patterns leave global."""
        return [group.name for group in self.groups if set(group.patterns) <= set(patterns)]

    @property
    def unit(self) -> str:
        """Unit of the scores after a space; empty if they have none."""
        return " dB" if self.metric.startswith("psnr") else ""

    def to_json(self) -> str:
        """Return trials and recommendation as JSON text."""
        data: dict[str, Any] = {
            "verdict": self.verdict,
            "use_original": self.use_original,
            "window": self.window,
            "keep_global": self.keep_global,
            "gain": _interval(self.gain),
            "fitted_gain": _interval(self.fitted_gain),
            "advice": " ".join(filter(None, [self.advice(), self.proxy_note])),
            **asdict(self),
        }
        return json.dumps(data, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        table = text_table([self.columns, *self.rows()])
        below = filter(None, [self.protocol, *self.notes, self.advice(), self.proxy_note])
        return "\n".join([table, *below])

    @property
    def _digits(self) -> int:
        return 2 if self.unit else 4

    def _score(self, value: float) -> str:
        # distances are negated, so that higher scores are better
        return f"{abs(value) if self.metric == DISTANCE else value:.{self._digits}f}"

    def _gain_text(self, gain: Interval) -> str:
        if self.metric != DISTANCE:
            return f"{gain.text(self._digits)}{self.unit}"
        direction = "closer to" if gain.mean > 0 else "farther from"
        size = Interval(abs(gain.mean), gain.half_width, gain.count, gain.level)
        return f"{size.text(self._digits, sign=False)} {direction} the statistics of crops"

    def _loss(self, gain: Interval) -> str:
        if gain.mean == 0:
            return "changes nothing"
        if self.metric == DISTANCE:
            return f"is {self._gain_text(gain)}"
        size = Interval(-gain.mean, gain.half_width, gain.count, gain.level)
        return f"is worse by {size.text(self._digits, sign=False)}{self.unit}"

    def _without(self, trial: Trial) -> str:
        names = self.group_names(trial.keep_global)
        return f" and {' and '.join(names)} left global" if names else ""


def _interval(interval: Interval | None) -> Mapping[str, float | None] | None:
    """Return an interval as JSON values; null for NaN."""
    if interval is None:
        return None
    half_width = None if math.isnan(interval.half_width) else interval.half_width
    return {**asdict(interval), "half_width": half_width}
