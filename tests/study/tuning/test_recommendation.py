"""From scores to a recommendation that does no harm."""

import json

import pytest

from glocal.study.tuning.groups import Group
from glocal.study.tuning.recommendation import DISTANCE, Tuning
from glocal.study.tuning.trials import Trial

NORM = Group("instance norm", ("*.norm",), 3)


def tuning(*scores, original=(30.0, 25.0, 28.0), metric="psnr", keep_global=(), **options):
    trials = tuple(Trial((48 + n, 48 + n), keep_global, each) for n, each in enumerate(scores))
    names = tuple(map(str, range(len(original))))
    return Tuning((32, 32), metric, names, original, trials, (NORM,), **options)


def test_better():
    found = tuning((30.4, 25.2, 28.3), (30.5, 25.3, 28.4))
    assert (found.verdict, found.use_original, found.window) == ("better", False, (49, 49))
    assert found.advice() == (
        "Use TLC with a window of 49x49: +0.40 ± 0.25 dB over the whole image, on held-out images."
    )
    assert found.arguments == {"train_size": (32, 32), "keep_global": (), "window": (49, 49)}


def test_a_window_at_the_end_of_the_range_is_noted():
    scores = [(30.4 + n / 10, 25.2 + n / 10, 28.3 + n / 10) for n in range(4)]
    assert (
        tuning(*scores)
        .advice()
        .endswith("largest window that was tried; a larger one may be better.")
    )
    assert (
        tuning(*scores[::-1])
        .advice()
        .endswith("smallest window that was tried; a smaller one may be better.")
    )
    assert "may be better" not in tuning(*scores, scores[0]).advice()


def test_worse():
    found = tuning((29.9, 24.8, 27.7), (29.0, 24.0, 27.0))
    assert (found.verdict, found.use_original, found.window) == ("worse", True, None)
    assert found.advice() == (
        "Use the original network on the whole image: even with the best window, 48x48, TLC is "
        "worse by 0.20 ± 0.25 dB."
    )
    assert found.arguments == {"train_size": (32, 32), "keep_global": ("*",)}


def test_no_difference():
    found = tuning((30.0, 25.0, 28.0))
    assert found.use_original
    assert found.advice().endswith("TLC changes nothing.")


def test_a_gain_that_is_overfitted():
    found = tuning((40.0, 24.0, 27.0), (29.9, 25.1, 28.1))
    assert found.fitted_gain.mean > 2
    assert (found.verdict, found.use_original) == ("overfitted", True)
    assert "gains +2.67 ± " in found.advice()
    assert "but -0.70 ± " in found.advice()
    assert found.keep_global == ("*",)


def test_not_significant():
    found = tuning((30.5, 24.9, 28.1))
    assert (found.verdict, found.use_original) == ("not significant", False)
    assert "its interval includes 0" in found.advice()


def test_one_image():
    found = tuning((30.5,), original=(30.0,))
    assert (found.verdict, found.use_original) == ("single image", False)
    assert found.advice() == (
        "Use TLC with a window of 48x48: +0.50 dB over the whole image. The gain is not "
        "validated, because the only image chose the window; give more images."
    )
    assert tuning((29.5,), original=(30.0,)).use_original


def test_what_stays_global_is_named():
    found = tuning((30.4, 25.2, 28.3), keep_global=("*.norm",), always_global=("head",))
    assert found.keep_global == ("head", "*.norm")
    assert "a window of 48x48 and instance norm left global:" in found.advice()
    assert found.rows()[1][2] == "instance norm"


@pytest.mark.parametrize("convertible", [0, 5])
def test_nothing_was_tried(convertible):
    found = tuning(convertible=convertible)
    assert found.use_original
    assert found.gain is None
    assert "TLC would change nothing" in found.advice()
    assert found.keep_global == (("*",) if convertible else ())
    assert json.loads(found.to_json())["gain"] is None


def test_distances_are_printed_as_distances():
    found = tuning((-0.2, -0.3), original=(-0.5, -0.7), metric=DISTANCE)
    assert found.verdict == "not significant"
    assert "+" not in found.advice()
    text = "0.3500 ± 0.6353 closer to the statistics of crops than the whole image, on held-out"
    assert text in found.advice()
    assert found.rows()[1][3] == "0.2500"
    assert "a proxy" in found.proxy_note
    worse = tuning((-0.6, -0.8), original=(-0.5, -0.7), metric=DISTANCE)
    assert worse.use_original
    assert "0.1000 ± 0.0000 farther from the statistics of crops" in worse.advice()


def test_the_table():
    found = tuning((30.4, 25.2, 28.3), (30.5, 25.3, 28.4), notes=("Not tried: x.",))
    assert str(found) == (
        "window      ÷ train  left global  psnr   gain, dB\n"
        "----------  -------  -----------  -----  ------------\n"
        "full image  -        all          27.67  -\n"
        "48x48       1.50     -            27.97  +0.30 ± 0.25\n"
        "49x49 *     1.53     -            28.07  +0.40 ± 0.25\n"
        "Not tried: x.\n" + found.advice()
    )


def test_json_has_all_of_it():
    found = tuning((30.4, 25.2, 28.3))
    data = json.loads(found.to_json())
    assert data["verdict"] == "better"
    assert data["window"] == [48, 48]
    assert data["gain"]["mean"] == pytest.approx(0.3)
    assert data["trials"][0]["scores"] == [30.4, 25.2, 28.3]
    assert data["original"] == [30.0, 25.0, 28.0]
