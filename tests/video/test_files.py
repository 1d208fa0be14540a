"""Reading, encoding and writing of video files, without networks."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_clips import make_video

from glocal.errors import VideoError
from glocal.runs.video_job import video_job
from glocal.video.encoder import SegmentEncoder
from glocal.video.formats import crf_of
from glocal.video.muxing import decode_times
from glocal.video.source import frames_of
from glocal.video.survey import surveyed

av = pytest.importorskip("av")


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=40), st.data())
def test_packets_are_decoded_in_time(times: list[int], data: st.DataObject) -> None:
    """For any order of decoding: rising, and never after the frame is shown."""
    order = data.draw(st.permutations(times))
    found = decode_times(order)
    assert len(found) == len(order)
    assert all(a < b for a, b in itertools.pairwise(found))
    assert all(decoded <= shown for decoded, shown in zip(found, order, strict=True))


def test_without_reordering_frames_are_decoded_when_shown() -> None:
    assert decode_times([0, 10, 35]) == [0, 10, 35]


def test_quality_has_a_rate_factor() -> None:
    factors = [crf_of(each) for each in range(1, 101)]
    assert factors == sorted(factors, reverse=True)
    assert crf_of(95) == 16


@pytest.mark.parametrize(
    ("pixels", "codec"),
    [
        ("yuv420p", "libx264"), ("yuv422p", "libx264"), ("yuv444p", "libx264"),
        ("gray", "ffv1"), ("yuv420p10le", "libx264"), ("yuv420p10le", "libx265"),
        ("yuv422p10le", "libx265"), ("yuv444p12le", "libx265"), ("gbrp", "libx265"),
        ("gbrp10le", "ffv1"), ("yuv420p16le", "ffv1"),
    ],
)  # fmt: skip
def test_lossless_segments_hold_every_sample(tmp_path: Path, pixels: str, codec: str) -> None:
    make_video(tmp_path / "a.mkv", pixels=pixels, codec=codec, count=5, sound=False)
    job = video_job(tmp_path / "a.mkv", tmp_path / "out.mkv", lossless=True)
    assert job.encoding.pixels.name == pixels
    encoder, given = SegmentEncoder(job.encoding), []
    for number, frame in enumerate(frames_of(job.clip, strict=True)):
        encoder.add(frame.planes, number, 1)
        given.append(frame.planes)
    data, packets = encoder.finish()
    decoder = av.CodecContext.create({"libx264": "h264", "libx265": "hevc"}.get(codec, codec), "r")
    decoder.extradata = encoder.parameters
    if codec == "ffv1":
        decoder.height, decoder.width = job.encoding.size
    found, start = [], 0
    for _, _, size, _ in packets:
        found += decoder.decode(av.Packet(data[start : start + size]))
        start += size
    found += decoder.decode(None)
    assert len(found) == len(given) == 5
    for planes, frame in zip(given, found, strict=True):
        for plane, samples in zip(frame.planes, planes, strict=True):
            lines = np.frombuffer(plane, samples.dtype).reshape(plane.height, -1)
            np.testing.assert_array_equal(lines[:, : plane.width], samples)


@pytest.mark.parametrize("codec", ["h264", "h265", "ffv1"])
@pytest.mark.parametrize("size", [(48, 64), (64, 64)])
def test_equal_frames_have_equal_bytes(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    """Whatever lies in memory beside them: encoders have read what nothing wrote."""
    make_video(tmp_path / "a.mkv", count=8, size=size, sound=False, subtitles=False)
    job = video_job(tmp_path / "a.mkv", tmp_path / "o.mkv", codec=codec)
    frames, found = list(frames_of(job.clip, strict=True)), set()
    for number in range(12):
        encoder, litter = SegmentEncoder(job.encoding), []
        for time, frame in enumerate(frames):
            litter.append(np.random.default_rng(number).bytes(100_000 + 77 * number))
            encoder.add(frame.planes, time, 1)
        found.add(encoder.finish()[0])
    assert len(found) == 1


def test_times_of_a_varying_rate_are_read(tmp_path: Path) -> None:
    shown = make_video(tmp_path / "a.mp4", varying=True)
    job = video_job(tmp_path / "a.mp4", tmp_path / "out.mp4")
    survey = surveyed(job.clip)
    assert list(survey.times) == shown
    assert job.clip.time_base == Fraction(1, 12288)
    assert survey.damage == ""


def test_cuts_between_scenes_are_found(tmp_path: Path) -> None:
    from video_clips import RATE, SIZE, add_frame, planes, times

    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.height, stream.width = SIZE
        for number, time in enumerate(times(12)):
            samples = planes("yuv420p", number)
            if number >= 7:
                samples[0] = 255 - samples[0] // 3
            file.mux(add_frame(stream, samples, time))
        file.mux(stream.encode())
    survey = surveyed(video_job(tmp_path / "a.mkv", tmp_path / "o.mkv").clip)
    assert survey.cuts == {7}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_truncated_file_is_told(tmp_path: Path, suffix: str) -> None:
    whole, part = tmp_path / f"whole{suffix}", tmp_path / f"part{suffix}"
    make_video(whole, sound=False, subtitles=False, options={"crf": "5"})
    if suffix == ".mp4":  # the index first, as for the web
        data = whole.read_bytes()
        with (
            av.open(str(whole)) as source,
            av.open(str(part), "w", options={"movflags": "faststart"}) as target,
        ):
            copy = target.add_stream_from_template(source.streams.video[0], opaque=True)
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    target.mux(packet)
        data = part.read_bytes()
    else:
        data = whole.read_bytes()
    part.write_bytes(data[: len(data) // 2])
    clip = video_job(part, tmp_path / f"o{suffix}").clip
    with pytest.raises(VideoError, match=r"is damaged: .*; \d+ frames, up to .* can be decoded"):
        surveyed(clip)
    found = surveyed(clip, accept_damaged=True)
    assert 0 < len(found.times) < 18
    assert found.damage


@pytest.mark.parametrize("seed", [0, 3, 8, 9, 10])
def test_damage_in_the_middle_is_told(tmp_path: Path, seed: int) -> None:
    """In packets, and, with the last two seeds, in the container, which then skips frames."""
    path = tmp_path / "a.mkv"
    make_video(path, sound=False, subtitles=False, options={"crf": "5"})
    data = bytearray(path.read_bytes())
    place = len(data) * (seed + 3) // 18
    data[place : place + 400] = np.random.default_rng(seed).bytes(400)
    path.write_bytes(bytes(data))
    clip = video_job(path, tmp_path / "o.mkv").clip
    with pytest.raises(VideoError, match="is damaged"):
        surveyed(clip)
    assert surveyed(clip, accept_damaged=True).damage


def test_interlaced_video_is_refused(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", interlaced=True, size=(64, 64), count=4)
    clip = video_job(tmp_path / "a.mkv", tmp_path / "o.mkv").clip
    with pytest.raises(VideoError, match="is interlaced; deinterlace it first"):
        surveyed(clip)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match="cannot be read as a video"):
        video_job(tmp_path / "a.mp4", tmp_path / "o.mp4")


def test_a_file_of_sound_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        sound = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        file.mux(sound.encode(frame))
        file.mux(sound.encode())
    with pytest.raises(VideoError, match="has no video stream"):
        video_job(tmp_path / "a.mp4", tmp_path / "o.mp4")


@pytest.mark.parametrize(
    ("options", "target", "text"),
    [
        ({}, "o.avi", "the name of a video must end in .mp4, .m4v, .mov, .mkv"),
        ({"codec": "ffv1"}, "o.mp4", "FFV1 needs a Matroska file"),
        ({"codec": "h264"}, "o.mkv", "no encoder takes its pixel format, yuv420p12le"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, options, target, text) -> None:
    make_video(tmp_path / "a.mkv", pixels="yuv420p12le", codec="libx265", count=2)
    with pytest.raises(VideoError, match=text):
        video_job(tmp_path / "a.mkv", tmp_path / target, **options)


def test_odd_sizes_need_a_codec_that_holds_them(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", codec="ffv1", size=(47, 63), count=2)
    assert video_job(tmp_path / "a.mkv", tmp_path / "o.mkv").encoding.codec == "ffv1"
    with pytest.raises(VideoError, match=r"odd size \(47x63\); use\s+--codec ffv1"):
        video_job(tmp_path / "a.mkv", tmp_path / "o.mp4")


def test_codecs_are_kept(tmp_path: Path) -> None:
    cases = [
        ("libx264", "yuv420p", "h264"), ("libx265", "yuv420p", "h265"),
        ("libx264", "yuv420p10le", "h264"), ("mpeg4", "yuv420p", "h264"),
        ("prores_ks", "yuv422p10le", "h265"),
    ]  # fmt: skip
    for codec, pixels, kept in cases:
        path = tmp_path / f"{codec}{pixels}.mov"
        make_video(path, codec=codec, pixels=pixels, count=6, sound=False, subtitles=False)
        assert video_job(path, tmp_path / "o.mov").encoding.codec == kept
