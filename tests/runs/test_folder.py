"""Runs over folders. More than 300 lines: tests mirror the modules, one file for each."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalWarning, ImageError
from glocal.images import image_files as images
from glocal.images.folders import list_images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.runs.folder import restore_file, restore_folder
from glocal.runs.jobs import FileResult, folder_jobs
from glocal.runs.private_folder import work_folder
from glocal.runs.streaming import restore_streamed


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 - x


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


def save(path: Path, value: int = 10, size: tuple[int, int] = (8, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, Image(np.full((*size, 3), value, np.uint8)))
    return path


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("glocal-")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save(tmp_path / "in/a.png", 10)
    save(tmp_path / "in/b.tif", 20)
    save(tmp_path / "in/sub/a.png", 30)
    (tmp_path / "in/notes.txt").write_text("not an image")
    return tmp_path / "in"


def value(path: Path) -> int:
    return int(images.read(path).pixels[0, 0, 0])


def test_a_file_is_restored_with_its_metadata_and_alpha(tmp_path: Path) -> None:
    alpha = np.arange(72, dtype=np.uint16).reshape(8, 9)
    xmp = b"<x:xmpmeta></x:xmpmeta>"
    images.write(tmp_path / "a.png", Image(np.zeros((8, 9, 3), np.uint16), alpha, xmp=xmp))
    result = restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.tif")
    assert result.status == "restored"
    assert result.size == (8, 9)
    assert result.elapsed_s > 0
    restored = images.read(tmp_path / "b.tif")
    assert restored.pixels.dtype == np.uint16
    assert restored.pixels.min() == 65535
    assert restored.xmp == xmp
    np.testing.assert_array_equal(restored.alpha, alpha)


def test_alpha_grows_with_the_image(tmp_path: Path) -> None:
    alpha = np.zeros((8, 9), np.uint8)
    alpha[:, 4:] = 200
    images.write(tmp_path / "a.png", Image(np.zeros((8, 9, 3), np.uint8), alpha))
    restore_file(Twice(), tmp_path / "a.png", tmp_path / "b.png")
    restored = images.read(tmp_path / "b.png")
    assert restored.size == (16, 18)
    assert restored.alpha is not None
    assert (restored.alpha[:, :6] == 0).all()
    assert (restored.alpha[:, 10:] == 200).all()


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="is the input file"):
        restore_file(Negative(), path, tmp_path / "." / "a.png")
    (tmp_path / "link.png").symlink_to(path)
    with pytest.raises(ArgumentError, match="is the input file"):
        restore_file(Negative(), path, tmp_path / "link.png")
    assert value(path) == 10


class Counting(Twice):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape[-2:]))
        return super().forward(x)


def test_an_image_beyond_the_format_is_refused_before_the_network_runs(tmp_path: Path) -> None:
    network = Counting()
    save(tmp_path / "a.png", size=(2, 16384))
    with pytest.raises(ImageError, match="at most 16383 pixels a side, not 16384 × 2"):
        restore_file(network, tmp_path / "a.png", tmp_path / "b.webp")
    assert network.sizes == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_enlarged_image_beyond_the_format_is_refused_before_it_is_computed(
    tmp_path: Path, stream: bool
) -> None:
    network = Counting()
    save(tmp_path / "a.png", size=(2, 8192))
    options: dict[str, Any] = {"tiles": Tiles(256, halo=8)} if stream else {}
    with pytest.raises(ImageError, match="at most 16383 pixels a side, not 16384 × 4"):
        restore_file(network, tmp_path / "a.png", tmp_path / "b.webp", stream=stream, **options)
    assert network.sizes == [(64, 64)]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_scale_that_cannot_be_measured_is_no_reason_to_refuse(tmp_path: Path) -> None:
    class OneSize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 3, 1, 1100)

    save(tmp_path / "a.png", size=(1, 1100))
    result = restore_file(OneSize(), tmp_path / "a.png", tmp_path / "b.webp")
    assert result.status == "restored"


def test_images_of_a_folder_beyond_the_format_fail_alone_and_leave_nothing(
    tmp_path: Path,
) -> None:
    for name, width in (("a", 16384), ("b", 8192), ("c", 8)):
        save(tmp_path / f"in/{name}.png", size=(2, width))
    network = Counting()
    results = list(restore_folder(network, tmp_path / "in", tmp_path / "out", suffix=".webp"))
    assert [result.status for result in results] == ["failed", "failed", "restored"]
    assert all("at most 16383 pixels" in str(result.error) for result in results[:2])
    assert network.sizes == [(64, 64), (2, 8)]
    assert list_images(tmp_path / "out") == [tmp_path / "out/c.webp"]


def test_notes_are_handed_on(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Image(np.zeros((8, 9, 3), np.uint16)))
    result = restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.jpg")
    assert result.notes == ("16-bit samples were rounded to 8 bits for .jpg",)


def test_a_folder_is_mirrored(photos: Path, tmp_path: Path) -> None:
    results = list(restore_folder(Negative(), photos, tmp_path / "out"))
    assert [result.status for result in results] == ["restored"] * 3
    assert [result.source for result in results] == list_images(photos, recursive=True)
    assert value(tmp_path / "out/a.png") == 245
    assert value(tmp_path / "out/b.tif") == 235
    assert value(tmp_path / "out/sub/a.png") == 225


def test_a_flat_run_leaves_the_folders_inside(photos: Path, tmp_path: Path) -> None:
    results = list(restore_folder(Negative(), photos, tmp_path / "out", recursive=False))
    assert [result.destination.name for result in results] == ["a.png", "b.tif"]


def test_a_run_is_resumed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    next(restore_folder(Negative(), photos, out, ahead=0))
    assert list_images(out, recursive=True) == [out / "a.png"]
    written = (out / "a.png").stat().st_mtime_ns
    results = list(restore_folder(Negative(), photos, out))
    assert [result.status for result in results] == ["skipped", "restored", "restored"]
    assert (out / "a.png").stat().st_mtime_ns == written


def test_existing_outputs_are_replaced_only_when_told(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(out / "a.png", 77)
    with pytest.raises(ArgumentError, match="exist already"):
        restore_folder(Negative(), photos, out, resume=False)
    assert value(out / "a.png") == 77
    list(restore_folder(Negative(), photos, out, overwrite=True))
    assert value(out / "a.png") == 245


def test_a_bad_file_does_not_stop_the_run(photos: Path, tmp_path: Path) -> None:
    (photos / "ab.png").write_bytes((photos / "a.png").read_bytes()[:40])
    results = list(restore_folder(Negative(), photos, tmp_path / "out"))
    assert [result.status for result in results] == ["restored", "failed", "restored", "restored"]
    assert results[1].error is not None
    assert "damaged or cut short" in results[1].error
    assert not (tmp_path / "out/ab.png").exists()


def test_a_network_that_fails_on_one_image_does_not_stop_the_run(
    photos: Path, tmp_path: Path
) -> None:
    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] > 9:
                raise ValueError("too\nwide")
            return x

    save(photos / "wide.png", size=(8, 10))
    results = list(restore_folder(Narrow(), photos, tmp_path / "out"))
    failed = {r.destination.name: r.error for r in results if r.status == "failed"}
    assert list(failed) == ["wide.png"]
    assert re.search(r"ValueError: too wide \(test_folder\.py:\d+\)$", failed["wide.png"])


def test_a_file_that_cannot_be_written_does_not_stop_the_run(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out/b.tif").mkdir(parents=True)
    results = list(restore_folder(Negative(), photos, tmp_path / "out", overwrite=True))
    assert [result.status for result in results] == ["restored", "failed", "restored"]
    assert results[1].error is not None
    assert "cannot be written" in results[1].error
    assert results[1].elapsed_s > 0
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("ahead", [None, 0])
def test_wrong_options_stop_the_run(photos: Path, tmp_path: Path, ahead: int | None) -> None:
    with pytest.raises(ArgumentError, match="cannot cover"):
        list(
            restore_folder(
                Negative(), photos, tmp_path / "out", tiles=Tiles(8, overlap=8), ahead=ahead
            )
        )
    with pytest.raises(ArgumentError, match="blend is one of"):
        list(
            restore_folder(
                Negative(), photos, tmp_path / "out", tiles=Tiles(blend="no"), ahead=ahead
            )
        )
    assert list_images(tmp_path / "out", recursive=True) == []


def test_arguments_are_judged_at_the_call(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="batch must be at least 1"):
        restore_folder(Negative(), photos, tmp_path / "out", batch=0)
    with pytest.raises(ArgumentError, match="ahead must be 0 or more"):
        restore_folder(Negative(), photos, tmp_path / "out", ahead=-1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{}, {"ahead": 0}, {"batch": 3}], ids=str)
def test_interruption_goes_through(photos: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    class Interrupted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(restore_folder(Interrupted(), photos, tmp_path / "out", **options))
    assert list_images(tmp_path / "out") == []


def test_a_run_that_is_left_early_keeps_whole_files_and_is_resumed(
    photos: Path, tmp_path: Path
) -> None:
    for index in range(20):
        save(photos / f"c{index}.png", index)
    out = tmp_path / "out"
    with restore_folder(Negative(), photos, out) as run:
        assert next(run).destination == out / "a.png"
    assert list(run) == []
    assert value(out / "a.png") == 245
    kept = list_images(out, recursive=True)
    assert len(kept) < 23
    assert all(images.read(path).size == (8, 9) for path in kept)
    assert not list(out.rglob("*.part"))
    results = list(restore_folder(Negative(), photos, out))
    assert [r.destination for r in results if r.status == "skipped"] == kept
    assert len(list_images(out, recursive=True)) == 23


def mixed(folder: Path) -> Path:
    """Photographs of which some share size, channels and dtype, and others do not."""
    rng = np.random.default_rng(0)
    kinds = [(24, 31, 3), (31, 24, 3), (24, 31, 1)]
    folder.mkdir()
    for index in range(14):
        shape = kinds[(index * index) % 3 if index < 11 else 0]
        dtype = np.uint16 if index % 5 == 4 else np.uint8
        pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        alpha = pixels[..., 0] if index == 7 else None
        images.write(folder / f"{index:02}.png", Image(np.ascontiguousarray(pixels), alpha))
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:60])
    return folder


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[nn.Module, Path, list[FileResult]]:
    """A converted network, a folder, and what it gives for its files one by one."""
    folder = tmp_path_factory.mktemp("plain")
    network = glocal.localize(glocal.load("nafnet-motion-blur"), train_size=16)
    source = mixed(folder / "in")
    return network, source, list(restore_folder(network, source, folder / "out", ahead=0))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"batch": 3}, {"batch": 2, "ahead": 2}], ids=str)
def test_files_are_those_of_a_run_one_by_one(
    plain: tuple[nn.Module, Path, list[FileResult]], tmp_path: Path, options: dict[str, Any]
) -> None:
    network, source, expected = plain
    assert sorted({result.status for result in expected}) == ["failed", "restored"]
    run = restore_folder(network, source, tmp_path / "out", **options)
    for one, other in zip(expected, run, strict=True):
        assert other.source == one.source
        assert other.status == one.status
        assert other.size == one.size
        assert other.notes == one.notes
        assert other.error == one.error
        if one.status == "restored":
            assert other.elapsed_s > 0
            first, second = images.read(one.destination), images.read(other.destination)
            # float rounding, which may turn a tie; 16-bit samples show more of it
            near = 1 if first.bits == 8 else 4
            difference = np.abs(first.pixels.astype(int) - second.pixels.astype(int))
            assert difference.max() <= near
            np.testing.assert_array_equal(first.alpha, second.alpha)


def test_images_of_one_size_share_calls(tmp_path: Path) -> None:
    calls: list[tuple[int, ...]] = []

    class Recorder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(tuple(x.shape))
            return x

    for index, width in enumerate([9, 8, 9, 9, 8, 9]):
        save(tmp_path / f"in/{index}.png", size=(8, width))
    results = list(
        restore_folder(Recorder(), tmp_path / "in", tmp_path / "out", batch=3, channels=3)
    )
    assert [result.destination.stem for result in results] == list("012345")
    assert calls == [(3, 3, 8, 9), (2, 3, 8, 8), (1, 3, 8, 9)]
    calls.clear()
    list(restore_folder(Recorder(), tmp_path / "in", tmp_path / "alone", batch=1, channels=3))
    list(restore_folder(Recorder(), tmp_path / "in", tmp_path / "in turn", ahead=0, channels=3))
    assert [count for count, *_ in calls] == [1] * 12


@pytest.mark.long
@pytest.mark.slow
def test_large_images_are_streamed(
    tmp_path: Path, plain: tuple[nn.Module, Path, list[FileResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.runs.streaming.STREAMED_PIXELS", 150 * 150)
    network = plain[0]
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for index, side in enumerate((40, 200, 40, 210, 40)):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        alpha = pixels[..., 0].copy() if index == 1 else None
        images.write(tmp_path / f"in/{index}.png", Image(pixels, alpha))
    streamed: list[Path] = []

    def counted(model: nn.Module, source: Path, target: Path, **options: Any) -> Any:
        streamed.append(source)
        return restore_streamed(model, source, target, **options)

    monkeypatch.setattr("glocal.runs.file_stages.restore_streamed", counted)
    options: dict[str, Any] = {"tiles": Tiles(192, halo=16)}
    results = list(restore_folder(network, tmp_path / "in", tmp_path / "out", **options))
    assert [result.status for result in results] == ["restored"] * 5
    assert [path.stem for path in streamed] == ["1", "3"]
    assert results[1].size == (200, 200)
    assert results[1].elapsed_s > 0
    for result in results:
        restore_file(network, result.source, tmp_path / "one.png", **options)
        first, second = images.read(result.destination), images.read(tmp_path / "one.png")
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.alpha, second.alpha)


def test_a_large_image_that_cannot_be_written_fails_alone(
    tmp_path: Path, plain: tuple[nn.Module, Path, list[FileResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.runs.streaming.STREAMED_PIXELS", 150 * 150)
    for index, side in enumerate((200, 40)):
        save(tmp_path / f"in/{index}.png", size=(side, side))
    (tmp_path / "out").mkdir()
    work_folder(tmp_path / "out/0.png").touch()
    run = restore_folder(plain[0], tmp_path / "in", tmp_path / "out", tiles=Tiles(192, halo=16))
    large, small = run
    assert (large.status, small.status) == ("failed", "restored")
    assert large.error is not None
    assert "is in the way of the temporary files" in large.error


def test_one_bad_image_of_a_batch_fails_alone(tmp_path: Path) -> None:
    class Careful(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.max() > 0.9:
                raise ValueError("too bright")
            return 1 - x

    for index in range(4):
        save(tmp_path / f"in/{index}.png", 255 if index == 2 else index)
    with pytest.warns(GlocalWarning, match="failed on a batch of 4 images"):
        results = list(restore_folder(Careful(), tmp_path / "in", tmp_path / "out", batch=4))
    errors = [result.error for result in results]
    assert errors == [None, None, errors[2], None]
    assert "ValueError: too bright (test_folder.py:" in errors[2]
    assert value(tmp_path / "out/3.png") == 252


def test_a_run_tells_how_long_the_network_waited(photos: Path, tmp_path: Path) -> None:
    run = restore_folder(Negative(), photos, tmp_path / "out")
    assert run.usage.elapsed_s == 0
    results = list(run)
    assert 0 < run.usage.computing_s < run.usage.elapsed_s
    assert 0 < run.usage.waiting < 1
    again = restore_folder(Negative(), photos, tmp_path / "out")
    assert [result.status for result in again] == ["skipped"] * len(results)
    assert again.usage.computing_s == 0


def test_outputs_inside_the_input_folder_are_no_inputs(photos: Path) -> None:
    for _ in range(2):
        results = list(restore_folder(Negative(), photos, photos / "restored", overwrite=True))
        assert len(results) == 3


def test_inputs_inside_the_output_folder_are_safe(photos: Path, tmp_path: Path) -> None:
    assert len(list(restore_folder(Negative(), photos, tmp_path))) == 3
    save(photos / "in/a.png")
    with pytest.raises(ArgumentError, match="is an input file"):
        folder_jobs(photos, tmp_path)
    assert value(photos / "a.png") == 10


def test_the_same_folder_is_refused(photos: Path) -> None:
    with pytest.raises(ArgumentError, match="is the input folder"):
        restore_folder(Negative(), photos, photos / "sub" / "..")


def test_a_file_as_output_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is a file"):
        folder_jobs(photos, save(tmp_path / "x.png"))


def test_a_common_suffix(photos: Path, tmp_path: Path) -> None:
    results = list(restore_folder(Negative(), photos, tmp_path / "out", suffix=".png"))
    assert [result.destination.name for result in results] == ["a.png", "b.png", "a.png"]
    save(photos / "a.tif")
    with pytest.raises(ArgumentError, match="would both be written"):
        folder_jobs(photos, tmp_path / "out", suffix=".png")
    with pytest.raises(ArgumentError, match="cannot write 'png' files"):
        folder_jobs(photos, tmp_path / "out", suffix="png")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such folder"):
        folder_jobs(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="has no images"):
        folder_jobs(tmp_path / "empty", tmp_path / "out")
