"""From scores to a recommendation that does no harm."""

import json

import pytest

from glocal.inference.settings import Settings
from glocal.study.tuning.advice import DISTANCE
from glocal.study.tuning.groups import Group
from glocal.study.tuning.recommendation import Tuning
from glocal.study.tuning.trials import Trial

NORM = Group("instance norm", ("*.norm",), 3)
ORIGINAL = (30.0, 25.0, 28.0, 27.0, 29.0)


def trial(settings, *gains, original=ORIGINAL, seconds=None):
    scores = tuple(score + gain for score, gain in zip(original, gains, strict=True))
    return Trial(settings, scores, seconds)


def tuning(*gains, original=ORIGINAL, metric="psnr", keep_global=(), others=(), **options):
    """Windows of 48, 49, … pixels with these gains, and other trials."""
    trials = tuple(
        trial(Settings("windows", 32, window=48 + n, keep_global=keep_global), *each,
              original=original)
        for n, each in enumerate(gains)
    )  # fmt: skip
    names = tuple(map(str, range(len(original))))
    return Tuning((32, 32), metric, names, original, (*trials, *others), (NORM,), **options)


STEADY = (0.4, 0.2, 0.3, 0.3, 0.3)
BEST = (0.5, 0.3, 0.4, 0.4, 0.4)


def test_better():
    found = tuning(STEADY, BEST)
    assert (found.verdict, found.use_original) == ("better", False)
    assert found.advice() == (
        "Use TLC with a window of 49x49: +0.40 ± 0.09 dB over the whole image, on held-out images."
    )
    assert found.settings == Settings("windows", 32, window=49)


def test_a_window_at_the_end_of_the_range_is_noted():
    gains = [tuple(gain + n / 10 for gain in STEADY) for n in range(4)]
    assert (
        tuning(*gains)
        .advice()
        .endswith("largest window that was tried; a larger one may be better.")
    )
    assert (
        tuning(*gains[::-1])
        .advice()
        .endswith("smallest window that was tried; a smaller one may be better.")
    )
    assert "may be better" not in tuning(*gains, gains[0]).advice()


def test_worse():
    found = tuning((-0.1, -0.2, -0.3, -0.2, -0.2), (-1, -1, -1, -1, -1))
    assert (found.verdict, found.use_original) == ("worse", True)
    assert found.advice() == (
        "Use the original network on the whole image: even the best trial, TLC with a window of "
        "48x48, is worse by 0.20 ± 0.09 dB."
    )
    assert found.settings == Settings("full", 32)


def test_no_difference():
    found = tuning((0.0,) * 5)
    assert found.use_original
    assert found.advice().endswith("TLC with a window of 48x48, changes nothing.")


def test_a_gain_that_is_overfitted():
    found = tuning((10, -1, -1, -1, -1), (-0.1, 0.1, 0.1, 0.1, 0.1))
    assert found.fitted_gain.mean == pytest.approx(1.2)
    assert (found.verdict, found.use_original) == ("overfitted", True)
    assert "the best trial, TLC with a window of 48x48, gains +1.20 ± " in found.advice()
    assert "but -0.82 ± " in found.advice()
    assert found.settings.way == "full"


def test_not_significant():
    found = tuning((0.5, -0.1, 0.1, 0.1, -0.1))
    assert (found.verdict, found.use_original) == ("not significant", False)
    assert "its interval includes 0" in found.advice()


def test_few_images_have_no_interval():
    found = tuning((0.25, 0.25), original=(30.0, 25.0))
    assert (found.verdict, found.use_original) == ("few images", False)
    assert found.advice() == (
        "Use TLC with a window of 48x48: +0.25 dB (n = 2) over the whole image, on held-out "
        "images. 2 images are too few to say how certain that is; give 5 or more."
    )
    assert "±" not in str(found)


def test_one_image():
    found = tuning((0.5,), original=(30.0,))
    assert (found.verdict, found.use_original) == ("single image", False)
    assert found.advice() == (
        "Use TLC with a window of 48x48: +0.50 dB (n = 1) over the whole image. The gain is not "
        "validated, because the only image chose the way; give more images."
    )
    assert tuning((-0.5,), original=(30.0,)).use_original


def test_what_stays_global_is_named():
    found = tuning(
        STEADY, keep_global=("*.norm",), always_global=("head",), allow_global=True, output=1
    )
    assert found.settings == Settings(
        "windows", 32, output=1, window=48, keep_global=("head", "*.norm"), allow_global=True
    )
    assert "a window of 48x48 and instance norm left global:" in found.advice()
    assert found.rows()[1][2] == "instance norm"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Settings("crops", 32, stride=2.0), "statistics from crops (stride 2)"),
        (
            Settings("auto", 32, stride=1.0, window=40),
            "statistics from crops (stride 1) and from windows of 40x40",
        ),
        (Settings("stitch", 32), "crop-and-stitch with tiles of 32x32"),
    ],
)
def test_every_way_can_be_recommended(settings, name):
    found = tuning(STEADY, others=[trial(settings, *BEST)], always_global=("head",))
    assert found.best.settings == settings
    assert found.advice().startswith(f"Use {name}: +0.40 ± 0.09 dB")
    kept = {} if settings.way == "stitch" else {"keep_global": ("head",)}
    assert found.settings == settings.changed(**kept)
    assert found.rows()[2][0] == f"{settings.way} *"


