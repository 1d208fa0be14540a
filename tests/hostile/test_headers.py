"""No bytes make a parser of headers fail with an error of Python."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="Atheris is not installed")
def test_a_minute_of_fuzzing_finds_nothing():
    program = Path(__file__).with_name("fuzz_headers.py")
    paths = (str(program.parents[1]), os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, str(program), "60"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
