"""`glocal restore` compares the ways on the first photograph; `glocal scan` warns of norms."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import glocal
from glocal.errors import ConversionError
from glocal.images import image_files as images
from glocal.inference.restore import restore
from glocal.networks import load
from glocal.study import harm
from glocal.study.harm import WayCheck

BAD, FINE = WayCheck(1.0, 3.0, 0.1), WayCheck(1.0, 0.5, 0.1)
REAL = harm.check_ways


@pytest.fixture
def found(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list:
    """What a check finds, set by a test; then the arguments of the checks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results: list = []

    def check(*given: object) -> object:
        if isinstance(results[0], Exception):
            raise results[0]
        results.append(given)
        return results[0]

    monkeypatch.setattr("glocal.study.harm.check_ways", check)
    return results


def test_crops_are_taken_where_windows_do_harm(
    run, photo: Path, checkpoint: Path, found: list
) -> None:
    found.append(BAD)
    result = run("restore", photo, "-m", checkpoint)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"warning: {BAD.harm()}; taking --way crops\n"
    assert "crops: statistics from crops of 32x32" in result.stdout
    local = glocal.localize(load(checkpoint), 32, statistics="crops")
    restored = images.read(photo.with_name("photo-restored.png")).pixels
    np.testing.assert_array_equal(restored, restore(local, images.read(photo).pixels))


@pytest.mark.parametrize("words", ["--way windows", "--window 48", "--precision fast"])
def test_what_the_user_chose_is_kept(
    run, photo: Path, checkpoint: Path, found: list, words: str
) -> None:
    found.append(BAD)
    result = run("restore", photo, "-m", checkpoint, *words.split())
    assert result.stderr == f"warning: {BAD.harm()}; compare with --way crops\n"
    assert "statistics from windows of 48x48" in result.stdout


def test_a_training_size_in_doubt_is_said(run, photo: Path, checkpoint: Path, found: list) -> None:
    found.append(WayCheck(1.0, 0.5, 0.8))
    result = run("restore", photo, "-m", checkpoint, "--way", "crops")
    assert result.stderr == f"note: {found[0].doubt()}\n"


def test_nothing_is_said_without_harm(run, photo: Path, checkpoint: Path, found: list) -> None:
    found.append(FINE)
    assert run("restore", photo, "-m", checkpoint).stderr == ""
    assert len(found) == 2
    for words in ("--no-check", "--way full", "--way stitch"):
        result = run("restore", photo, "-m", checkpoint, "--overwrite", *words.split())
        assert (result.exit_code, result.stderr, len(found)) == (0, "", 2)


def test_a_check_that_fails_stops_nothing(run, photo: Path, checkpoint: Path, found: list) -> None:
    found.append(ConversionError("no\nway"))
    result = run("restore", photo, "-m", checkpoint)
    assert result.exit_code == 0
    assert result.stderr == "note: the ways were not compared: no way\n"


def test_the_first_photograph_of_a_folder_is_looked_at(
    run, photo: Path, checkpoint: Path, found: list, tmp_path: Path
) -> None:
    found.append(FINE)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(photo, tmp_path / "in" / name)
    assert run("restore", tmp_path / "in", tmp_path / "out", "-m", checkpoint).exit_code == 0
    assert len(found) == 2
    (tmp_path / "in/a.png").write_bytes(b"no image")
    again = run("restore", tmp_path / "in", tmp_path / "out2", "-m", checkpoint)
    assert again.stderr.startswith("failed: ")
    assert len(found) == 2


def test_the_check_runs(
    run, photo: Path, checkpoint: Path, found: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("glocal.study.harm.check_ways", REAL)
    result = run("restore", photo, "-m", checkpoint)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "cache/glocal/checks").iterdir())) == 1


def test_scan_warns_of_norms_behind_padded_convolutions(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3))\n"
    )
    (tmp_path / "norm_networks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    result = run("scan", "norm_networks:build", "--train-size", "32")
    assert result.stdout.splitlines()[-1] == f"warning: {harm.norm_warning(1, 1)}"
    result = run("scan", "norm_networks:build", "--train-size", "32", "--json")
    assert result.stderr == f"warning: {harm.norm_warning(1, 1)}\n"
