"""`glocal restore --fallback`: areas of the full-image result in local ones."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import glocal
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.fallback import NOT_LOOKED
from glocal.study.harm import WayCheck

NETWORK = """
from torch import nn

class Amplifying(nn.Module):
    glocal_train_size = 32

    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, eps=1e-12)

    def forward(self, x):
        mean = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return x + 0.1 * self.norm(x - mean)
"""
FLAT, INSIDE = slice(80, 176), slice(104, 152)
MOSAIC, FINE = WayCheck(1.0, 0.5, 0.1, 0.02, 0.03), WayCheck(1.0, 0.5, 0.1)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network that amplifies noise where a window is flat."""
    (tmp_path / "amplifying_networks.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return "amplifying_networks:Amplifying"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A photograph of texture with a flat square."""
    generator = np.random.default_rng(0)
    pixels = generator.normal(128, 25, (256, 256, 3))
    pixels[FLAT, FLAT] = generator.normal(20, 0.6, (96, 96, 3))
    images.write(tmp_path / "flat.png", Image(np.rint(pixels).clip(0, 255).astype(np.uint8)))
    return tmp_path / "flat.png"


def found(monkeypatch: pytest.MonkeyPatch, check: WayCheck) -> None:
    monkeypatch.setattr("glocal.study.harm.check_ways", lambda *given: check)


def result(path: Path) -> np.ndarray:
    return images.read(path.with_name("flat-restored.png")).pixels


def test_areas_are_taken_from_the_full_image(run, model: str, flat: Path, monkeypatch) -> None:
    found(monkeypatch, MOSAIC)
    ran = run("restore", flat, "-m", model, "--way", "windows")
    assert ran.exit_code == 0, ran.output
    assert ran.stderr == (
        "note: in 2.0 % of the part compared, with a flat dark corner, local results have "
        "structure that the full-image result has not, such as colour mosaics and checkerboards; "
        "such areas are taken from the full-image result, unless --fallback never is given\n"
    )
    assert "\nfall-back    " in ran.stdout
    assert " % of the image as the full-image result, from which the local one parts" in ran.stdout
    network = glocal.load(model)
    full = glocal.restore(network, images.read(flat).pixels)
    assert np.abs(result(flat)[INSIDE, INSIDE].astype(int) - full[INSIDE, INSIDE]).max() <= 1
    local = glocal.localize(network, 32, verify=False)
    np.testing.assert_array_equal(
        result(flat)[:8], glocal.restore(local, images.read(flat).pixels)[:8]
    )


@pytest.mark.parametrize(
    ("check", "words", "falls_back"),
    [
        (MOSAIC, "", True),
        (MOSAIC, "--fallback never", False),
        (MOSAIC, "--no-check", False),
        (FINE, "", False),
        (FINE, "--fallback always", True),
        (FINE, "--fallback always --no-check", True),
    ],
)
def test_the_option_decides(
    run, model: str, flat: Path, monkeypatch, check: WayCheck, words: str, falls_back: bool
) -> None:
    found(monkeypatch, check)
    ran = run("restore", flat, "-m", model, "--way", "windows", "--json", *words.split())
    assert ran.exit_code == 0, ran.output
    (photograph,) = json.loads(ran.stdout)["photographs"]
    assert (photograph["fallback"] is not None) == falls_back
    inside = result(flat)[INSIDE, INSIDE].astype(int)
    assert (inside.std() < 5) == falls_back  # amplified noise has 25


def test_never_says_what_was_found(run, model: str, flat: Path, monkeypatch) -> None:
    found(monkeypatch, MOSAIC)
    ran = run("restore", flat, "-m", model, "--way", "crops", "--fallback", "never")
    assert ran.stderr.startswith(
        "note: in 3.0 % of the part compared, with a flat dark corner, local "
    )
    assert ran.stderr.endswith(
        "; leave out --fallback never to take such areas from the full-image result\n"
    )


@pytest.mark.parametrize("way", ["full", "stitch", "degraded"])
def test_ways_without_local_results_refuse_the_option(run, model, flat: Path, way: str) -> None:
    ran = run("restore", flat, "-m", model, "--way", way, "--fallback", "always")
    assert ran.exit_code == 1
    assert ran.stderr == (
        f"error: --fallback has no effect with --way {way}; it needs --way windows, crops or auto\n"
    )


def test_a_photograph_in_tiles_says_that_areas_were_not_looked_for(
    run, model: str, flat: Path
) -> None:
    ran = run("restore", flat, "-m", model, "--fallback", "always", "--tile", "208")
    assert ran.exit_code == 0, ran.output
    assert f"note: {NOT_LOOKED}\n" in ran.stderr
    assert "fall-back" not in ran.stdout


def test_a_region_says_that_areas_were_not_looked_for(run, model: str, flat: Path) -> None:
    words = ("--fallback", "always", "--region", "100,100,40,40")
    ran = run("restore", flat, "-m", model, *words)
    assert ran.exit_code == 0, ran.output
    assert f"note: {NOT_LOOKED}\n" in ran.stderr


def test_a_network_without_local_operations_runs_once(run, photo: Path, checkpoint: Path) -> None:
    words = ("--fallback", "always", "--keep-global", "*", "--json")
    ran = run("restore", photo, "-m", checkpoint, *words)
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["photographs"][0]["fallback"] is None


def test_a_folder_counts_photographs_and_keeps_their_results(
    run, model: str, flat: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(flat, tmp_path / "in" / name)
    even = images.read(flat).pixels[:, :70].copy()
    images.write(tmp_path / "in" / "even.png", Image(even))
    words = ("restore", tmp_path / "in", tmp_path / "out", "-m", model, "--way", "windows")
    ran = run(*words, "--fallback", "always")
    assert ran.exit_code == 0, ran.output
    said = "areas of 2 photographs as the full-image result: a.png, b.png"
    assert f"fall-back    {said}" in ran.stdout
    assert "3 skipped" in run(*words, "--fallback", "always").stdout
    again = run(*words)
    assert "note: 3 done again: made with other options (fallback)\n" in again.stderr


def test_the_full_image_result_is_part_of_the_estimate(
    run, photo: Path, checkpoint: Path, monkeypatch, unproven: None
) -> None:
    command = importlib.import_module("glocal.cli.restore")
    monkeypatch.setattr(command, "say_estimate", lambda *given, **about: 103.0)
    words = ("restore", photo, "-m", checkpoint, "--fallback", "always", "--overwrite")
    said = run(*words, "--way", "windows").stderr.splitlines()
    assert said[0] == (
        "estimate: about 3.4 min in all, as the full-image result, to fall back on, takes another"
    )
    said = run(*words, "--way", "crops").stderr.splitlines()
    assert said[0] == (
        "estimate: about 5.2 min in all, as statistics from crops take a second pass and the "
        "full-image result, to fall back on, takes another"
    )
