"""The ways of `glocal restore` and `glocal scan`, their options, and files of settings."""

from pathlib import Path

import numpy as np
import pytest

import glocal
from glocal.images import image_files as images
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.inference.settings import Settings
from glocal.networks import load
from glocal.scanning.plan import Plan


def pixels(path: Path) -> np.ndarray:
    return images.read(path).pixels


def way_of(result) -> str:
    """What a run says about its way."""
    assert result.exit_code == 0, result.output
    (line,) = (each for each in result.stdout.splitlines() if each.startswith("way "))
    return line.removeprefix("way ").strip()


def test_statistics_come_from_crops(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run("restore", photo, tmp_path / "o.png", "-m", checkpoint, "--way", "crops")
    said = "crops: statistics from crops of 32x32, at most 32x32 apart; 3 local, 0 left global"
    assert way_of(result) == said
    assert result.stderr == ""
    local = glocal.localize(load(checkpoint), 32, statistics="crops")
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), restore(local, pixels(photo)))


def test_the_stride_is_obeyed(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    words = ("--way", "crops", "--stride", "0.5")
    result = run("restore", photo, tmp_path / "o.png", "-m", checkpoint, *words)
    assert "crops of 32x32, at most 16x16 apart" in way_of(result)
    local = glocal.localize(load(checkpoint), 32, statistics="crops", stride=0.5)
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), restore(local, pixels(photo)))


def test_auto_is_a_mixture(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run("restore", photo, tmp_path / "o.png", "-m", checkpoint, "--way", "auto")
    plan = glocal.scan(load(checkpoint), 32, statistics="auto")
    assert way_of(result) == f"auto: {plan.sources()}; 3 local, 0 left global"


@pytest.mark.parametrize(
    ("words", "tiles", "said"),
    [
        ((), Tiles(32, overlap=4, blend="linear"), "12.5 % or more, faded"),
        (("--overlap", "50%"), Tiles(32, overlap=0.5), "50 % or more, faded"),
        (("--overlap", "0", "--blend", "cut"), Tiles(32, overlap=0, blend="cut"), "0 pixels or"),
        (("--tile", "40x48"), Tiles((40, 48), blend="linear"), "tiles of 40x48"),
    ],
)
def test_stitch_blends_tiles_of_the_training_size(
    run, photo: Path, checkpoint: Path, tmp_path: Path, words: tuple[str, ...], tiles, said: str
) -> None:
    result = run("restore", photo, tmp_path / "o.png", "-m", checkpoint, "--way", "stitch", *words)
    assert said in way_of(result)
    expected = restore(load(checkpoint), pixels(photo), tiles=tiles)
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), expected)


def test_stitch_needs_a_train_size(run, photo: Path, bare_checkpoint: Path) -> None:
    result = run("restore", photo, "-m", bare_checkpoint, "--way", "stitch")
    assert result.exit_code == 1
    assert "give --train-size" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--way full --window 48",
            "--window has no effect with --way full; it needs --way windows",
        ),
        ("--way crops --window 48", "--window has no effect with --way crops; it needs"),
        ("--way stitch --keep-global a", "--keep-global has no effect with --way stitch"),
        ("--way full --allow-global", "--allow-global has no effect with --way full"),
        ("--way windows --stride 2", "--stride has no effect with --way windows; it needs --way "),
        ("--way crops --precision fast", "--precision has no effect with --way crops"),
        ("--way full --tile 32", "--tile has no effect with --way full; it needs --way stitch"),
        ("--way full --overlap 50%", "--overlap has no effect with --way full; it needs"),
        ("--way stitch --halo 8", "--halo has no effect with --way stitch"),
        ("--way crops --stride 0", "stride must be a number above 0, got 0.0"),
        ("--way crops --stride inf", "stride must be a number above 0, got inf"),
        ("--way stitch --overlap 40", "tiles of 32 pixels with an overlap of 40 cannot cover"),
        ("--settings none.json", "none.json: cannot be read (No such file or directory)"),
    ],
)
def test_options_that_do_not_fit_get_one_line(
    run, photo: Path, checkpoint: Path, words: str, message: str
) -> None:
    result = run("restore", photo, "-m", checkpoint, *words.split())
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not photo.with_name("photo-restored.png").exists()


