"""The result of `tune`: trials and a recommendation."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from glocal.inference.settings import Settings
from glocal.ops.windows import Size
from glocal.study.intervals import Interval, paired
from glocal.study.tuning.advice import DISTANCE, advice_of
from glocal.study.tuning.groups import Group
from glocal.study.tuning.trials import Trial, choose, held_out_gain
from glocal.texts import size_text, text_table

__all__ = ["Tuning", "Verdict"]

Verdict = Literal[
    "better", "not significant", "few images", "single image", "overfitted", "worse",
    "nothing to convert", "images too small", "degraded is best",
]  # fmt: skip
"""How certain it is that another way helps; with the last five, the original or no
network is recommended.

- better: the held-out gain is above 0 with 95 % confidence
- not significant: the held-out gain is above 0, but its interval includes 0
- few images: the held-out gain is above 0, on too few images for an interval
- single image: there is a gain, but no other image to validate it on
- overfitted: there is a gain on the images that chose the way, but none on held-out images
- worse: no way gains anything
- nothing to convert: the network has no operation to convert
- images too small: every window covers every image
- degraded is best: no way restores the images, they are better as they are
"""


_OTHERS: tuple[Verdict, ...] = ("better", "not significant", "few images", "single image")
"""The verdicts that recommend another way than the original network."""


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
        allow_global: leave operations global that cannot be converted.
        output: name or index of the output that was taken.
        convertible: number of operations that can be made local.
        notes: sentences about what could not be tried.
        protocol: how the scores are computed, as text.
        original_seconds: mean over the images; None if not measured.
        degraded: scores of the images before restoration; empty without targets of their size.
    """

    train_size: Size
    metric: str
    images: tuple[str, ...]
    original: tuple[float, ...]
    trials: tuple[Trial, ...]
    groups: tuple[Group, ...] = ()
    always_global: tuple[str, ...] = ()
    allow_global: bool = False
    output: int | str | None = None
    convertible: int = 1
    notes: tuple[str, ...] = ()
    protocol: str = ""
    original_seconds: float | None = field(default=None, compare=False)
    degraded: tuple[float, ...] = ()

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
        """How certain it is that another way than the original helps, see `Verdict`."""
        best = self._best_network
        return best if self._beats_degraded(best) else "degraded is best"

    def _beats_degraded(self, verdict: Verdict) -> bool:
        """True if what a verdict recommends has a higher mean than the degraded images."""
        if not self.degraded or not self.original:
            return True
        chosen = self.best if verdict in _OTHERS and self.best else None
        scores = self.original if chosen is None else chosen.scores
        return math.fsum(scores) > math.fsum(self.degraded)

    @property
    def _best_network(self) -> Verdict:
        """The verdict among the ways that run the network."""
        fitted, gain = self.fitted_gain, self.gain
        if fitted is None or gain is None:
            return "images too small" if self.convertible else "nothing to convert"
        if fitted.mean <= 0:
            return "worse"
        if gain.mean <= 0:
            return "overfitted"
        if not gain.is_shown:
            return "single image" if gain.count < 2 else "few images"
        return "better" if gain.low > 0 else "not significant"

    @property
    def use_original(self) -> bool:
        """True if the original network on the whole image is recommended."""
        return not self.leave_alone and self.verdict not in _OTHERS

    @property
    def leave_alone(self) -> bool:
        """True if nothing beats the degraded images, so that no network is recommended."""
        return self.verdict == "degraded is best"

    @property
    def settings(self) -> Settings:
        """The recommendation, for `glocal restore --settings` or for Python.

        `glocal.restore(settings.network(model), image, tiles=settings.tiles())` follows it.
        """
        if self.leave_alone:
            return Settings("degraded", self.train_size)
        if self.use_original or self.best is None:
            return Settings("full", self.train_size, output=self.output)
        chosen = self.best.settings.changed(output=self.output)
        if chosen.way == "stitch":
            return chosen
        return chosen.changed(
            keep_global=(*self.always_global, *chosen.keep_global), allow_global=self.allow_global
        )

    def advice(self) -> str:
        """Return the recommendation in a few sentences."""
        return advice_of(self)

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
        """Return the table as text, without headings: one row for each trial.

        A star marks the recommended way.
        """
        full = sum(self.original) / len(self.original) if self.original else None
        score = "-" if full is None else self._score(full)
        cost = "1.00" if self.original_seconds else "-"
        rows: list[tuple[str, ...]] = []
        if self.degraded:
            mean = self._score(math.fsum(self.degraded) / len(self.degraded))
            gain = paired(self.degraded, self.original).text(self.digits)
            star = " *" if self.leave_alone else ""
            rows.append(("degraded" + star, "-", "-", mean, gain, "-"))
        star = " *" if self.use_original and self.original else ""
        rows.append(("full" + star, "-", "all", score, "-", cost))
        order = ("windows", "crops", "auto", "stitch")
        for trial in sorted(
            self.trials,
            key=lambda t: (
                t.keep_global,
                order.index(t.way),
                t.window or (),
                t.settings.stride or 0,
            ),
        ):
            names = ", ".join(self.group_names(trial.keep_global)) or "-"
            gain, time = trial.gain(self.original).text(self.digits), self.time(trial)
            star = " *" if self.verdict in _OTHERS and trial == self.best else ""
            cost = "-" if time is None else f"{time:.2f}"
            rows.append(
                (trial.way + star, self._option(trial), names, self._score(trial.mean), gain, cost)
            )
        return rows

    def _option(self, trial: Trial) -> str:
        """Return the options of a trial for the table."""
        parts = []
        if trial.window is not None:
            scales = [f"{w / t:.2f}" for w, t in zip(trial.window, self.train_size, strict=True)]
            scale = scales[0] if scales[0] == scales[1] else "x".join(scales)
            parts.append(f"window {size_text(trial.window)} ({scale} × train)")
        if trial.settings.stride is not None:
            parts.append(f"stride {trial.settings.stride:g}")
        return ", ".join(parts) or f"tiles {size_text(self.train_size)}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `rows`."""
        unit = self.unit and ", dB"
        return ("way", "options", "left global", self.metric, f"gain{unit}", "time ÷ full")

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
            "leave_alone": self.leave_alone,
            "settings": json.loads(self.settings.to_json()),
            "gain": _interval(self.gain),
            "fitted_gain": _interval(self.fitted_gain),
            "advice": " ".join(filter(None, [self.advice(), self.proxy_note])),
            **asdict(self),
            "trials": [
                {
                    "settings": json.loads(trial.settings.to_json()),
                    "scores": trial.scores,
                    "seconds": trial.seconds,
                }
                for trial in self.trials
            ],
        }
        return json.dumps(data, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        table = text_table([self.columns, *self.rows()])
        below = filter(None, [self.protocol, *self.notes, self.advice(), self.proxy_note])
        return "\n".join([table, *below])

    def time(self, trial: Trial) -> float | None:
        """Return the time of a trial ÷ that of the original network, if measured."""
        if trial.seconds is None or not self.original_seconds:
            return None
        return trial.seconds / self.original_seconds

    @property
    def digits(self) -> int:
        """Decimals of scores and gains in text."""
        return 2 if self.unit else 4

    def _score(self, value: float) -> str:
        # distances are negated, so that higher scores are better
        return f"{abs(value) if self.metric == DISTANCE else value:.{self.digits}f}"


def _interval(interval: Interval | None) -> Mapping[str, float | None] | None:
    """Return an interval as JSON values; null for NaN."""
    if interval is None:
        return None
    half_width = None if math.isnan(interval.half_width) else interval.half_width
    return {**asdict(interval), "half_width": half_width}
