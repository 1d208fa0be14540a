"""Whole videos: what reaches the result, and runs that are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from video_clips import BASE, Halting, make_video, packets, pictures

import glocal
from glocal.errors import ArgumentError, GlocalWarning, VideoError
from glocal.inference.smoothing import Smoothing
from glocal.runs import video_stages
from glocal.runs.locks import BusyError, Locks
from glocal.runs.private_folder import work_folder
from glocal.runs.video import VideoResult, restore_video
from glocal.runs.video_job import video_job
from glocal.video.survey import surveyed

av = pytest.importorskip("av")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_stages, "SEGMENT_S", 0.25)  # six frames


class Darker(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


class Normed(nn.Module):
    """A network with a norm over the whole image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(3, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.norm(self.convolution(x))


def run(
    source: Path, target: Path, network: nn.Module | None = None, **options: Any
) -> VideoResult:
    of_job = {k: options.pop(k) for k in ("codec", "quality", "lossless") if k in options}
    job = video_job(source, target, **of_job)
    survey = surveyed(job.clip, accept_damaged=options.pop("accept_damaged", False))
    return restore_video(network or Halting(), job, survey, **options)


def largest_difference(one: Path, other: Path) -> list[int]:
    """Of luma and chroma, between two videos."""
    pairs = zip(pictures(one), pictures(other), strict=True)
    differences = [
        [int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(p, q, strict=True)]
        for (_, p), (_, q) in pairs
    ]
    return [max(each) for each in zip(*differences, strict=True)]


def test_an_identity_network_returns_the_video(tmp_path: Path) -> None:
    shown = make_video(tmp_path / "a.mp4", varying=True)
    result = run(tmp_path / "a.mp4", tmp_path / "o.mp4", lossless=True)
    assert (result.frames, result.size, result.notes) == (18, (48, 64), ())
    assert largest_difference(tmp_path / "a.mp4", tmp_path / "o.mp4") == [0, 0, 0]
    assert [at for at, _ in pictures(tmp_path / "o.mp4")] == [each * BASE for each in shown]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.mp4", "o.mp4"]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.avi", "libx264"), ("a.webm", "libvpx-vp9"), ("a.ts", "libx264"),
     ("a.mpg", "mpeg2video"), ("a.mov", "prores_ks")],
)  # fmt: skip
def test_other_containers_and_codecs_are_read(tmp_path: Path, name: str, codec: str) -> None:
    pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    make_video(
        tmp_path / name, codec=codec, pixels=pixels, sound=False, subtitles=False, chapters=False,
        base=Fraction(1, 24),
    )  # fmt: skip
    result = run(tmp_path / name, tmp_path / "o.mkv", lossless=True)
    assert result.frames == 18
    assert max(largest_difference(tmp_path / name, tmp_path / "o.mkv")) == 0
    shown = [at for at, _ in pictures(tmp_path / "o.mkv")]
    assert np.allclose(np.diff(np.array(shown, float)), 1 / 24, atol=0.002)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_the_default_quality_loses_little(tmp_path: Path, codec: str) -> None:
    make_video(tmp_path / "a.mkv")
    run(tmp_path / "a.mkv", tmp_path / "o.mkv", codec=codec)
    pairs = zip(pictures(tmp_path / "a.mkv"), pictures(tmp_path / "o.mkv"), strict=True)
    errors = [((p[0].astype(float) - q[0]) ** 2).mean() for (_, p), (_, q) in pairs]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 42


@pytest.mark.parametrize(
    ("pixels", "codec", "name"),
    [
        ("yuv420p10le", "libx265", "o.mp4"), ("yuv422p10le", "libx264", "o.mkv"),
        ("yuv444p", "libx264", "o.mp4"), ("yuv422p", "libx264", "o.mov"),
        ("yuv420p10le", "ffv1", "o.mkv"), ("gbrp", "libx265", "o.mkv"),
    ],
)  # fmt: skip
def test_pixel_formats_are_kept(tmp_path: Path, pixels: str, codec: str, name: str) -> None:
    make_video(tmp_path / "a.mkv", pixels=pixels, codec=codec, count=8, subtitles=False)
    run(tmp_path / "a.mkv", tmp_path / name, lossless=True)
    with av.open(str(tmp_path / name)) as file:
        assert file.streams.video[0].pix_fmt == pixels
    assert max(largest_difference(tmp_path / "a.mkv", tmp_path / name)) == 0


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", codec="ffv1", size=(47, 63), count=3)
    result = run(tmp_path / "a.mkv", tmp_path / "o.mkv")
    assert result.size == (47, 63)
    assert largest_difference(tmp_path / "a.mkv", tmp_path / "o.mkv") == [0, 0, 0]


