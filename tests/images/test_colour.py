"""Colours as networks see them, and as they are carried back."""

import numpy as np
import pytest
from profiles import profile_of, table_profile

from glocal.errors import ImageError
from glocal.images.colour import colours_of, lab_to_srgb, profile_note
from glocal.images.icc import SRGB_TO_D50, built_profile, linear_profile

PROFILES = {
    "p3": profile_of("p3"),
    "linear": linear_profile(3),
    "power": built_profile("power", SRGB_TO_D50 * 1.1, 2.2),
}
every = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), np.uint16)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_network_that_changes_nothing_returns_the_samples(name: str, dtype: type) -> None:
    samples = (every >> 8 if dtype == np.uint8 else every).astype(dtype)
    samples = samples / np.float32(40000) if dtype == np.float32 else samples
    colours = colours_of(PROFILES[name], np.dtype(dtype), 3)
    seen = colours.seen(samples)
    assert seen.dtype == np.float32
    assert 0 <= seen.min() < seen.max() <= 1
    np.testing.assert_array_equal(colours.carried_back(samples, seen), samples)


def test_grey_profiles_return_the_samples() -> None:
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    colours = colours_of(built_profile("grey", None, 1.8), samples.dtype, 1)
    seen = colours.seen(samples)
    assert np.abs(seen * 65535 - samples).max() > 1000
    np.testing.assert_array_equal(colours.carried_back(samples, seen), samples)


def test_tables_return_the_samples_and_say_so() -> None:
    samples = every[:4, :4]
    colours = colours_of(table_profile(), samples.dtype, 3)
    seen = colours.seen(samples)
    assert not colours.are_plain
    np.testing.assert_array_equal(colours.carried_back(samples, seen), samples)
    assert "has tables" in profile_note(table_profile(), 3)[0]


def test_a_change_is_carried_to_the_colours_of_the_file() -> None:
    colours = colours_of(linear_profile(3), np.dtype(np.uint16), 3)
    samples = np.full((2, 2, 3), 14027, np.uint16)  # 0.2140 in linear light: half in sRGB
    assert colours.seen(samples) == pytest.approx(0.5, abs=1e-4)
    brighter = colours.carried_back(samples, np.full((2, 2, 3), 0.75, np.float32))
    np.testing.assert_allclose(brighter / 65535, 0.5225, atol=1e-3)


@pytest.mark.parametrize("scale", [1, 2])
def test_colours_outside_of_srgb_are_kept(scale: int) -> None:
    colours = colours_of(profile_of("p3"), np.dtype(np.uint16), 3)
    samples = np.zeros((2, 3, 3), np.uint16) + np.array([0, 65535, 0], np.uint16)
    seen = colours.seen(samples).repeat(scale, 0).repeat(scale, 1)
    back = colours.carried_back(samples, seen)
    assert back.shape == (2 * scale, 3 * scale, 3)
    assert np.abs(back.astype(int) - [0, 65535, 0]).max() <= 1 + 20 * (scale > 1)


def test_values_above_white_are_kept() -> None:
    samples = np.array([[[-0.5, 0.25, 7.0]]], np.float32)
    colours = colours_of(None, samples.dtype, 3)
    seen = colours.seen(samples)
    np.testing.assert_array_equal(seen, [[[0, 0.25, 1]]])
    changed = colours.carried_back(samples, np.array([[[0.1, 0.5, 0.9]]], np.float32))
    np.testing.assert_allclose(changed, [[[-0.4, 0.5, 6.9]]], rtol=1e-6)


def test_without_a_profile_or_with_that_of_srgb_nothing_changes() -> None:
    for icc in (None, profile_of("srgb"), b"no profile"):
        colours = colours_of(icc, every.dtype, 3)
        assert colours.seen(every) is every
        assert colours.carried_back(every, every) is every


@pytest.mark.parametrize("value", [np.nan, np.inf, 200.0])
def test_floats_that_are_no_picture_are_refused(value: float) -> None:
    samples = np.full((2, 2, 3), value, np.float32)
    with pytest.raises(ImageError, match="floating-point samples, and"):
        colours_of(None, samples.dtype, 3).seen(samples)


def test_a_profile_of_other_colours_is_not_used_and_said() -> None:
    assert colours_of(linear_profile(1), every.dtype, 3).are_plain
    assert profile_note(linear_profile(1), 3) == ("the colour profile is of GRAY and was not used",)
    assert profile_note(linear_profile(3), 3) == profile_note(None, 3) == ()


def test_results_of_other_channels_are_converted() -> None:
    colours = colours_of(None, np.dtype(np.float32), 1)
    colour = np.full((2, 2, 3), 0.5, np.float32)
    grey = np.zeros((2, 2, 1), np.float32)
    np.testing.assert_array_equal(colours.carried_back(grey, colour), colour)


def test_cielab_becomes_srgb() -> None:
    lab = np.array([[100.0, 0, 0], [0, 0, 0], [53.585, 0, 0]])
    np.testing.assert_allclose(lab_to_srgb(lab), [[1] * 3, [0] * 3, [0.5] * 3], atol=2e-3)
