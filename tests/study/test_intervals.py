import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from glocal.errors import ArgumentError
from glocal.study.intervals import interval_of, paired, student_quantile

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=40)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30, 999, 1110])
def test_quantiles_are_students(level: float, degrees: int) -> None:
    expected = float(stats.t.ppf(0.5 + level / 2, degrees))
    assert student_quantile(level, degrees) == pytest.approx(expected, rel=1e-9)


@given(VALUES)
def test_an_interval_is_that_of_scipy(values: list[float]) -> None:
    interval = interval_of(values)
    expected = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    assert interval.half_width == pytest.approx(float(expected), rel=1e-6, abs=1e-9)
    assert interval.low <= interval.mean <= interval.high


@given(VALUES, st.floats(-5, 5))
def test_a_constant_difference_has_no_width(values: list[float], gain: float) -> None:
    interval = paired([value + gain for value in values], values)
    assert interval.mean == pytest.approx(gain, abs=1e-9)
    assert interval.half_width == pytest.approx(0, abs=1e-9)


def test_one_value_says_nothing_about_its_spread() -> None:
    assert math.isnan(interval_of([3.0]).half_width)
    assert interval_of([3.0]).text() == "+3.000 (n = 1)"


def test_intervals_of_few_values_are_not_shown() -> None:
    assert interval_of([1.0, 1.0]).text(2, unit=" dB") == "+1.00 dB (n = 2)"
    assert not interval_of([1.0] * 4).is_shown
    assert interval_of([1.0] * 5).text(2, unit=" dB") == "+1.00 ± 0.00 dB"


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least one value"):
        interval_of([])
    with pytest.raises(ArgumentError, match="cannot pair"):
        paired([1.0], [1.0, 2.0])
    for level in (0.0, 1.0):
        with pytest.raises(ArgumentError, match="level"):
            interval_of([1.0], level)