def test_cost_is_named_beside_the_gain():
    others = [
        trial(Settings("crops", 32, stride=1.0), *BEST, seconds=4.0),
        trial(Settings("crops", 32, stride=2.0), *[gain - 0.01 for gain in BEST], seconds=3.0),
    ]
    found = tuning(STEADY, others=others, original_seconds=2.0)
    assert found.advice().endswith(
        "It takes 2.00 × the time of the original network. Nearly as good (-0.010 dB) at 1.50 ×: "
        "statistics from crops (stride 2)."
    )
    assert [row[-1] for row in found.rows()] == ["1.00", "-", "2.00", "1.50"]
    dear = tuning(STEADY, others=others[:1], original_seconds=2.0)
    assert dear.advice().endswith("It takes 2.00 × the time of the original network.")


def test_the_best_of_the_table_is_named_if_it_is_not_recommended():
    noisy = Settings("crops", 32, stride=1.0, keep_global=("*.norm",))
    found = tuning(STEADY, others=[trial(noisy, 3, -0.5, 0, 0, 0)])
    assert found.settings.way == "windows"
    assert (
        "The highest mean in the table is that of statistics from crops (stride 1) and instance "
        "norm left global (+0.50 ± "
    ) in found.advice()
    assert "gains no more than noise" in found.advice()


@pytest.mark.parametrize("convertible", [0, 5])
def test_nothing_was_tried(convertible):
    found = tuning(convertible=convertible)
    assert found.use_original
    assert found.gain is None
    assert "TLC would change nothing" in found.advice()
    assert found.settings == Settings("full", 32)
    assert json.loads(found.to_json())["gain"] is None


def test_distances_are_printed_as_distances():
    original = (-0.5, -0.7)
    found = tuning((0.3, 0.4), original=original, metric=DISTANCE)
    assert found.verdict == "few images"
    assert "+" not in found.advice()
    text = "0.3500 (n = 2) closer to the statistics of crops than the whole image, on held-out"
    assert text in found.advice()
    assert found.rows()[1][3] == "0.2500"
    assert "a proxy" in found.proxy_note
    worse = tuning((-0.1, -0.1), original=original, metric=DISTANCE)
    assert worse.use_original
    assert "0.1000 (n = 2) farther from the statistics of crops" in worse.advice()


def test_the_table():
    crops = trial(Settings("crops", 32, stride=2.0), *[0.1] * 5, seconds=3.0)
    found = tuning(STEADY, BEST, others=[crops], notes=("Not tried: x.",), original_seconds=2.0)
    assert str(found) == (
        "way        options                      left global  psnr   gain, dB      time ÷ full\n"
        "---------  ---------------------------  -----------  -----  ------------  -----------\n"
        "full       -                            all          27.80  -             1.00\n"
        "windows    window 48x48 (1.50 × train)  -            28.10  +0.30 ± 0.09  -\n"
        "windows *  window 49x49 (1.53 × train)  -            28.20  +0.40 ± 0.09  -\n"
        "crops      stride 2                     -            27.90  +0.10 ± 0.00  1.50\n"
        "Not tried: x.\n" + found.advice()
    )


def test_json_has_all_of_it():
    found = tuning(STEADY)
    data = json.loads(found.to_json())
    assert data["verdict"] == "better"
    assert data["settings"] == json.loads(Settings("windows", 32, window=48).to_json())
    assert data["gain"]["mean"] == pytest.approx(0.3)
    (only,) = data["trials"]
    assert only["scores"] == pytest.approx([30.4, 25.2, 28.3, 27.3, 29.3])
    assert only["settings"]["window"] == [48, 48]
    assert data["original"] == list(ORIGINAL)


@pytest.mark.parametrize("gains", [[STEADY], [(-0.1,) * 5], []])
def test_images_that_nothing_improves_are_left_alone(gains):
    found = tuning(*gains, degraded=tuple(score + 1 for score in ORIGINAL))
    assert (found.verdict, found.leave_alone, found.use_original) == (
        "degraded is best", True, False,
    )  # fmt: skip
    assert found.settings == Settings("degraded", 32)
    assert found.advice().startswith("Leave the images as they are: no way of running the network")
    assert [row[0] for row in found.rows()[:2]] == ["degraded *", "full"]
    assert not any(row[0].endswith("*") for row in found.rows()[1:])
    assert json.loads(found.to_json())["settings"]["way"] == "degraded"


def test_images_that_a_way_improves_are_not_left_alone():
    found = tuning(STEADY, degraded=tuple(score + 0.1 for score in ORIGINAL))
    assert found.verdict == "better"
    assert found.rows()[0] == ("degraded", "-", "-", "27.90", "+0.10 ± 0.00", "-")


def test_a_gain_over_the_degraded_images_alone_that_is_overfitted_is_none():
    gains = (10, -1, -1, -1, -1), (-0.1, 0.1, 0.1, 0.1, 0.1)
    found = tuning(*gains, degraded=tuple(score + 0.5 for score in ORIGINAL))
    assert found.leave_alone
    assert "but nothing on held-out images" in found.advice()
