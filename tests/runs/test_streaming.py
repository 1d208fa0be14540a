"""Images that are streamed from and to disk.

More than 300 lines: tests mirror the modules, one file for each.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError, GlocalWarning, ImageError
from glocal.images import image_files as images
from glocal.images.formats import Metadata
from glocal.images.image_files import Image
from glocal.images.sample_files import Header, SampleFile, read_header
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.ops.windows import LEAST, Overlap
from glocal.runs import streaming
from glocal.runs.folder import restore_file
from glocal.runs.private_folder import work_folder
from glocal.runs.streaming import should_stream

SIZE = (200, 331)


class Gate(nn.Module):
    """Convolutions and one global mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.mix(x))


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


@pytest.fixture
def local() -> nn.Module:
    return glocal.localize(Gate(), 16)


def smooth(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    rows, columns = np.meshgrid(*(np.linspace(0, 9, n) for n in SIZE), indexing="ij")
    planes = [np.sin(rows), np.cos(columns), np.sin(rows + columns)][:channels]
    return np.rint((np.stack(planes, -1) + 1) / 2 * np.iinfo(dtype).max).astype(dtype)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize(
    ("source", "target"),
    [(".png", ".png"), (".tif", ".tif"), (".png", ".jpg"), (".jpg", ".png"), (".webp", ".tif")],
)
def test_a_streamed_file_is_the_one_made_in_memory(
    local: nn.Module, tmp_path: Path, dtype: type, with_alpha: bool, source: str, target: str
) -> None:
    alpha = smooth(1, dtype)[..., 0] if with_alpha else None
    path = tmp_path / f"in{source}"
    images.write(path, Image(smooth(dtype=dtype), alpha, xmp=b"<x:xmpmeta/>"))
    options = {"tiles": Tiles(192, halo=16)}
    plain = restore_file(local, path, tmp_path / f"plain{target}", stream=False, **options)
    streamed = restore_file(local, path, tmp_path / f"out{target}", stream=True, **options)
    assert streamed.size == plain.size == SIZE
    assert streamed.notes == plain.notes
    expected = (tmp_path / f"plain{target}").read_bytes()
    assert (tmp_path / f"out{target}").read_bytes() == expected
    assert files(tmp_path) == sorted([f"in{source}", f"out{target}", f"plain{target}"])


def test_grey_images_and_metadata(local: nn.Module, tmp_path: Path) -> None:
    image = Image(smooth(1), iptc=b"Photoshop 3.0\0", density=(10.0, 12.0))
    images.write(tmp_path / "in.png", image)
    restore_file(
        local, tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=Tiles(192, halo=16)
    )
    back = images.read(tmp_path / "out.png")
    assert back.pixels.shape == (*SIZE, 1)
    assert back.density == pytest.approx((10, 12), rel=1e-4)
    np.testing.assert_array_equal(
        back.pixels, restore(local, image.pixels, tiles=Tiles(192, halo=16))
    )


def test_a_turned_photograph_is_restored_upright(tmp_path: Path) -> None:
    import PIL.Image

    tags = PIL.Image.Exif()
    tags[0x0112] = 6
    PIL.Image.fromarray(smooth()).save(tmp_path / "in.jpg", exif=tags)
    restore_file(
        nn.Identity(), tmp_path / "in.jpg", tmp_path / "out.png", stream=True, tiles=Tiles(halo=0)
    )
    back = images.read(tmp_path / "out.png")
    np.testing.assert_array_equal(back.pixels, images.read(tmp_path / "in.jpg").pixels)
    assert back.size == SIZE[::-1]


@pytest.mark.parametrize("tile", ["auto", 192])
def test_super_resolution_and_its_alpha(tmp_path: Path, tile: int | str) -> None:
    images.write(tmp_path / "in.png", Image(smooth(), smooth(1)[..., 0]))
    for name, stream in (("plain", False), ("streamed", True)):
        restore_file(
            Twice(),
            tmp_path / "in.png",
            tmp_path / f"{name}.png",
            stream=stream,
            tiles=Tiles(tile, halo=8),
        )
    plain, streamed = (images.read(tmp_path / f"{n}.png") for n in ("plain", "streamed"))
    assert streamed.size == (400, 662)
    np.testing.assert_array_equal(streamed.pixels, smooth().repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(streamed.alpha, plain.alpha)


class Stop(nn.Module):
    """A network that is interrupted at its n-th call."""

    def __init__(self, network: nn.Module, calls: int, by: BaseException) -> None:
        super().__init__()
        self.network, self.calls, self.by = network, calls, by

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise self.by
        return self.network(x)


def interrupt(
    network: nn.Module, path: Path, target: Path, calls: int, by: BaseException
) -> BaseException:
    """Run until `by` is raised; the calls are those after the three that measure."""
    forward = network.forward
    stopping = Stop(nn.Identity(), calls + 3, by)
    stopping.network.forward = forward  # type: ignore[method-assign]
    network.forward = stopping.forward  # type: ignore[method-assign]
    try:
        with pytest.raises(GlocalError if isinstance(by, Exception) else type(by)) as caught:
            restore_file(
                network, path, target, stream=True, tiles=Tiles(192, halo=16), memory=2**40
            )
    finally:
        network.forward = forward  # type: ignore[method-assign]
    return caught.value


@pytest.mark.parametrize("by", [KeyboardInterrupt(), ValueError("mine")])
def test_an_interrupted_run_goes_on_where_it_stopped(
    local: nn.Module, tmp_path: Path, by: BaseException
) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth(), smooth(1)[..., 0]))
    error = interrupt(local, path, target, 3, by)
    if isinstance(by, KeyboardInterrupt):
        assert str(error) == (
            f"3 of 6 tiles are saved in {work_folder(target)}; "
            "run the same command again to continue"
        )
    assert not target.exists()
    assert files(work_folder(target)) == ["alpha.raw", "result.raw", "source.raw", "tiles.jsonl"]
    calls: list[tuple[int, int]] = []
    said: list[str] = []
    restore_file(
        local,
        path,
        target,
        stream=True,
        tiles=Tiles(192, halo=16),
        progress=lambda *call: calls.append(call),
        report=said.append,
    )
    assert calls == [(0, 6), *((n, 6) for n in range(3, 7))]
    (line,) = said
    assert line.startswith("6 of up to 192x192 with a halo of 32")
    assert line.endswith(", 3 of them done before")
    assert files(tmp_path) == ["in.png", "out.png"]
    restore_file(local, path, tmp_path / "plain.png", stream=False, tiles=Tiles(192, halo=16))
    assert target.read_bytes() == (tmp_path / "plain.png").read_bytes()


