"""`glocal restore`. More than 300 lines: tests mirror the modules, one file for each."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import glocal
from glocal.images import image_files as images
from glocal.images.folders import list_images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.networks import load


def pixels(path: Path) -> np.ndarray:
    return images.read(path).pixels


def test_a_photograph_is_restored_locally(run, photo: Path, checkpoint: Path) -> None:
    result = run("restore", photo, "--model", checkpoint)
    assert result.exit_code == 0, result.output
    target = photo.with_name("photo-restored.png")
    local = glocal.localize(load(checkpoint), 32)
    np.testing.assert_array_equal(pixels(target), restore(local, pixels(photo)))
    lines = result.stdout.splitlines()
    assert lines[0] == f"photograph   {photo} (90 × 70 pixels)"
    assert lines[1] == "network      tiny (NAFNet, trained on crops of 32x32)"
    assert lines[2] == (
        "way          auto: statistics from windows of 48x48; 3 local, 0 left global"
    )
    assert lines[3].startswith("time         ")
    assert lines[3].endswith(" s on cpu")
    assert lines[4] == f"result       {target}"
    assert result.stderr == ""


def test_the_window_is_obeyed(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run("restore", photo, tmp_path / "o.png", "--model", checkpoint, "--window", "20x24")
    assert "windows of 20x24" in result.stdout
    local = glocal.localize(load(checkpoint), 32, window=(20, 24))
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), restore(local, pixels(photo)))


def test_full_runs_the_network_as_it_is(
    run, photo: Path, bare_checkpoint: Path, tmp_path: Path
) -> None:
    result = run("restore", photo, tmp_path / "o.png", "--model", bare_checkpoint, "--way", "full")
    assert result.exit_code == 0, result.output
    assert "full: the original network on the whole image" in result.stdout
    expected = restore(load(bare_checkpoint), pixels(photo))
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), expected)


def test_kept_operations_are_counted(run, photo: Path, checkpoint: Path) -> None:
    result = run("restore", photo, "--model", checkpoint, "--keep-global", "encoders.*")
    assert "2 local, 0 left global, 1 kept global" in result.stdout


def test_stitch(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    words = ("--model", checkpoint, "--way", "stitch", "--overlap", "10")
    result = run("restore", photo, tmp_path / "o.png", *words)
    assert result.exit_code == 0, result.output
    expected = restore(load(checkpoint), pixels(photo), tiles=Tiles(32, overlap=10))
    np.testing.assert_array_equal(pixels(tmp_path / "o.png"), expected)


def test_narrow_types(run, photo: Path, checkpoint: Path) -> None:
    result = run("restore", photo, "--model", checkpoint, "--dtype", "bfloat16", "--device", "cpu")
    assert "s on cpu in bfloat16" in result.stdout


def test_a_foreign_checkpoint_needs_a_train_size(run, photo: Path, bare_checkpoint: Path) -> None:
    result = run("restore", photo, "--model", bare_checkpoint)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: the training size of bare is unknown; give --train-size",
        "(gt_size, patch_size or crop_size in its training options; "
        "256 for most models trained on GoPro)",
    ]
    result = run("restore", photo, "--model", bare_checkpoint, "--train-size", "32")
    assert result.exit_code == 0
    assert "trained on crops of 32x32" in result.stdout


def test_existing_outputs_need_overwrite(run, photo: Path, checkpoint: Path) -> None:
    target = photo.with_name("photo-restored.png")
    target.write_bytes(b"mine")
    result = run("restore", photo, "--model", checkpoint)
    assert result.exit_code == 1
    assert "exists; choose another name" in result.stderr
    assert target.read_bytes() == b"mine"
    assert run("restore", photo, "--model", checkpoint, "--overwrite").exit_code == 0
    assert pixels(target).shape == (70, 90, 3)


def test_the_input_is_never_overwritten(run, photo: Path, checkpoint: Path) -> None:
    before = photo.read_bytes()
    for target in (photo, photo.parent):
        result = run("restore", photo, target, "--model", checkpoint, "--overwrite")
        assert result.exit_code == 1
        assert "is the input file; choose another output name" in result.stderr
    assert photo.read_bytes() == before


def test_a_folder_may_be_the_target_of_a_photograph(
    run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    result = run("restore", photo, tmp_path / "out", "--model", checkpoint)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out/photo.png").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("o.gif", "the name must end in"),
        ("none/o.png", "no such folder to write to"),
    ],
)
def test_impossible_targets_are_refused_before_the_work(
    run, photo: Path, checkpoint: Path, tmp_path: Path, name: str, message: str
) -> None:
    result = run("restore", photo, tmp_path / name, "--model", checkpoint)
    assert result.exit_code == 1
    assert message in result.stderr


def test_missing_input(run, tmp_path: Path) -> None:
    result = run("restore", tmp_path / "none.png")
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path}/none.png: no such file or folder\n"


def test_a_damaged_photograph_is_one_line(run, photo: Path, checkpoint: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:99])
    result = run("restore", photo, "--model", checkpoint)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {photo}: is damaged or cut short")
    assert len(result.stderr.splitlines()) == 1
    assert sorted(p.name for p in photo.parent.glob("photo*")) == ["photo.png"]


def test_notes_are_printed(run, photo: Path, checkpoint: Path, tmp_path: Path) -> None:
    images.write(photo, Image(pixels(photo).astype(np.uint16) * 257))
    result = run("restore", photo, tmp_path / "o.jpg", "--model", checkpoint)
    assert result.stderr == "note: 16-bit samples were rounded to 8 bits for .jpg\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--window", "0"),
        ("--window", "big"),
        ("--train-size", "3x4x5"),
        ("--tile", "-5"),
        ("--batch", "0"),
        ("--batch", "all"),
        ("--dtype", "int8"),
        ("--quality", "101"),
        ("--no-such-option",),
    ],
)
def test_usage_errors_exit_with_2(run, photo: Path, words: tuple[str, ...]) -> None:
    assert run("restore", photo, *words).exit_code == 2


def test_a_folder_needs_a_target(run, tmp_path: Path) -> None:
    result = run("restore", tmp_path)
    assert result.exit_code == 2
    assert "give an output folder" in result.stderr


def test_interruption_exits_with_130(
    run, photo: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glocal.runs.file_stages.restore", interrupted)
    result = run("restore", photo, "--model", checkpoint)
    assert result.exit_code == 130
    assert result.stderr == "interrupted: nothing half-written was left behind\n"
    assert sorted(p.name for p in photo.parent.glob("photo*")) == ["photo.png"]


@pytest.mark.filterwarnings("default")
def test_short_memory_is_reported_in_one_line(
    run, photo: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from glocal.inference.runner import ModelRunner

    whole = ModelRunner.__call__

    def short(self: ModelRunner, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        if x.shape[-1] > 64:
            raise MemoryError
        return whole(self, x)

    monkeypatch.setattr(ModelRunner, "__call__", short)
    monkeypatch.setattr("glocal.inference.blending.FALLBACK_TILES", (32,))
    result = run("restore", photo, "--model", checkpoint, "--way", "full")
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        "warning: not enough memory for 70x90 pixels at once; continuing in blended tiles of "
        "32x32\n"
    )
    result = run("restore", photo, "--model", checkpoint, "--overwrite")
    assert result.exit_code == 0, result.output
    first, second = result.stderr.splitlines()
    assert first.startswith(
        "warning: memory suffices for 3150 pixels at once, too few for a halo of 144 pixels: tiles "
        "of 32x32 that overlap by half are blended, and the result differs from that of the whole "
        "image, by up to "
    )
    assert second == (
        "warning: not enough memory on cpu for 70x90 pixels at once; continuing in tiles"
    )


@pytest.fixture
def folder(photo: Path, tmp_path: Path) -> Path:
    (tmp_path / "in/sub").mkdir(parents=True)
    shutil.copy(photo, tmp_path / "in/a.png")
    shutil.copy(photo, tmp_path / "in/sub/b.png")
    return tmp_path / "in"


def test_a_folder_is_restored_and_resumed(
    run, folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("restore", folder, out, "--model", checkpoint)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"photographs  2 in {folder}"
    assert lines[-1] == f"result       {out} (2 restored)"
    assert [p.relative_to(out).as_posix() for p in list_images(out, recursive=True)] == [
        "a.png",
        "sub/b.png",
    ]
    shutil.copy(folder / "a.png", folder / "c.png")
    again = run("restore", folder, out, "--model", checkpoint)
    assert again.stdout.splitlines()[-1] == f"result       {out} (1 restored, 2 skipped)"
    refused = run("restore", folder, out, "--model", checkpoint, "--no-resume")
    assert refused.exit_code == 1
    assert "exist already" in refused.stderr
    forced = run("restore", folder, out, "--model", checkpoint, "--overwrite")
    assert forced.stdout.splitlines()[-1] == f"result       {out} (3 restored)"


def test_images_of_a_folder_share_calls(
    run, folder: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glocal.inference.runner import ModelRunner

    calls = []
    whole = ModelRunner.__call__

    def counted(self: ModelRunner, x):
        calls.append(len(x))
        return whole(self, x)

    monkeypatch.setattr(ModelRunner, "__call__", counted)
    for batch, expected in (("1", [1, 1]), ("3", [2]), ("auto", [2])):
        calls.clear()
        out = tmp_path / f"out-{batch}"
        result = run("restore", folder, out, "--model", checkpoint, "--batch", batch)
        assert result.exit_code == 0, result.output
        assert calls == expected
    first, second = (pixels(tmp_path / f"out-{batch}/a.png") for batch in ("1", "3"))
    assert np.abs(first.astype(int) - second.astype(int)).max() <= 1


def test_a_folder_run_tells_how_busy_the_device_was(
    run, folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("restore", folder, tmp_path / "out", "--model", checkpoint)
    assert re.search(r"^time +[\d.]+ s on cpu, busy \d+ % of the time$", run(*words).stdout, re.M)
    # nothing is left to do, so nothing was busy
    assert re.search(r"^time +[\d.]+ s on cpu$", run(*words).stdout, re.M)


def test_a_bad_file_is_reported_at_the_end(
    run, folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (folder / "bad.png").write_bytes(b"no image")
    result = run("restore", folder, tmp_path / "out", "--model", checkpoint)
    assert result.exit_code == 1
    assert result.stderr == (
        f"failed: {folder}/bad.png: is not an image of a format that can be read\n"
    )
    assert result.stdout.splitlines()[-1] == f"result       {tmp_path}/out (2 restored, 1 failed)"


def test_formats_and_depth_of_a_folder_are_chosen(
    run, folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("--format", "JPG", "--no-recursive", "--quality", "80")
    result = run("restore", folder, tmp_path / "out", "--model", checkpoint, *words)
    assert result.exit_code == 0, result.output
    assert list_images(tmp_path / "out", recursive=True) == [tmp_path / "out/a.jpg"]


def test_a_networks_factory_is_a_model(
    run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3))\n"
        "def wrong():\n"
        "    return 3\n"
    )
    (tmp_path / "my_networks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    result = run("restore", photo, "--model", "my_networks:build", "--train-size", "32")
    assert result.exit_code == 0, result.output
    assert "my_networks:build (Sequential, trained on crops of 32x32)" in result.stdout
    for name, message in (
        ("my_networks:wrong", "a factory must return a torch.nn.Module"),
        ("my_networks:none", "cannot be imported"),
        ("no_such_module:none", "cannot be imported"),
    ):
        result = run("restore", photo, "--model", name, "--overwrite")
        assert result.exit_code == 1
        assert message in result.stderr


def test_a_window_that_is_too_small_is_warned_of(run, photo: Path, checkpoint: Path) -> None:
    result = run("restore", photo, "--model", checkpoint, "--window", "8")
    assert result.exit_code == 0, result.output
    plan = glocal.scan(load(checkpoint), 32, window=8)
    assert result.stderr.splitlines() == [f"warning: {text}" for text in plan.warnings()]
    assert "8x8" in result.stderr


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A photograph of 200 × 331 pixels."""
    rows, columns = np.meshgrid(np.linspace(0, 9, 200), np.linspace(0, 9, 331), indexing="ij")
    planes = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], -1)
    images.write(tmp_path / "large.png", Image(np.rint((planes + 1) * 127).astype(np.uint8)))
    return tmp_path / "large.png"


