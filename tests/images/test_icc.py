"""Profiles that are parsed and built, compared with LittleCMS."""

import struct

import numpy as np
import pytest
import pyvips
from profiles import profile_of, table_profile

from glocal.images.icc import (
    SRGB_TO_D50,
    built_profile,
    colour_space,
    linear_profile,
    matrix_profile,
    primaries_to_d50,
    srgb_decoded,
    srgb_encoded,
)

REC709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
RANDOM = np.random.default_rng(0).random((50, 3))


@pytest.mark.parametrize("profile", [profile_of("p3"), linear_profile(3)], ids=["p3", "linear"])
def test_the_conversion_is_that_of_littlecms(profile: bytes) -> None:
    flat = np.rint(RANDOM * 65535).astype(np.uint16)[None]
    vips = pyvips.Image.new_from_array(flat).copy(interpretation="rgb16")
    vips.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    theirs = vips.icc_transform("srgb", embedded=True, intent="relative", depth=16)
    theirs = theirs.numpy() / 65535
    own = srgb_encoded(matrix_profile(profile).linear_srgb(flat / 65535))
    inside = ((own > 0.02) & (own < 0.98)).all(-1)  # outside of sRGB theirs is clipped
    off = np.abs(own - theirs)[inside]
    assert np.quantile(off, 0.9) < 5e-4
    assert off.max() < 1e-2  # theirs interpolates in a table of 16 bits


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_a_built_profile_is_inverted(gamma: float) -> None:
    profile = matrix_profile(built_profile("some", SRGB_TO_D50, gamma))
    values = RANDOM * 3 - 1  # outside [0, 1] as well
    np.testing.assert_allclose(profile.device(profile.linear_srgb(values)), values, atol=1e-6)


@pytest.mark.parametrize("kind", range(5))
def test_parametric_curves_are_inverted(kind: int) -> None:
    values = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0, 0][: (1, 3, 4, 5, 7)[kind]]
    if kind == 2:
        values[3] = 0.0
    curve = b"para" + bytes(4) + struct.pack(">2H", kind, 0)
    curve += struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))
    profile = matrix_profile(with_curve(curve))
    np.testing.assert_allclose(profile.device(profile.linear_srgb(RANDOM)), RANDOM, atol=1e-4)


def test_curves_of_a_table_are_inverted_and_continue() -> None:
    table = np.rint(np.linspace(0, 1, 256) ** 2.2 * 65535).astype(">u2").tobytes()
    profile = matrix_profile(with_curve(b"curv" + bytes(4) + struct.pack(">I", 256) + table))
    values = np.linspace(0.02, 1.5, 30).repeat(3).reshape(-1, 3)
    np.testing.assert_allclose(profile.device(profile.linear_srgb(values)), values, atol=1e-4)


def test_rec_709_under_d65_is_srgb() -> None:
    np.testing.assert_allclose(primaries_to_d50(REC709, (0.3127, 0.329)), SRGB_TO_D50, atol=1e-3)


def test_srgb_is_odd_and_inverted() -> None:
    values = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(srgb_encoded(srgb_decoded(values)), values, atol=1e-12)


def test_profiles_of_tables_and_damage_have_no_matrix() -> None:
    assert matrix_profile(table_profile()) is None
    assert colour_space(table_profile()) == "RGB"
    whole = linear_profile(3)
    for end in range(0, len(whole), 7):
        matrix_profile(whole[:end])
    assert matrix_profile(whole[:200]) is None


def with_curve(curve: bytes) -> bytes:
    """A linear profile with another curve at its end."""
    whole = linear_profile(3)
    number = struct.unpack_from(">I", whole, 128)[0]
    patched = bytearray(whole + curve)
    for at in range(132, 132 + 12 * number, 12):
        if bytes(patched[at + 1 : at + 4]) == b"TRC":
            struct.pack_into(">2I", patched, at + 4, len(whole), len(curve))
    return bytes(patched)