def touched(path: Path, network: nn.Module) -> None:
    images.write(path, Image(255 - smooth()))


def retrained(path: Path, network: nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters()).add_(0.1)


@pytest.mark.parametrize("change", [touched, retrained])
def test_another_source_or_network_begins_anew(
    local: nn.Module, tmp_path: Path, change: Callable[[Path, nn.Module], None]
) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth()))
    interrupt(local, path, target, 3, KeyboardInterrupt())
    change(path, local)
    with pytest.warns(GlocalWarning, match="starting afresh"):
        restore_file(local, path, target, stream=True, tiles=Tiles(192, halo=16))
    expected = restore(local, images.read(path).pixels, tiles=Tiles(192, halo=16))
    np.testing.assert_array_equal(images.read(target).pixels, expected)


def test_a_run_may_be_told_to_begin_anew(local: nn.Module, tmp_path: Path) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth()))
    interrupt(local, path, target, 3, KeyboardInterrupt())
    said: list[str] = []
    restore_file(
        local,
        path,
        target,
        stream=True,
        resume=False,
        tiles=Tiles(192, halo=16),
        report=said.append,
    )
    (line,) = said
    assert line.startswith("6 of up to 192x192 with a halo of 32")
    assert "done before" not in line


def test_another_version_of_glocal_begins_anew(
    local: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth()))
    interrupt(local, path, target, 3, KeyboardInterrupt())
    monkeypatch.setattr(streaming, "versions", lambda: {"glocal": "0.0"})
    with pytest.warns(GlocalWarning, match="starting afresh"):
        restore_file(local, path, target, stream=True, tiles=Tiles(192, halo=16))


