"""`glocal restore`: several photographs, pipes, dry runs, reports; test_restore.py has the rest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import glocal
from glocal.cli import app
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.networks import load


def pixels(path: Path) -> np.ndarray:
    return images.read(path).pixels


def test_several_photographs_go_into_a_folder_that_is_made(
    run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    second = photo.with_name("b.png")
    images.write(second, Image(pixels(photo)[:40]))
    out = f"{tmp_path / 'new/out'}/"
    result = run("restore", photo, second, out, "--model", checkpoint)
    assert result.exit_code == 0, result.output
    assert f"photographs  {photo}, {second}\n" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("new/out (2 restored)")
    assert pixels(Path(out) / "b.png").shape == (40, 90, 3)
    again = run("restore", photo, second, out, "--model", checkpoint, "--strength", "0.5")
    assert again.exit_code == 0
    assert again.stderr == "note: 2 done again: made with other options (strength)\n"
    mine = Path(out) / "b.png"
    images.write(mine, Image(pixels(photo)[:40]))
    left = run("restore", photo, second, out, "--model", checkpoint, "--strength", "0.5")
    assert left.exit_code == 1
    assert left.stdout.splitlines()[-1].endswith("(1 skipped, 1 left)")
    assert left.stderr.startswith(f"left: {second}: {mine} exists, and nothing tells")


def test_strength_ensemble_and_region(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    local = glocal.localize(load(checkpoint), 32)
    words = ("--model", checkpoint, "--strength", "0.25", "--ensemble", "8")
    result = run("restore", photo, tmp_path / "o.png", *words)
    assert result.exit_code == 0, result.output
    expected = glocal.restore(local, pixels(photo), strength=0.25, ensemble=8)
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), expected)
    result = run("restore", photo, "--model", checkpoint, "--region", "10,5,40,30")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"region       {photo} (40 × 30 pixels)\n")
    assert pixels(photo.with_name("photo-region.png")).shape == (30, 40, 3)
    outside = run("restore", photo, "--model", "none.pth", "--region", "80,5,40,30")
    assert "does not lie in the photograph of 90 × 70 pixels" in outside.stderr


def test_the_degraded_way_copies(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run("restore", photo, tmp_path / "o.png", "--model", checkpoint, "--way", "degraded")
    assert result.exit_code == 0, result.output
    assert "degraded: no network runs, the photograph stays as it is" in result.stdout
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), pixels(photo))


@pytest.mark.parametrize(
    "words",
    [("--strength", "1.1"), ("--ensemble", "4"), ("--region", "1,2,3"), ("--region", "a,b,c,d")],
)
def test_wrong_values_exit_with_2(run, photo: Path, words: tuple[str, ...]) -> None:
    assert run("restore", photo, *words).exit_code == 2


def test_pipes(photo: Path, checkpoint: Path, tmp_path: Path, run) -> None:
    words = ["restore", "-", "-", "--model", str(checkpoint)]
    result = CliRunner().invoke(app, words, input=photo.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert "result       -\n" in result.stderr
    expected = glocal.restore(glocal.localize(load(checkpoint), 32), pixels(photo))
    np.testing.assert_array_equal(images.decode(result.stdout_bytes).pixels, expected)
    words = ["restore", str(photo), "-", "--model", str(checkpoint), "--format", "jpg", "--quiet"]
    result = CliRunner().invoke(app, words)
    assert (result.stdout_bytes[:2], result.stderr) == (b"\xff\xd8", "")


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "standard input is empty"), (b"text " * 9, "is not a")]
)
def test_standard_input_must_be_a_photograph(run, data: bytes, said: str) -> None:
    result = CliRunner().invoke(app, ["restore", "-", "-"], input=data)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stdout_bytes == b""


def test_a_dry_run_writes_nothing(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("restore", photo, f"{out}/", "--model", checkpoint)
    before = sorted(tmp_path.rglob("*"))
    result = run("restore", photo, f"{tmp_path}/o/", "--model", checkpoint, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "photographs  1 to restore\n" in result.stdout
    assert "for 0.0 megapixels" in result.stdout
    assert "(nothing was written)" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_folder_tells_what_it_would_do(
    run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        images.write(folder / name, Image(pixels(photo)[:33]))
    words = ("restore", folder, tmp_path / "out", "--model", checkpoint)
    assert run(*words).exit_code == 0
    images.write(folder / "a.png", Image(pixels(photo)[:44]))
    result = run(*words, "--dry-run", "--json")
    found = json.loads(result.stdout)
    assert found["counts"] == {"to do again": 1, "to skip": 1}
    assert found["seconds"] > 0
    assert found["bytes"] > 0


def test_json_tells_what_was_done(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run("restore", photo, tmp_path / "o.png", "--model", checkpoint, "--json")
    found = json.loads(result.stdout)
    (only,) = found["photographs"]
    assert (found["restored"], found["failed"]) == (1, 0)
    assert (only["result"], only["size"]) == (str(tmp_path / "o.png"), [70, 90])
    assert found["network"] == "tiny (NAFNet, trained on crops of 32x32)"


def test_quiet_and_verbose(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    words = ("restore", photo, "--model", checkpoint, "--overwrite")
    quiet = run(*words, "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")
    verbose = run(*words, "-v")
    assert "versions     glocal" in verbose.stdout
    assert "adaptive_avg_pool2d" in verbose.stdout
    both = run(*words, "-q", "-v")
    assert "--quiet and --verbose contradict each other" in both.stderr


def test_a_large_photograph_says_what_it_waits_for(
    run, photo: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.cli.restore_task.LARGE_PIXELS", 1000)
    result = run("restore", photo, "--model", checkpoint)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"loading network …\nphoto\.png: about .+\n", result.stderr)


@pytest.mark.slow
def test_the_module_is_the_command() -> None:
    words = [sys.executable, "-m", "glocal", "--version"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == f"glocal {glocal.__version__}\n"


def test_a_folder_of_large_photographs_says_how_long_the_first_takes(
    run, photo: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.cli.restore_task.LARGE_PIXELS", 1000)
    second = photo.with_name("b.png")
    images.write(second, Image(pixels(photo)[:40]))
    result = run("restore", photo, second, f"{tmp_path}/out/", "--model", checkpoint)
    assert result.exit_code == 0, result.output
    waited, expected = result.stderr.splitlines()
    assert waited == "loading network …"
    assert expected.startswith(f"{photo}, {second}: about ")
    assert expected.endswith(" for the first photograph")
