"""The search alone, on made-up scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.inference.settings import Settings
from glocal.study.tuning.candidates import Search
from glocal.study.tuning.groups import Group
from glocal.study.tuning.trials import Trial, choose

GROUPS = (Group("a", ("a",), 1), Group("b", ("b",), 1), Group("c", ("c",), 1))


def drive(score, train=(64, 64), covers_images=lambda window: False, **options):
    """Run a search; `score` is a function of a window and what is keep_global."""
    search = Search(train, covers_images, **options)
    steps, answer, asked = search.run(), None, []
    while True:
        try:
            batch = steps.send(answer)
        except StopIteration:
            return search.trials, asked
        asked.append(batch)
        answer = [
            Trial(each, tuple(value(score, each) + n for n in range(3)))
            for each in batch.candidates
        ]


def value(score, settings):
    if settings.way == "windows":
        return score(settings.window, settings.keep_global)
    return score(settings)


def peak(at):
    return lambda window, keep_global=(): (
        -sum(math.log(w / a) ** 2 for w, a in zip(window, at, strict=True))
    )


@given(st.integers(20, 190))
def test_the_best_window_is_found(side):
    trials, asked = drive(peak((side, side)))
    found = choose(trials).window[0]
    assert abs(math.log(found / side)) < math.log(1.15)
    assert len(trials) <= 11
    assert [batch.stage for batch in asked] == ["windows"] + ["windows, finer"] * (len(asked) - 1)


@given(st.tuples(st.integers(8, 300), st.integers(8, 300)), st.booleans())
def test_nothing_is_tried_twice_or_out_of_range(train, per_axis):
    trials, _ = drive(peak((50, 60)), train, groups=GROUPS, per_axis=per_axis)
    assert len({trial.settings for trial in trials}) == len(trials)
    for trial in trials:
        for side, size in zip(trial.window, train, strict=True):
            assert int(0.3 * size) <= side <= 3 * size


def test_covers_images_windows_are_not_tried():
    trials, _ = drive(peak((150, 150)), covers_images=lambda window: window[0] > 100)
    assert max(trial.window for trial in trials) <= (100, 100)
    assert drive(peak((9, 9)), covers_images=lambda window: True) == ([], [])


def test_each_axis_alone():
    joint, _ = drive(peak((40, 120)))
    trials, asked = drive(peak((40, 120)), per_axis=True)
    assert [batch.stage for batch in asked][-2:] == ["height alone", "width alone"]
    assert choose(trials).mean > choose(joint).mean
    height, width = choose(trials).window
    assert height < 60
    assert width > 80


@pytest.mark.parametrize("harmful", [(), ("b",), ("a", "c")])
def test_groups_that_hurt_stay_global(harmful):
    def score(window, keep_global):
        best = (
            64 if set(harmful) <= set(keep_global) else 128
        )  # another window, as soon as they are out
        return peak((best, best))(window) - 3 * len(set(harmful) ^ set(keep_global))

    trials, _ = drive(score, groups=GROUPS)
    found = choose(trials)
    assert set(found.keep_global) == set(harmful)
    assert found.window[0] == pytest.approx(64, rel=0.1)


def test_not_everything_stays_global_unless_more_is_local():
    def score(window, keep_global):
        return len(keep_global)

    assert max(len(t.keep_global) for t in drive(score, groups=GROUPS)[0]) == 2
    assert max(len(t.keep_global) for t in drive(score, groups=GROUPS, ungrouped=True)[0]) == 3
    assert max(len(t.keep_global) for t in drive(score, groups=GROUPS[:1])[0]) == 0


def by_way(**values):
    """Score windows by closeness to 64, other ways by these values."""

    def score(settings, keep_global=()):
        if isinstance(settings, tuple):
            return peak((64, 64))(settings) + values["windows"] + len(keep_global)
        return values[settings.way] - 0.1 * (settings.stride or 1) + len(settings.keep_global)

    return score


def test_other_ways_come_after_windows_from_cheap_to_dear():
    ways = ("windows", "crops", "auto", "stitch")
    score = by_way(windows=0, crops=1, auto=2, stitch=3)
    trials, asked = drive(score, ways=ways)
    assert [batch.stage for batch in asked][-3:] == ["crops", "auto", "crop-and-stitch"]
    crops, (auto,), (stitch,) = (batch.candidates for batch in asked[-3:])
    assert [each.stride for each in crops] == [2.0, 1.0]
    assert (auto.window, auto.stride) == ((64, 64), 1.0)  # the best window, the best stride
    assert stitch == Settings("stitch", 64)
    assert choose(trials).way == "stitch"


def test_what_cannot_differ_from_the_original_is_not_tried():
    ways = ("windows", "crops", "auto", "stitch")
    trials, _ = drive(by_way(windows=0), covers_images=lambda size: size[0] >= 64, ways=ways)
    assert {trial.way for trial in trials} == {"windows"}


@pytest.mark.parametrize("best", ["windows", "crops"])
def test_operations_stay_global_beside_the_best_local_way(best):
    score = by_way(**{"windows": 0, "crops": 0, "stitch": 9, best: 5})
    trials, _ = drive(score, ways=("windows", "crops", "stitch"), groups=GROUPS)
    tried = [trial for trial in trials if trial.keep_global]
    assert choose(tried).way == best
    assert max(len(trial.keep_global) for trial in tried) == 2
