"""`glocal restore` for videos."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from video_clips import make_video, packets, pictures

import glocal
from glocal.networks import load
from glocal.runs import video_stages
from glocal.runs.video import restore_video
from glocal.runs.video_job import video_job
from glocal.video.survey import surveyed

pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    make_video(tmp_path / "clip.mkv", count=8)
    return tmp_path / "clip.mkv"


def test_a_video_is_restored(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    result = run("restore", clip, target, "--model", checkpoint)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"video        {clip} (64 × 48 pixels, 8 frames, 0.3 s)"
    assert lines[1] == "network      tiny (NAFNet, trained on crops of 32x32)"
    assert lines[2].startswith("way          auto: statistics from windows of 48x48; 3 local")
    assert lines[3] == (
        "encoding     H.264, 8 bit 4:2:0, CRF 16; copied: audio 1 (aac), subtitle 2 (srt)"
    )
    assert lines[4].startswith("time         ")
    assert lines[5] == f"result       {target}"
    job = video_job(clip, tmp_path / "expected.mkv")
    restore_video(glocal.localize(load(checkpoint), 32), job, surveyed(job.clip))
    assert target.read_bytes() == (tmp_path / "expected.mkv").read_bytes()


def test_the_default_name_is_beside_the_video(run, tmp_path: Path, checkpoint: Path) -> None:
    make_video(tmp_path / "clip.mp4", count=3)
    result = run("restore", tmp_path / "clip.mp4", "--model", checkpoint)
    assert result.exit_code == 0, result.output
    assert len(pictures(tmp_path / "clip-restored.mp4")) == 3


def test_json_reports_the_video(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    result = run("restore", clip, target, "--model", checkpoint, "--json")
    report = json.loads(result.stdout)
    assert (report["restored"], report["failed"]) == (1, 0)
    (video,) = report["videos"]
    assert (video["result"], video["frames"], video["size"]) == (str(target), 8, [48, 64])
    assert video["notes"] == ["subtitle stream 2 (srt) is left out: mp4 cannot hold it"]
    assert "note: subtitle stream 2 (srt) is left out" in result.stderr


def test_a_dry_run_writes_nothing(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run("restore", clip, tmp_path / "o.mkv", "--model", checkpoint, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "(nothing was written)" in result.stdout
    assert "estimate     about " in result.stdout
    assert not (tmp_path / "o.mkv").exists()


def test_quiet_prints_nothing(run, clip: Path, checkpoint: Path) -> None:
    result = run("restore", clip, "--model", checkpoint, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_options_of_photographs_work(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    made = run(
        "restore", clip, tmp_path / "o.mkv", "--model", checkpoint, "--strength", "0", "--lossless",
        "--ensemble", "8", "--batch", "2", "--memory", "2GB",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    for (_, before), (_, after) in zip(pictures(clip), pictures(tmp_path / "o.mkv"), strict=True):
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)


def test_smoothing_says_what_it_does(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run(
        "restore", clip, tmp_path / "o.mkv", "--model", checkpoint, "--way", "crops",
        "--smooth-statistics", "0.5s",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "smoothed     statistics over 0.5 s, no cuts" in result.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--smooth-statistics", "4"], "no effect with --way auto; it needs --way crops"),
        (["--smooth-statistics", "4", "--way", "windows"], "it needs --way crops"),
        (["--smooth-statistics", "x", "--way", "crops"], "no time to smooth over"),
        (["--region", "0,0,9,9"], "--region is for photographs"),
        (["--format", "png"], "--format is for photographs"),
        (["--codec", "ffv1", "-o", "o.mp4"], "FFV1 needs a Matroska file"),
        (["-o", "o.gif"], "the name of a video must end in"),
        (["-o", "-"], "a video cannot go to standard output"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run, clip: Path, checkpoint: Path, tmp_path: Path, monkeypatch, words: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run("restore", clip, "--model", checkpoint, *words)
    assert result.exit_code != 0
    assert text in " ".join(result.stderr.split())
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words", [["--codec", "h265"], ["--lossless"], ["--smooth-statistics", "3"]]
)
def test_options_of_videos_are_refused_for_photographs(
    run, photo: Path, checkpoint: Path, words: list[str]
) -> None:
    result = run("restore", photo, "--model", checkpoint, *words)
    assert result.exit_code != 0
    assert f"{words[0]} is for a video" in result.stderr


def test_a_folder_of_inputs_is_refused(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    result = run("restore", clip, "--model", checkpoint, "--input", f"sigma={tmp_path / 'maps'}")
    assert result.exit_code != 0
    assert "a video takes one number or image" in result.stderr


def test_several_videos_are_refused(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "b.mkv")
    result = run("restore", clip, tmp_path / "b.mkv", f"{tmp_path}/out/", "--model", checkpoint)
    assert result.exit_code != 0
    assert "videos are restored one by one" in result.stderr


def test_existing_results_stay(run, clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "o.mkv").write_text("mine")
    result = run("restore", clip, "-o", tmp_path / "o.mkv", "--model", checkpoint)
    assert result.exit_code != 0
    assert (tmp_path / "o.mkv").read_text() == "mine"
    again = run("restore", clip, "-o", tmp_path / "o.mkv", "--model", checkpoint, "--overwrite")
    assert again.exit_code == 0, again.output
    assert packets(tmp_path / "o.mkv", "audio") == packets(clip, "audio")


def test_videos_of_a_folder_are_named(
    run, clip: Path, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (clip, photo):
        shutil.copy(path, folder)
    result = run("restore", folder, tmp_path / "out", "--model", checkpoint)
    assert result.exit_code == 0, result.output
    assert "note: 1 video is not restored with the folder; name it by itself: clip.mkv" in (
        result.stderr
    )
    assert [each.name for each in (tmp_path / "out").glob("[!.]*")] == [photo.name]
    (folder / photo.name).unlink()
    alone = run("restore", folder, tmp_path / "other", "--model", checkpoint)
    assert "restore its videos one by one, such as" in alone.stderr


def test_a_truncated_video_is_refused_before_the_network_is_loaded(
    run, clip: Path, tmp_path: Path
) -> None:
    data = clip.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    result = run("restore", tmp_path / "cut.mkv", "--model", "no-such-network")
    assert result.exit_code == 1
    assert "is damaged" in result.stderr
    assert "--accept-damaged restores these" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_progress_is_in_frames(run, clip: Path, checkpoint: Path, monkeypatch) -> None:
    monkeypatch.setattr("glocal.cli.progress.LINES_S", 0.0)
    monkeypatch.setattr(video_stages, "SEGMENT_S", 0.1)
    result = run("restore", clip, "--model", checkpoint)
    assert "clip.mkv: 8/8 frames, " in result.stderr
    assert " frames/s, " in result.stderr


def test_without_pyav_one_line_says_so(run, clip: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    result = run("restore", clip)
    assert result.exit_code == 1
    assert result.stderr.strip() == 'error: videos need PyAV: pip install "glocal[video]"'
