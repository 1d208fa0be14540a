import json
import sys
from pathlib import Path

import numpy as np
import pytest

from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.networks import load
from glocal.study.shift.folder import FILES
from glocal.study.shift.measure import analyze
from glocal.study.shift.seams import seam_ratio, tile_borders
from glocal.texts import text_table

pytestmark = pytest.mark.usefixtures("unproven")


@pytest.fixture
def data(photo: Path, tmp_path: Path) -> Path:
    """A paired data set of two images of 70 × 90 pixels; the degraded ones are darker."""
    sharp = images.read(photo).pixels
    for name, pixels in (("a", sharp), ("b", sharp[::-1])):
        for folder, part in (("blur", pixels // 2), ("sharp", pixels)):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            path = tmp_path / "set" / folder / f"{name}.png"
            images.write(path, Image(np.ascontiguousarray(part)))
    return tmp_path / "set"


def pixels(path: Path) -> np.ndarray:
    return (images.read(path).pixels / np.float32(255)).astype(np.float32)


def test_operations_are_ranked(run, checkpoint: Path, data: Path) -> None:
    result = run("analyze", checkpoint, "--data", data, "--crops-per-image", 4, "--window", 40)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "network      tiny (NAFNet)"
    assert lines[1] == f"images       2 in {data}"
    assert lines[2] == "crops        4 of 32x32 in each image (the same)"
    assert lines[3] == "window       40x40"
    inputs = [pixels(data / "blur" / f"{name}.png") for name in "ab"]
    expected = analyze(load(checkpoint), inputs, 32, window=40, crops_per_image=4)
    table = [line.rstrip() for line in lines if "adaptive_avg_pool2d" in line]
    assert table == text_table(expected.rows()).splitlines()[2:]
    assert lines[-1] == expected.verdict()
    assert result.stderr == ""


def test_json(run, checkpoint: Path, data: Path) -> None:
    words = ("--crops-per-image", 3, "--seed", 2, "--limit", 1, "--json")
    result = run("analyze", checkpoint, "--data", data, *words)
    assert result.exit_code == 0, result.output
    inputs = [pixels(data / "blur/a.png")]
    expected = analyze(load(checkpoint), inputs, 32, crops_per_image=3, seed=2)
    assert json.loads(result.stdout) == json.loads(expected.to_json())


def test_a_folder_of_results(run, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    out = tmp_path / "new" / "out"
    words = ("analyze", checkpoint, "--data", data, "--crops-per-image", 3, "--out", out)
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert f"result       {out}" in result.stdout

    network, degraded = load(checkpoint), pixels(data / "blur/a.png")
    stitched = restore(network, degraded, tiles=Tiles(32, overlap=0, blend="cut"))
    written = images.read(out / "stitched.png").pixels
    assert np.abs(written / 255 - stitched.clip(0, 1)).max() < 0.003
    found = json.loads((out / "shift.json").read_text())
    assert found["network"] == "tiny (NAFNet)"
    assert found["seams"]["reference"] == "target"
    ratio = seam_ratio(
        stitched, pixels(data / "sharp/a.png"), tile_borders(70, 32), tile_borders(90, 32)
    )
    assert found["seams"]["ratio"]["crop-and-stitch"] == pytest.approx(ratio, rel=1e-4)
    assert f"crop-and-stitch {ratio:.2f}, TLC " in result.stdout
    factor = found["seams"]["amplified"]
    assert f"|crop-and-stitch − TLC|, multiplied by {factor}" in result.stdout
    whole = images.read(out / "tlc.png").pixels
    difference = np.abs(written.astype(float) - whole).mean(2)
    shown = images.read(out / "seams.png").pixels[..., 0]
    unclipped = ((written % 255 > 0) & (whole % 255 > 0)).all(2)
    assert unclipped.any()
    assert np.abs(shown - (difference * factor).clip(0, 255))[unclipped].max() <= factor + 1

    refused = run(*words)
    assert refused.exit_code == 1
    assert f"error: {out / 'shift.json'} exists; choose another folder" in refused.stderr
    assert run(*words, "--overwrite").exit_code == 0


def test_the_user_chooses_layers(run, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    words = ("analyze", checkpoint, "--data", data, "--limit", 1, "--crops-per-image", 3)
    sizes = []
    for count in (1, 2):
        chosen = ["encoders.0.0.sca.0", "decoders.0.0.sca.0"][:count]
        layers = [word for layer in chosen for word in ("--layer", layer)]
        out = tmp_path / str(count)
        result = run(*words, *layers, "--out", out)
        assert result.exit_code == 0, result.output
        sizes.append(images.read(out / "density.png").size)
    assert sizes[0] != sizes[1]
    unknown = run(*words, "--layer", "none", "--out", tmp_path / "none")
    assert unknown.exit_code == 1
    assert (
        "module 'none' has no global operation; these have one: 'encoders.0.0.sca.0'"
        in unknown.stderr
    )
    assert not (tmp_path / "none").exists()
    alone = run(*words, "--layer", "none")
    assert alone.exit_code == 2
    assert "--out" in alone.stderr


def test_a_plain_folder_is_accepted_with_a_note(run, checkpoint: Path, photo: Path) -> None:
    result = run("analyze", checkpoint, "--data", photo.parent, "--crops-per-image", 3)
    assert result.exit_code == 0, result.output
    assert f"images       1 in {photo.parent}" in result.stdout
    assert "note:" in result.stderr
    assert "its images are used as degraded images" in result.stderr


def test_without_a_target_seams_are_measured_against_tlc(
    run, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    words = ("--crops-per-image", 3, "--out", tmp_path / "out")
    result = run("analyze", checkpoint, "--data", data / "blur", *words)
    assert result.exit_code == 0, result.output
    seams = json.loads((tmp_path / "out/shift.json").read_text())["seams"]
    assert seams["reference"] == "TLC"
    assert list(seams["ratio"]) == ["crop-and-stitch"]


def test_crops_of_a_training_set(run, checkpoint: Path, data: Path) -> None:
    words = ("--crops", data / "sharp", "--crops-per-image", 3, "--limit", 1)
    result = run("analyze", checkpoint, "--data", data, *words)
    assert result.exit_code == 0, result.output
    assert f"(2 in {data / 'sharp'})" in result.stdout
    found = json.loads(run("analyze", checkpoint, "--data", data, *words, "--json").stdout)
    assert found["operations"][0]["samples"]["crops"] == 6


def test_wrong_arguments_are_refused(
    run, bare_checkpoint: Path, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    for words, code, message in (
        ([bare_checkpoint, "--data", data], 1, "give --train-size"),
        ([checkpoint, "--data", tmp_path / "none"], 1, "no such folder"),
        ([checkpoint, "--data", data, "--crops", tmp_path / "none"], 1, "no such folder"),
        ([checkpoint, "--data", data, "--layout", "gopro"], 1, "does not match the layout gopro"),
        ([checkpoint, "--data", data, "--out", data / "blur/a.png"], 1, "is a file"),
        ([checkpoint], 2, "Missing option"),
    ):
        result = run("analyze", *words)
        assert result.exit_code == code
        assert message in result.stderr


def test_a_refused_file_loses_nothing(
    run, checkpoint: Path, data: Path, tmp_path: Path, photo: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    words = ("--limit", 1, "--crops-per-image", 2, "--out", photo / "out")
    result = run("analyze", checkpoint, "--data", data, *words)
    assert result.exit_code == 1
    assert "mean distance" in result.stdout
    assert "cannot be created" in result.stderr


def test_a_missing_matplotlib_is_reported_before_the_work(
    run, checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("analyze", checkpoint, "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert 'pip install "glocal[plots]"' in result.stderr
    assert not (tmp_path / "out").exists()
    assert run("analyze", checkpoint, "--data", data, "--limit", 1).exit_code == 0