class Softmax(nn.Module):
    """Channels that attend to channels, by products over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return ((flat @ flat.transpose(1, 2)).softmax(-1) @ flat).view_as(x)


@pytest.mark.parametrize("overlap", [LEAST, Overlap(0.5)])
def test_only_the_same_overlap_goes_on(tmp_path: Path, overlap: Overlap) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth()))
    interrupt(glocal.localize(Softmax(), 16), path, target, 3, KeyboardInterrupt())
    said: list[str] = []
    options = {"tiles": Tiles(192, halo=16), "report": said.append}
    again = glocal.localize(Softmax(), 16, window_overlap=overlap)
    if overlap == LEAST:
        restore_file(again, path, target, stream=True, **options)
        assert said[0].endswith("3 of them done before")
    else:
        with pytest.warns(GlocalWarning, match="starting afresh"):
            restore_file(again, path, target, stream=True, **options)


@pytest.mark.parametrize("name", ["source.raw", "alpha.raw"])
def test_samples_that_are_cut_short_are_decoded_again(
    local: nn.Module, tmp_path: Path, name: str
) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth(), smooth(1)[..., 0]))
    interrupt(local, path, target, 3, KeyboardInterrupt())
    os.truncate(work_folder(target) / name, 1000)
    restore_file(local, path, target, stream=True, tiles=Tiles(192, halo=16))
    restore_file(local, path, tmp_path / "plain.png", stream=False, tiles=Tiles(192, halo=16))
    assert target.read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_samples_are_on_the_disk_before_the_journal_says_so(
    local: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth(), smooth(1)[..., 0]))
    sync, synced = os.fsync, []

    def recorded(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    interrupt(local, path, target, 3, KeyboardInterrupt())
    names = {file.stat().st_ino: file.name for file in work_folder(target).iterdir()}
    assert [names[number] for number in synced[:4]] == [
        "tiles.jsonl",  # its first line
        "source.raw",
        "alpha.raw",
        "tiles.jsonl",
    ]


def test_a_journal_that_cannot_be_read_is_none_of_another_run(
    local: nn.Module, tmp_path: Path
) -> None:
    images.write(tmp_path / "in.png", Image(smooth()))
    journal = work_folder(tmp_path / "out.png") / "tiles.jsonl"
    journal.mkdir(parents=True)
    with pytest.raises(GlocalError, match=r"has tiles\.jsonl, which glocal did not write"):
        restore_file(local, tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=192)
    assert journal.is_dir()


def test_a_half_written_line_is_a_tile_that_is_not_done(local: nn.Module, tmp_path: Path) -> None:
    path, target = tmp_path / "in.png", tmp_path / "out.png"
    images.write(path, Image(smooth()))
    interrupt(local, path, target, 3, KeyboardInterrupt())
    journal = work_folder(target) / "tiles.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["tile"] for line in lines[-2:]] == [1, 2]
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:5])
    restore_file(local, path, target, stream=True, tiles=Tiles(192, halo=16))
    expected = restore(local, smooth(), tiles=Tiles(192, halo=16))
    np.testing.assert_array_equal(images.read(target).pixels, expected)


@pytest.mark.parametrize("calls", [0, 2])
def test_what_is_interrupted_before_a_tile_is_done_leaves_nothing(
    local: nn.Module, tmp_path: Path, calls: int
) -> None:
    path = tmp_path / "in.png"
    images.write(path, Image(smooth()))
    interrupt(local, path, tmp_path / "out.png", calls - 3, KeyboardInterrupt())
    assert files(tmp_path) == ["in.png"]


def test_refused_files_leave_nothing(local: nn.Module, tmp_path: Path) -> None:
    images.write(tmp_path / "in.png", Image(smooth()))
    data = (tmp_path / "in.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="damaged or cut short"):
        restore_file(local, tmp_path / "cut.png", tmp_path / "out.png", stream=True, tiles=192)
    with pytest.raises(ImageError, match="no such file"):
        restore_file(local, tmp_path / "none.png", tmp_path / "out.png", stream=True, tiles=192)
    with pytest.raises(ImageError, match=r"cannot write '\.gif'; use one of"):
        restore_file(local, tmp_path / "in.png", tmp_path / "out.gif", stream=True, tiles=192)
    assert files(tmp_path) == ["cut.png", "in.png"]


def test_a_full_disk_is_no_damaged_photograph(local: nn.Module, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    images.write(tmp_path / "in.png", Image(smooth()))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(GlocalError) as refused:
            restore_file(local, tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=192)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(refused.value) == (
        f"{work_folder(tmp_path / 'out.png')}: cannot be written (File too large); "
        "1 MB are needed: free some space and run again, or choose an output on another disk"
    )
    assert files(tmp_path) == ["in.png"]


def test_nothing_half_written_ever_lies_beside_the_target(
    local: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write(tmp_path / "in.png", Image(smooth()))
    rename, seen = os.replace, []

    def recorded(source: Path, target: Path) -> None:
        seen.append((source.parent, files(tmp_path)))
        rename(source, target)

    monkeypatch.setattr(os, "replace", recorded)
    restore_file(
        local, tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=Tiles(192, halo=16)
    )
    work = work_folder(tmp_path / "out.png")
    assert seen == [(work, [work.name, "in.png"])]


def test_names_may_be_as_long_as_the_disk_takes_them(local: nn.Module, tmp_path: Path) -> None:
    images.write(tmp_path / "in.png", Image(smooth()))
    target = tmp_path / f"{'写' * 83}.png"  # 253 bytes
    restore_file(local, tmp_path / "in.png", target, stream=True, tiles=Tiles(192, halo=16))
    assert files(tmp_path) == ["in.png", target.name]


def test_a_format_that_is_too_small_is_refused_before_the_work(tmp_path: Path) -> None:
    images.write(tmp_path / "in.png", Image(np.zeros((64, 9000, 3), np.uint8)))
    with pytest.raises(
        ImageError, match=r"\.webp files hold at most 16383 pixels a side, not 18000 × 128"
    ):
        restore_file(
            Twice(),
            tmp_path / "in.png",
            tmp_path / "out.webp",
            stream=True,
            tiles=Tiles(256, halo=8),
        )
    assert files(tmp_path) == ["in.png"]


def test_unconverted_networks_and_blended_tiles_are_not_streamed(
    local: nn.Module, tmp_path: Path
) -> None:
    images.write(tmp_path / "in.png", Image(smooth()))
    with pytest.raises(ArgumentError, match="streaming needs a converted network"):
        restore_file(Gate(), tmp_path / "in.png", tmp_path / "out.png", stream=True)
    with pytest.raises(ArgumentError, match="omit overlap and blend"):
        restore_file(
            local, tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=Tiles(overlap=8)
        )


def test_large_images_are_streamed(local: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def header_of(height: int, width: int) -> Header:
        return Header((height, width), 3, False, np.dtype(np.uint8), Metadata())

    monkeypatch.setattr(
        streaming, "memory_budget", lambda device, memory, reserved: memory or 2**40
    )
    assert not should_stream(local, header_of(720, 1920))
    assert should_stream(local, header_of(8400, 12000))
    assert not should_stream(local, header_of(8400, 12000), tiles=Tiles(blend="linear"))
    assert not should_stream(Gate(), header_of(8400, 12000))
    assert should_stream(local, header_of(720, 1920), memory=10**7)
    # a streamed image has no full-image result to fall back on
    assert not should_stream(local, header_of(8400, 12000), fallback=Gate())
    assert should_stream(local, header_of(720, 1920), memory=10**7, fallback=Gate())


def test_a_large_image_has_tiles_however_much_memory_there_is(
    local: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STREAMED_PIXELS", 200 * 256)
    monkeypatch.setattr(streaming, "TILE_PIXELS", 200 * 256)
    images.write(tmp_path / "in.tif", Image(smooth()))
    said: list[str] = []
    restored = restore_file(local, tmp_path / "in.tif", tmp_path / "out.tif", report=said.append)
    assert restored.size == SIZE
    (line,) = said
    assert line.startswith("2 of up to 200x256 with a halo of 32")


def test_a_header_is_read_without_decoding(tmp_path: Path) -> None:
    images.write(tmp_path / "in.tif", Image(smooth(1, np.uint16), smooth(1, np.uint16)[..., 0]))
    header = read_header(tmp_path / "in.tif")
    assert (header.size, header.channels, header.has_alpha) == (SIZE, 1, True)
    assert header.dtype == np.uint16
    assert header.nbytes == 200 * 331 * 2 * 2


def test_no_more_than_a_tile_is_held(
    local: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write(tmp_path / "in.tif", Image(np.zeros((2000, 300, 3), np.uint8)))
    held: list[int] = []
    read, write = SampleFile.read, SampleFile.write

    def reading(self: SampleFile, rows: slice, columns: slice) -> np.ndarray:
        samples = read(self, rows, columns)
        held.append(samples.nbytes)
        return samples

    def writing(self: SampleFile, rows: slice, columns: slice, samples: np.ndarray) -> None:
        held.append(samples.nbytes)
        write(self, rows, columns, samples)

    def never(*_: object) -> None:
        raise AssertionError("the whole image is held")

    monkeypatch.setattr(SampleFile, "read", reading)
    monkeypatch.setattr(SampleFile, "write", writing)
    monkeypatch.setattr("glocal.runs.file_stages.read", never)
    restore_file(
        local, tmp_path / "in.tif", tmp_path / "out.tif", stream=True, tiles=Tiles(192, halo=16)
    )
    # the strips that are measured have (2·128 + 64 + 2000 mod 64) × 300 pixels at most
    assert max(held) <= 336 * 300 * 3
    assert len(held) > 2 * 30
