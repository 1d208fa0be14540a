import pytest

from glocal.inference.settings import Settings
from glocal.study.tuning.trials import Trial, choose, held_out_gain


def trial(*scores, window=48, keep_global=()):
    return Trial(Settings("windows", 32, window=window, keep_global=keep_global), scores)


def test_the_highest_mean_is_chosen_and_the_first_of_equals():
    trials = [trial(30, 20, window=32), trial(31, 20, window=48), trial(20, 31, window=64)]
    assert choose(trials) is trials[1]
    assert choose(trials, [1]) is trials[2]


def test_operations_stay_global_only_beyond_noise():
    plain = trial(30.0, 25.0, 28.0)
    noisy = trial(33.0, 25.1, 27.9, keep_global=("a",))
    clear = trial(30.2, 25.2, 28.3, keep_global=("b",))
    both = trial(30.5, 25.4, 28.6, keep_global=("b", "c"))
    assert choose([plain, noisy]) is plain
    assert choose([plain, noisy, clear]) is clear
    assert choose([plain, noisy, clear, both]) is both
    assert choose([plain, clear], [0]) is plain  # one image tells nothing of noise


def test_the_gain_is_that_of_images_that_did_not_choose():
    original = (30.0, 30.0, 30.0)
    flattered = trial(40.0, 29.0, 29.0, window=32)
    steady = trial(30.1, 30.1, 30.1, window=48)
    assert choose([flattered, steady]) is flattered
    assert flattered.gain(original).mean == pytest.approx(8 / 3)
    # without the first image the steady window is chosen, without another the flattered one
    gain = held_out_gain([flattered, steady], original)
    assert gain.mean == pytest.approx((0.1 - 1 - 1) / 3)
    assert gain.count == 3


def test_a_window_that_is_best_everywhere_holds():
    trials = [trial(31.0, 26.1, 29.0), trial(30.0, 26.0, 28.0, window=64)]
    gain = held_out_gain(trials, (30.0, 25.0, 28.0))
    assert gain == trials[0].gain((30.0, 25.0, 28.0))
