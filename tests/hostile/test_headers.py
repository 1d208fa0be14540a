"""No bytes make a parser of headers fail with an error of Python."""

import random

import pytest
from hostile.headers import PARSERS, check
from hostile.mutator import mutated
from hostile.seeds import _EXIF, checkpoint_seeds, image_seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.images.icc import linear_profile

SEEDS = [*image_seeds().values(), _EXIF, linear_profile(3), *checkpoint_seeds().values()]


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25)
@given(data=st.binary(max_size=200), seed=st.sampled_from(SEEDS), at=st.integers(0, 100))
def test_any_bytes_are_parsed_or_refused(name, data, seed, at):
    check(name, data)
    check(name, seed[:at] + data + seed[at + len(data) :])


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files_are_parsed_or_refused(name):
    rng = random.Random(name)
    for number in range(60):
        seed, other = rng.choice(SEEDS), rng.choice(SEEDS)
        check(name, mutated(seed, other, f"{name}/{number}"))
