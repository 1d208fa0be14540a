import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from glocal.cli.degrade import Kind
from glocal.data.datasets import pairs
from glocal.data.degrade import DEGRADATIONS
from glocal.data.paired_set import make_paired_set
from glocal.images import image_files as images


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def folder(photo: Path, tmp_path: Path) -> Path:
    """Two photographs, one of them in a folder of its own."""
    clean = tmp_path / "clean"
    (clean / "in").mkdir(parents=True)
    shutil.copy(photo, clean / "a.png")
    shutil.copy(photo, clean / "in/b.png")
    return clean


def test_a_folder_becomes_a_set(run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    result = run("degrade", folder, out, "--kind", "haze", "--strength", "2", "--seed", "4")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"photographs  2 in {folder}"
    assert lines[1] == "degradation  haze, strength 2 (scattering × depth), seed 4"
    assert lines[2].startswith("time         ")
    assert lines[3] == f"result       {out} (2 made; settings in degradation.json)"
    assert result.stderr == ""
    list(make_paired_set(folder, tmp_path / "expected", "haze", 2, 4))
    assert contents(out) == contents(tmp_path / "expected")
    assert [pair.name for pair in pairs(out)] == ["a", "in/b"]


def test_a_photograph_becomes_a_set(run, photo: Path, tmp_path: Path) -> None:
    result = run("degrade", photo, tmp_path / "set", "-k", "noise")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"photographs  {photo}"
    assert "noise, strength 25 (standard deviation in 1/255), seed 0" in result.stdout
    (pair,) = pairs(tmp_path / "set")
    degraded, target = (images.read(path).pixels for path in (pair.degraded, pair.target))
    np.testing.assert_array_equal(target, images.read(photo).pixels)
    assert 18 < (degraded.astype(float) - target).std() < 26  # some of it is clipped


def test_a_set_is_resumed(run, folder: Path, tmp_path: Path) -> None:
    words = ("degrade", folder, tmp_path / "set", "--kind", "jpeg")
    run(*words)
    before = contents(tmp_path / "set")
    (tmp_path / "set/degraded/a.png").unlink()
    assert "(1 made, 1 skipped; settings in" in run(*words).stdout
    assert contents(tmp_path / "set") == before
    assert "(2 made; settings in" in run(*words, "--overwrite").stdout
    refused = run(*words, "--no-resume")
    assert refused.exit_code == 1
    assert "exists already, as does 1 other pair;" in refused.stderr


def test_other_settings_are_refused(run, folder: Path, tmp_path: Path) -> None:
    words = ("degrade", folder, tmp_path / "set", "--kind", "noise")
    run(*words)
    result = run(*words, "--seed", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'set'}: was made with kind noise")
    assert run(*words, "--seed", "1", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "set/degradation.json").read_text())["seed"] == 1


def test_folders_may_be_left_out(run, folder: Path, tmp_path: Path) -> None:
    result = run("degrade", folder, tmp_path / "set", "--kind", "noise", "--no-recursive")
    assert result.stdout.splitlines()[0] == f"photographs  1 in {folder}"
    assert [pair.name for pair in pairs(tmp_path / "set")] == ["a"]


def test_a_bad_file_is_named_and_the_others_are_made(run, folder: Path, tmp_path: Path) -> None:
    (folder / "c.png").write_bytes(b"nothing")
    result = run("degrade", folder, tmp_path / "set", "--kind", "noise")
    assert result.exit_code == 1
    assert "(2 made, 1 failed; settings in" in result.stdout
    assert result.stderr.startswith(f"failed: {folder / 'c.png'}: is not an image")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.png", "set", "--kind", "noise"], 1, "none.png: no such file or folder"),
        (["photo.png", "set"], 2, "Missing option"),
        (["photo.png", "set", "--kind", "rain"], 2, "rain"),
        (
            ["photo.png", "set", "--kind", "motion", "--strength", "100"],
            1,
            "the strength of motion must be 0 to 64 (longest path in pixels), got 100",
        ),
    ],
)
def test_wrong_arguments_are_refused(
    run,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(photo.parent)
    result = run("degrade", *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert not Path("set").exists()


def test_every_degradation_can_be_chosen(run) -> None:
    assert get_args(Kind) == tuple(DEGRADATIONS)
    text = " ".join(run("degrade", "--help").stdout.replace("│", " ").split())
    for each in DEGRADATIONS.values():
        assert f"{each.name}:" in text
        assert f"({each.default:g})" in text