def test_a_grey_video_stays_grey(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", codec="ffv1", pixels="gray", count=3)
    run(tmp_path / "a.mkv", tmp_path / "o.mkv", Normed())
    assert [len(samples) for _, samples in pictures(tmp_path / "o.mkv")] == [1, 1, 1]


def test_all_ten_bits_go_through_the_network(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", pixels="yuv420p10le", codec="ffv1", count=3)
    run(tmp_path / "a.mkv", tmp_path / "o.mkv", Darker(), codec="ffv1")
    for (_, before), (_, after) in zip(
        pictures(tmp_path / "a.mkv"), pictures(tmp_path / "o.mkv"), strict=True
    ):
        expected = 64 + (before[0].astype(float) - 64) / 2
        assert np.abs(after[0] - expected).max() <= 1  # of 1023
        assert set(np.unique(after[0] % 4)) >= {0, 2}  # samples between those of 8 bits


@pytest.mark.parametrize("colours", [(1, 1, 1, 1), (6, 6, 6, 1), (9, 16, 9, 1), (1, 1, 1, 2)])
def test_tags_of_colours_are_copied(tmp_path: Path, colours: tuple[int, int, int, int]) -> None:
    make_video(tmp_path / "a.mkv", colours=colours, count=4)
    result = run(tmp_path / "a.mkv", tmp_path / "o.mkv", lossless=True)
    with av.open(str(tmp_path / "o.mkv")) as file:
        context = file.streams.video[0].codec_context
        found = (
            context.color_primaries, context.color_trc, context.colorspace, context.color_range
        )  # fmt: skip
    assert found == colours
    assert any("HDR (PQ)" in note for note in result.notes) == (colours[1] == 16)
    assert largest_difference(tmp_path / "a.mkv", tmp_path / "o.mkv") == [0, 0, 0]


@pytest.mark.parametrize(("source", "target"), [("a.mp4", "o.mp4"), ("a.mkv", "o.mkv")])
def test_sound_and_subtitles_are_copied_bit_for_bit(
    tmp_path: Path, source: str, target: str
) -> None:
    make_video(tmp_path / source, rotated=True, metadata={"title": "A title"})
    result = run(tmp_path / source, tmp_path / target)
    assert result.notes == ()
    for kind in ("audio", "subtitle"):
        before, after = packets(tmp_path / source, kind), packets(tmp_path / target, kind)
        assert before
        assert after == before
    with av.open(str(tmp_path / source)) as a, av.open(str(tmp_path / target)) as b:
        assert [s.language for s in b.streams][1:3] == ["deu", "fra"]
        assert b.metadata["title"] == "A title"
        assert [each["metadata"] for each in b.chapters()] == [{"title": "first"}]
        assert [s.disposition for s in b.streams] == [s.disposition for s in a.streams]
        assert next(b.decode(video=0)).rotation == next(a.decode(video=0)).rotation == 90


def test_what_a_container_cannot_hold_is_named(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", metadata={"MOOD": "bright"})
    result = run(tmp_path / "a.mkv", tmp_path / "o.mp4")
    assert result.notes == (
        "subtitle stream 2 (srt) is left out: mp4 cannot hold it",
        "mp4 does not hold some metadata: MOOD",
    )
    assert packets(tmp_path / "a.mkv", "audio")


def test_covers_and_attachments_are_kept(tmp_path: Path) -> None:
    make_video(tmp_path / "plain.mkv", count=3, sound=False)
    with (
        av.open(str(tmp_path / "plain.mkv")) as source,
        av.open(str(tmp_path / "a.mkv"), "w") as file,
    ):
        copies = {s.index: file.add_stream_from_template(s, opaque=True) for s in source.streams}
        file.add_attachment("font.ttf", "application/x-font", b"letters")
        picture = av.CodecContext.create("mjpeg", "w")
        picture.height, picture.width, picture.pix_fmt = 16, 16, "yuvj420p"
        picture.time_base = Fraction(1, 1)
        cover = bytes(picture.encode(av.VideoFrame(16, 16, "yuvj420p"))[0])
        file.add_attachment("cover.jpg", "image/jpeg", cover)
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                file.mux(packet)
    run(tmp_path / "a.mkv", tmp_path / "o.mkv")
    with av.open(str(tmp_path / "o.mkv")) as file:
        fonts = [s for s in file.streams if s.type == "attachment"]
        assert [bytes(each.data) for each in fonts] == [b"letters"]
        covers = [s for s in file.streams.video if s.index != 0]
        assert [bytes(next(iter(file.demux(each)))) for each in covers] == [cover]


@pytest.mark.parametrize("strip", ["gps", "all"])
def test_the_place_can_be_left_out(tmp_path: Path, strip: str) -> None:
    make_video(tmp_path / "a.mp4", metadata={"title": "Home", "location": "+48.0+011.0/"})
    run(tmp_path / "a.mp4", tmp_path / "o.mp4", strip=strip)
    with av.open(str(tmp_path / "o.mp4")) as file:
        assert "location" not in file.metadata
        assert ("title" in file.metadata) == (strip == "gps")


def test_networks_that_enlarge_make_larger_videos(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", count=8)
    result = run(tmp_path / "a.mkv", tmp_path / "o.mkv", Twice(), lossless=True)
    assert result.size == (96, 128)
    for (_, small), (_, large) in zip(
        pictures(tmp_path / "a.mkv"), pictures(tmp_path / "o.mkv"), strict=True
    ):
        assert np.abs(large[0][::2, ::2].astype(int) - small[0]).mean() < 1


def test_frames_of_a_batch_are_those_of_single_calls(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", count=16)
    for name, batch in (("one.mkv", 1), ("four.mkv", 4)):
        run(tmp_path / "a.mkv", tmp_path / name, Darker(), batch=batch)
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "four.mkv").read_bytes()


def test_progress_counts_frames(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv")
    told: list[tuple[int, int]] = []
    run(tmp_path / "a.mkv", tmp_path / "o.mkv", progress=lambda *done: told.append(done))
    assert told == [(n, 18) for n in range(19)]


def test_a_network_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    make_video(tmp_path / "a.mkv")
    with pytest.raises(glocal.GlocalError, match="broken"):
        run(tmp_path / "a.mkv", tmp_path / "o.mkv", Broken())
    assert [each.name for each in tmp_path.iterdir()] == ["a.mkv"]


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv")
    with Locks() as others:
        others.acquire(tmp_path / "o.mkv")
        with pytest.raises(BusyError):
            run(tmp_path / "a.mkv", tmp_path / "o.mkv")


def test_a_damaged_video_is_restored_if_accepted(tmp_path: Path) -> None:
    make_video(tmp_path / "whole.mkv", sound=False, subtitles=False)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: 2 * len(data) // 3])
    with pytest.raises(VideoError, match="is damaged"):
        run(tmp_path / "a.mkv", tmp_path / "o.mkv")
    result = run(tmp_path / "a.mkv", tmp_path / "o.mkv", accept_damaged=True)
    assert result.notes[0].startswith("the video is damaged: ")
    assert len(pictures(tmp_path / "o.mkv")) == result.frames < 18


CHILD = """
import sys
from pathlib import Path
import video_clips
from glocal.inference.smoothing import Smoothing
from glocal.runs import video_stages
from glocal.runs.video import restore_video
from glocal.runs.video_job import video_job
from glocal.video.survey import surveyed
video_stages.SEGMENT_S = 0.25
job = video_job(Path(sys.argv[1]), Path(sys.argv[2]))
restore_video(video_clips.Halting(), job, surveyed(job.clip), batch=1)
"""


def segments_in(folder: Path) -> int:
    """Number of finished segments in the journal of a run."""
    try:
        lines = (folder / "segments.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return 0
    return sum(b'"segment"' in line and line.endswith(b"}") for line in lines)


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """The child halts in its third segment of four and is killed there."""
    make_video(tmp_path / "a.mkv", count=22, varying=True)
    source, target, whole = (tmp_path / name for name in ("a.mkv", "o.mkv", "whole.mkv"))
    run(source, whole)
    paths = [str(Path(__file__).parents[1]), *sys.path]
    settings = {"HALT_AFTER": "14", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(source), str(target)], env=os.environ | settings
    )
    folder = work_folder(target)
    while segments_in(folder) < 2:
        assert child.poll() is None, "it ended before"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = segments_in(folder)
    assert not target.exists()
    result = run(source, target)
    assert result.done_before == done * round(0.25 * video_job(source, whole).clip.rate)
    assert 0 < result.done_before < 22
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.mkv", "o.mkv", "whole.mkv"]


class InterruptingError(KeyboardInterrupt):
    """Ends a run from within."""


def interrupted(
    source: Path, target: Path, frames: int, network: nn.Module, **options: Any
) -> None:
    def progress(done: int, total: int) -> None:
        if done == frames:
            raise InterruptingError

    with pytest.raises(InterruptingError) as caught:
        run(source, target, network, progress=progress, **options)
    assert "segments are saved in" in str(caught.value)


def test_a_damaged_segment_is_done_again(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv")
    source, target, whole = (tmp_path / name for name in ("a.mkv", "o.mkv", "whole.mkv"))
    run(source, whole)
    interrupted(source, target, 13, Halting())
    file = work_folder(target) / "segment-000001.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.warns(GlocalWarning, match="saved segments of .* are damaged, or follow one"):
        assert run(source, target).done_before == 6
    assert target.read_bytes() == whole.read_bytes()


def test_other_options_begin_again(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv")
    source, target, whole = (tmp_path / name for name in ("a.mkv", "o.mkv", "whole.mkv"))
    run(source, whole, quality=50)
    interrupted(source, target, 13, Halting())
    with pytest.warns(GlocalWarning, match="other options; starting afresh"):
        result = run(source, target, quality=50)
    assert result.done_before == 0
    assert target.read_bytes() == whole.read_bytes()


def test_without_resume_a_run_begins_again(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv")
    interrupted(tmp_path / "a.mkv", tmp_path / "o.mkv", 13, Halting())
    assert run(tmp_path / "a.mkv", tmp_path / "o.mkv", resume=False).done_before == 0


@pytest.mark.parametrize("at", [7, 12, 17])
def test_smoothing_goes_on_where_it_stopped(tmp_path: Path, at: int) -> None:
    make_video(tmp_path / "a.mkv")
    source, target, whole = (tmp_path / name for name in ("a.mkv", "o.mkv", "whole.mkv"))
    local = glocal.localize(Normed(), 32, statistics="crops")
    smooth = Smoothing.of("0.2s")
    run(source, whole, local, smooth=smooth)
    run(source, tmp_path / "plain.mkv", local)
    assert whole.read_bytes() != (tmp_path / "plain.mkv").read_bytes()
    interrupted(source, target, at, local, smooth=smooth)
    run(source, target, local, smooth=smooth)
    assert target.read_bytes() == whole.read_bytes()


def test_smoothing_and_turns_exclude_each_other(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", count=2)
    with pytest.raises(ArgumentError, match="exclude each other"):
        run(tmp_path / "a.mkv", tmp_path / "o.mkv", smooth=Smoothing.of("4"), ensemble=8)


def test_a_segment_names_its_packets(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv")
    interrupted(tmp_path / "a.mkv", tmp_path / "o.mkv", 13, Halting())
    lines = (work_folder(tmp_path / "o.mkv") / "segments.jsonl").read_text().splitlines()
    segments = [each for each in map(json.loads, lines) if "segment" in each]
    assert len(segments) >= 2  # the third may be written while the run ends
    assert {len(each["packets"]) for each in segments} == {6}
    assert all(each["packets"][0][3] for each in segments)  # begins with a key frame