@pytest.mark.parametrize("words", ["--overlap 100%", "--overlap half", "--way best", "--global"])
def test_usage_errors_exit_with_2(run, photo: Path, words: str) -> None:
    assert run("restore", photo, *words.split()).exit_code == 2


def test_a_halo_makes_any_network_local(run, photo: Path, checkpoint: Path) -> None:
    words = ("--way", "full", "--tile", "192", "--halo", "8")
    assert run("restore", photo, "-m", checkpoint, *words).exit_code == 0


def test_settings_are_read(run, photo: Path, bare_checkpoint: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "settings.json", tmp_path / "o.png"
    Settings("crops", 32, str(bare_checkpoint), stride=2.0, keep_global=("enc*",)).write(file)
    result = run("restore", photo, out, "--settings", file)
    said = "crops: statistics from crops of 32x32, at most 64x64 apart; 2 local, 0 left global"
    assert way_of(result) == f"{said}, 1 kept global"
    options = {"statistics": "crops", "stride": 2.0, "keep_global": "enc*"}
    local = glocal.localize(load(bare_checkpoint), 32, **options)
    np.testing.assert_array_equal(pixels(out), restore(local, pixels(photo)))


def test_options_replace_settings(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    Settings("auto", 24, str(checkpoint), window=36, stride=2.0).write(file)
    words = ("restore", photo, "--settings", file, "--overwrite")
    assert "crops of 32x32, at most 64x64" in way_of(
        run(*words, "--way", "crops", "--train-size", 32)
    )
    assert way_of(run(*words, "--way", "windows")).startswith(
        "windows: statistics from windows of 36"
    )
    assert way_of(run(*words, "--way", "full")).startswith("full: ")
    said = way_of(run(*words, "--way", "stitch", "--overlap", "25%"))
    assert "tiles of 24x24 that overlap by 25 %" in said
    result = run(*words, "-m", "nafnet-motion-blur")
    assert result.stderr == f"note: {file} was made for {checkpoint}\n"


def test_wrong_settings_get_one_line(run, photo: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"format": 1, "way": "crops", "crops": 3}')
    result = run("restore", photo, "--settings", file)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {file}: unknown key 'crops'; known are way, ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("way", ["windows", "crops", "auto"])
def test_scan_shows_what_a_way_would_do(run, checkpoint: Path, way: str) -> None:
    stride = 1.0 if way == "windows" else 2.0
    words = () if way == "windows" else ("--stride", "2")
    result = run("scan", checkpoint, "--way", way, "--json", *words)
    wanted = glocal.scan(load(checkpoint), 32, statistics=way, stride=stride)
    assert Plan.from_json(result.stdout) == wanted
    assert ("crops at most 64x64 apart" in str(wanted)) == (way == "crops")


def test_scan_refuses_options_without_effect(run, checkpoint: Path) -> None:
    result = run("scan", checkpoint, "--way", "crops", "--window", "48")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: --window has no effect with --way crops")
    assert run("scan", checkpoint, "--way", "full").exit_code == 2


def test_a_folder_takes_a_way(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        images.write(folder / name, images.read(photo))
    small = images.Image(pixels(photo)[:20, :25].copy())
    images.write(folder / "small.png", small)
    local = glocal.localize(load(checkpoint), 32, statistics="crops")
    result = run("restore", folder, tmp_path / "out", "-m", checkpoint, "--way", "crops")
    assert way_of(result).startswith("crops: ")
    for path in sorted(folder.iterdir()):
        expected = restore(local, pixels(path)).astype(int)
        assert np.abs(pixels(tmp_path / "out" / path.name) - expected).max() <= 1
    alike = restore(load(checkpoint), small.pixels).astype(int)
    assert np.abs(pixels(tmp_path / "out/small.png") - alike).max() <= 1


def test_tiles_have_no_effect_on_a_photograph_that_stays_as_it_is(run, photo, checkpoint) -> None:
    result = run("restore", photo, "--model", checkpoint, "--way", "degraded", "--tile", "64")
    assert result.exit_code == 1
    assert "--tile has no effect with --way degraded" in result.stderr