def test_tiles_of_a_local_network_are_printed(run, large: Path, checkpoint: Path) -> None:
    target = large.with_name("o.png")
    words = ("--model", checkpoint, "--tile", "192", "--halo", "20")
    result = run("restore", large, target, *words)
    assert result.exit_code == 0, result.output
    assert "tiles        6 of up to 192x192 with a halo of 48, 2." in result.stdout
    local = glocal.localize(load(checkpoint), 32)
    expected = restore(local, pixels(large), tiles=Tiles(192, halo=20))
    np.testing.assert_array_equal(pixels(target), expected)


@pytest.mark.parametrize("text", ["8", "many GB"])
def test_memory_needs_a_unit(run, photo: Path, checkpoint: Path, text: str) -> None:
    result = run("restore", photo, "--model", checkpoint, "--memory", text)
    assert result.exit_code == 2
    message = " ".join(result.stderr.replace("│", " ").split())
    assert "is not an amount of memory; give it as 6GB or 800MB" in message


def test_an_interrupted_large_photograph_continues(
    run, large: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glocal.inference.run import TileRunner
    from glocal.runs import streaming

    monkeypatch.setattr(streaming, "STREAMED_PIXELS", 1000)
    words = ("--model", checkpoint, "--tile", "192", "--halo", "20")
    plain, target = large.with_name("plain.png"), large.with_name("o.png")
    whole, calls = TileRunner.__call__, []

    def stop(self: TileRunner, tile: object) -> object:
        calls.append(tile)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(self, tile)

    monkeypatch.setattr(TileRunner, "__call__", stop)
    result = run("restore", large, target, *words)
    assert result.exit_code == 130
    assert result.stderr == (
        f"interrupted: 3 of 6 tiles are saved in {large.parent / '.o.png.part'}; "
        "run the same command again to continue\n"
    )
    assert not target.exists()
    result = run("restore", large, target, *words)
    assert result.exit_code == 0, result.output
    assert "tiles        6 of up to 192x192 with a halo of 48, " in result.stdout
    assert "as measured, 3 of them done before" in result.stdout
    assert len(calls) == 4 + 3
    assert run("restore", large, plain, *words, "--no-resume").exit_code == 0
    assert target.read_bytes() == plain.read_bytes()
    assert not list(large.parent.glob(".*.part"))


def test_what_the_format_cannot_hold_is_said_once_and_before_the_work(
    run, photo: Path, checkpoint: Path
) -> None:
    deep = Image(pixels(photo).astype(np.uint16) * 257, np.full((70, 90), 65535, np.uint16))
    images.write(photo, deep)
    result = run("restore", photo, photo.with_name("o.jpg"), "--model", photo.with_name("none.pth"))
    assert result.exit_code == 1
    notes = [
        "note: 16-bit samples were rounded to 8 bits for .jpg",
        "note: JPEG has no alpha: the image was composited on white",
    ]
    assert result.stderr.splitlines()[:2] == notes
    result = run("restore", photo, photo.with_name("o.jpg"), "--model", checkpoint)
    assert result.stderr.splitlines() == notes


def test_a_file_beyond_the_format_or_unreadable_ends_before_the_model_is_loaded(
    run, tmp_path: Path
) -> None:
    images.write(tmp_path / "wide.png", Image(np.zeros((1, 16384, 3), np.uint8)))
    result = run("restore", tmp_path / "wide.png", tmp_path / "o.webp", "--model", "none.pth")
    assert result.exit_code == 1
    assert "files hold at most 16383 pixels a side, not 16384 × 1" in result.stderr
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = run("restore", tmp_path / "bad.png", tmp_path / "o.png", "--model", "none.pth")
    assert result.stderr.splitlines() == [
        f"error: {tmp_path / 'bad.png'}: is not an image of a format that can be read"
    ]


def test_metadata_is_stripped_and_unreadable_pictures_are_named(
    run, photo: Path, bare_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image = images.read(photo)
    images.write(folder / "a.png", Image(image.pixels, texts=(("Comment", "a"),)))
    (folder / "b.psd").touch()
    options = ("--model", bare_checkpoint, "--way", "full")
    result = run("restore", folder, tmp_path / "out", *options, "--strip", "all")
    assert result.exit_code == 0, result.output
    assert "1 not read, as nothing reads their formats: b.psd" in result.stderr
    assert images.read(tmp_path / "out/a.png").texts == ()
    run("restore", folder / "a.png", tmp_path / "b.png", *options, "--strip", "gps")
    assert images.read(tmp_path / "b.png").texts == (("Comment", "a"),)


def test_a_file_that_is_only_read_gets_a_name_that_can_be_written(
    run, bare_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 16 16 255\n" + bytes(768))
    result = run("restore", tmp_path / "a.ppm", "--model", bare_checkpoint, "--way", "full")
    assert result.exit_code == 0, result.output
    assert pixels(tmp_path / "a-restored.png").shape == (16, 16, 3)


def test_damaged_photographs_are_refused_or_accepted_with_a_note(
    run, checkpoint: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data, _ = images.encode(Image(noise), ".jpg")
    source = tmp_path / "cut.jpg"
    source.write_bytes(data[: len(data) // 2])
    words = ("restore", source, tmp_path / "out.png", "--model", checkpoint, "--no-check")
    refused = run(*words)
    assert refused.exit_code == 1
    assert "is damaged or cut short" in refused.stderr
    accepted = run(*words, "--accept-damaged")
    assert accepted.exit_code == 0, accepted.output
    assert "note: the file is damaged: areas may be missing or wrong\n" in accepted.stderr
