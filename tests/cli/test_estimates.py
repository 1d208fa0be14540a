"""What `glocal restore` says before a long run."""

import shutil
from pathlib import Path

import pytest
from torch import nn

from glocal.inference.estimate import Estimate
from glocal.inference.memory import MemoryNeed
from glocal.inference.steps import Steps

PIXELS = 90 * 70
LONG = Estimate(103 / PIXELS, MemoryNeed(5.63e9, 0.0), None, 0, Steps(nn.Identity()))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, unproven: None) -> list:
    """What is estimated, set by a test; then the arguments."""
    results: list = []
    monkeypatch.setattr("glocal.cli.estimates.SIDE", 64)

    def estimate(*given: object, **options: object) -> object:
        results.append((given, options))
        return results[0]

    monkeypatch.setattr("glocal.inference.estimate.estimate", estimate)
    return results


def test_a_long_run_says_time_and_memory(run, photo: Path, checkpoint: Path, found: list) -> None:
    found.append(LONG)
    result = run("restore", photo, "-m", checkpoint, "--way", "full", "--memory", "8GB")
    assert result.exit_code == 0, result.output
    assert result.stderr == ("estimate: about 100 s and 5.6 GB for photo.png (90 × 70 pixels)\n")
    (_, image), options = found[1]
    assert image.shape[-1] == 3
    assert options["memory"] == 8_000_000_000


def test_a_quick_run_says_nothing(run, photo: Path, checkpoint: Path, found: list) -> None:
    found.append(None)
    assert run("restore", photo, "-m", checkpoint, "--way", "full").stderr == ""


def test_a_second_pass_is_said(run, photo: Path, checkpoint: Path, found: list) -> None:
    found.append(LONG)
    said = run("restore", photo, "-m", checkpoint, "--way", "crops").stderr.splitlines()
    assert said[1] == (
        "estimate: about 3.4 min in all, as statistics from crops take a second pass"
    )


def test_a_comparison_of_ways_is_said(
    run, photo: Path, checkpoint: Path, found: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    found.append(LONG)
    monkeypatch.setattr("glocal.study.harm.check_ways", lambda *given: given[-1](0.5))
    said = run("restore", photo, "-m", checkpoint).stderr.splitlines()
    assert said[1] == (
        "estimate: about 52 s more to compare the ways first, once; --no-check skips that"
    )


def test_the_first_photograph_stands_for_a_folder(
    run, photo: Path, checkpoint: Path, found: list, tmp_path: Path
) -> None:
    found.append(LONG)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(photo, tmp_path / "in" / name)
    result = run("restore", tmp_path / "in", tmp_path / "out", "-m", checkpoint, "--way", "full")
    assert "for a.png (90 × 70 pixels), the first of 2\n" in result.stderr


def test_unreadable_photographs_are_the_runs_business(
    run, checkpoint: Path, found: list, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no image")
    result = run("restore", tmp_path / "in", tmp_path / "out", "-m", checkpoint, "--way", "full")
    assert result.exit_code == 1
    assert found == []
    assert "estimate" not in result.stderr
