"""The recommendation of `tune` in words."""

from typing import TYPE_CHECKING

from glocal.inference.settings import Settings
from glocal.study.intervals import FEWEST, Interval
from glocal.study.tuning.trials import Trial
from glocal.texts import size_text

if TYPE_CHECKING:
    from glocal.study.tuning.recommendation import Tuning

__all__ = ["DISTANCE", "advice_of"]

DISTANCE = "distance"
"""Name of the score without targets; lower is better, so scores are its negative."""

_RANGE = 4
"""Fewest window sizes for which the largest or smallest counts as the end of a range."""

_AS_GOOD = 0.02
"""A loss in dB that nobody sees."""

_CHEAPER = 0.8
"""Share of the time below which a way that is as good is worth naming."""


def advice_of(tuning: "Tuning") -> str:
    """Return the recommendation in a few sentences."""
    verdict, best, fitted, gain = tuning.verdict, tuning.best, tuning.fitted_gain, tuning.gain
    if verdict == "degraded is best":
        return _left_alone(tuning)
    if verdict == "nothing to convert" and tuning.always_global:
        return "keep_global covers all operations that could be converted; TLC changes nothing."
    if verdict == "nothing to convert":
        return "The network has no global operations to convert; TLC would change nothing."
    if best is None or fitted is None or gain is None:
        return (
            "Every window covers every image, so TLC would change nothing on these images. "
            "Give images as large as those you restore."
        )
    name, top = _name(tuning, best), _top(tuning, best)
    original = "Use the original network on the whole image:"
    if verdict == "worse":
        return f"{original} even the best trial, {name}, {_loss(tuning, fitted)}.{top}"
    if verdict == "overfitted":
        return (
            f"{original} the best trial, {name}, gains {_gain(tuning, fitted)} on the images that "
            f"chose it, but {_gain(tuning, gain)} on held-out images.{top}"
        )
    than = "than" if tuning.metric == DISTANCE else "over"
    use = f"Use {name}: {_gain(tuning, gain)} {than} the whole image"
    after = f"{_cost(tuning, best)}{top}{_edge(tuning, best)}"
    if verdict == "single image":
        return (
            f"{use}. The gain is not validated, because the only image chose the way; give more "
            f"images.{after}"
        )
    use += ", on held-out images."
    if verdict == "few images":
        return (
            f"{use} {gain.count} images are too few to say how certain that is; give {FEWEST} or "
            f"more.{after}"
        )
    if verdict == "not significant":
        return (
            f"{use} The gain is not significant: its interval includes 0, so the original network "
            f"may be as good.{after}"
        )
    return use + after


def _left_alone(tuning: "Tuning") -> str:
    """Return the advice not to run the network, and what it loses."""
    trials = [Trial(Settings("full", tuning.train_size), tuning.original), *tuning.trials]
    best = max(trials, key=lambda trial: trial.mean)
    lost = best.gain(tuning.degraded)
    what = (
        "changes nothing"
        if lost.mean == 0
        else f"{'gains' if lost.mean > 0 else 'loses'} {_size(tuning, lost)}"
    )
    why = " on the images that chose it, but nothing on held-out images" if lost.mean > 0 else ""
    return (
        "Leave the images as they are: no way of running the network beats them. The highest mean "
        f"in the table is that of {_name(tuning, best)}, which {what}{why}. Is it the right "
        "network for this kind of degradation?"
    )


def _name(tuning: "Tuning", trial: Trial) -> str:
    window = "" if trial.window is None else size_text(trial.window)
    crops = f"statistics from crops (stride {trial.settings.stride or 1:g})"
    text = {
        "full": "the original network",
        "windows": f"TLC with a window of {window}",
        "crops": crops,
        "auto": f"{crops} and from windows of {window}",
        "stitch": f"crop-and-stitch with tiles of {size_text(tuning.train_size)}",
    }[trial.way]
    names = tuning.group_names(trial.keep_global)
    return text + (f" and {' and '.join(names)} left global" if names else "")


def _cost(tuning: "Tuning", best: Trial) -> str:
    """Return what the best trial costs, and which one is as good for less."""
    time = tuning.time(best)
    if time is None or best.seconds is None:
        return ""
    text = f" It takes {time:.2f} × the time of the original network."
    cheaper = [
        (trial.seconds, trial)
        for trial in tuning.trials
        if trial.seconds is not None
        and trial.seconds < _CHEAPER * best.seconds
        and best.mean - trial.mean <= _AS_GOOD
    ]
    if not cheaper or not tuning.unit:
        return text
    _, other = min(cheaper, key=lambda each: each[0])
    return (
        f"{text} Nearly as good ({other.mean - best.mean:+.3f} dB) at {tuning.time(other):.2f} ×: "
        f"{_name(tuning, other)}."
    )


def _top(tuning: "Tuning", best: Trial) -> str:
    """Name the highest score of the table if another trial is recommended."""
    top = max(tuning.trials, key=lambda trial: trial.mean)
    if top.mean <= best.mean:
        return ""
    return (
        f" The highest mean in the table is that of {_name(tuning, top)} "
        f"({_gain(tuning, top.gain(tuning.original))}), but what it leaves global gains no more "
        "than noise."
    )


def _edge(tuning: "Tuning", best: Trial) -> str:
    """Return a warning if the best window is the end of the range that was tried."""
    windows = [t.window for t in tuning.trials if t.way == "windows" and t.window]
    areas = {height * width for height, width in windows}
    if best.way != "windows" or best.window is None or len(areas) < _RANGE:
        return ""
    area = best.window[0] * best.window[1]
    if area == min(areas):
        return " It is the smallest window that was tried; a smaller one may be better."
    if area == max(areas):
        return " It is the largest window that was tried; a larger one may be better."
    return ""


def _gain(tuning: "Tuning", gain: Interval) -> str:
    if tuning.metric != DISTANCE:
        return gain.text(tuning.digits, unit=tuning.unit)
    direction = "closer to" if gain.mean > 0 else "farther from"
    size = Interval(abs(gain.mean), gain.half_width, gain.count, gain.level)
    return f"{size.text(tuning.digits, sign=False)} {direction} the statistics of crops"


def _loss(tuning: "Tuning", gain: Interval) -> str:
    if gain.mean == 0:
        return "changes nothing"
    if tuning.metric == DISTANCE:
        return f"is {_gain(tuning, gain)}"
    return f"is worse by {_size(tuning, gain)}"


def _size(tuning: "Tuning", gain: Interval) -> str:
    size = Interval(abs(gain.mean), gain.half_width, gain.count, gain.level)
    return size.text(tuning.digits, sign=False, unit=tuning.unit)
