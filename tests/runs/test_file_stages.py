"""Colours and metadata of files, restored in memory and streamed."""

from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from profiles import IPTC, exif_block, profile_of
from torch import Tensor, nn

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images.exif import parsed
from glocal.images.icc import linear_profile
from glocal.images.image_files import Image
from glocal.inference.fallback import NOT_LOOKED
from glocal.inference.options import Tiles
from glocal.runs.folder import restore_file, restore_folder

SAMPLES = np.random.default_rng(0).integers(0, 65536, (24, 36, 3), np.uint16)
TILES = Tiles(halo=0)


class Brighter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 + 0.3


class Mosaic(nn.Module):
    """Adds coloured noise to a square."""

    def forward(self, x: Tensor) -> Tensor:
        colours = np.random.default_rng(0).uniform(-0.4, 0.4, (3, 48, 48))
        added = np.pad(colours, ((0, 0), (48, 96), (48, 96)))
        return (x + x.new_tensor(added)).clamp(0, 1)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


def made(path: Path, model: nn.Module, suffix: str, *, stream: bool, **options: object) -> Path:
    target = path.with_name(f"out-{stream}{suffix}")
    restore_file(model, path, target, stream=stream, tiles=TILES if stream else "auto", **options)
    return target


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8), (".tif", np.float32)],
)
def test_a_network_that_changes_nothing_returns_the_file_of_any_profile(
    tmp_path: Path, stream: bool, suffix: str, dtype: type
) -> None:
    samples = (SAMPLES >> 8 if dtype == np.uint8 else SAMPLES).astype(dtype)
    samples = samples / np.float32(30000) if dtype == np.float32 else samples
    image = Image(samples, icc=profile_of("p3"), exif=exif_block())
    images.write(tmp_path / f"in{suffix}", image)
    target = made(tmp_path / f"in{suffix}", nn.Identity(), suffix, stream=stream)
    back = images.read(target)
    np.testing.assert_array_equal(back.pixels, samples)
    assert back.icc == image.icc


@pytest.mark.parametrize("model", [Brighter(), Twice()], ids=["brighter", "twice"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif", ".jxl", ".exr"])
def test_streamed_files_are_those_made_in_memory(
    tmp_path: Path, model: nn.Module, suffix: str
) -> None:
    pytest.importorskip({".jxl": "imagecodecs", ".exr": "OpenEXR"}.get(suffix, "numpy"))
    image = Image(
        SAMPLES, SAMPLES[..., 0].copy(), icc=profile_of("p3"), exif=exif_block(),
        xmp=b"<x:xmpmeta/>", iptc=IPTC, texts=(("Comment", "a"),),
    )  # fmt: skip
    images.write(tmp_path / "in.png", image)
    plain, streamed = (made(tmp_path / "in.png", model, suffix, stream=s) for s in (False, True))
    assert plain.read_bytes() == streamed.read_bytes()


def test_the_network_sees_srgb(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Recorder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    linear = np.full((8, 8, 3), 14027, np.uint16)
    images.write(tmp_path / "in.png", Image(linear, icc=linear_profile(3)))
    restore_file(Recorder(), tmp_path / "in.png", tmp_path / "out.png", tiles=None)
    assert abs(float(seen[-1].mean()) - 0.5) < 1e-3


@pytest.mark.parametrize("stream", [False, True])
def test_metadata_is_stripped(tmp_path: Path, stream: bool) -> None:
    image = Image(SAMPLES, exif=exif_block(), iptc=IPTC, texts=(("Comment", "a"),))
    images.write(tmp_path / "in.png", image)
    for strip, place, camera in ((None, True, True), ("gps", False, True), ("all", False, False)):
        path = made(tmp_path / "in.png", nn.Identity(), ".png", stream=stream, strip=strip)
        tags = parsed(images.read(path).exif or b"")
        assert (bool(tags.gps), bool(tags.main)) == (place, camera)
        assert bool(images.read(path).iptc) == camera == bool(images.read(path).texts)


def test_a_folder_is_stripped_and_converted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = Image(SAMPLES, icc=profile_of("p3"), exif=exif_block())
    for name in ("a", "b"):
        images.write(tmp_path / "in" / f"{name}.png", image)
    results = restore_folder(nn.Identity(), tmp_path / "in", tmp_path / "out", strip="gps")
    for result in results:
        back = images.read(result.destination)
        np.testing.assert_array_equal(back.pixels, SAMPLES)
        assert not parsed(back.exif or b"").gps


def test_floats_that_are_no_picture_are_refused(tmp_path: Path) -> None:
    images.write(tmp_path / "in.tif", Image(np.full((8, 8, 3), 200, np.float32)))
    with pytest.raises(ImageError, match="divide by 255"):
        restore_file(nn.Identity(), tmp_path / "in.tif", tmp_path / "out.tif")


@pytest.mark.slow
@pytest.mark.parametrize("model", [Brighter(), Twice()], ids=["brighter", "twice"])
def test_tiles_of_a_file_with_a_profile_are_those_of_the_whole(
    tmp_path: Path, model: nn.Module
) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (200, 331, 3), np.uint16)
    images.write(tmp_path / "in.png", Image(samples, icc=profile_of("p3")))
    for name, stream in (("plain", False), ("streamed", True)):
        restore_file(
            model,
            tmp_path / "in.png",
            tmp_path / f"{name}.png",
            stream=stream,
            tiles=Tiles(192, halo=16),
        )
    plain, streamed = ((tmp_path / f"{n}.png").read_bytes() for n in ("plain", "streamed"))
    assert plain == streamed


def test_all_pages_of_a_tiff_file_are_restored(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pages = [Image(SAMPLES + np.uint16(n), icc=profile_of("p3")) for n in range(3)]
    images.write_pages(tmp_path / "in/a.tif", pages)
    (result,) = restore_folder(nn.Identity(), tmp_path / "in", tmp_path / "out")
    assert result.notes == ("all pages were restored; metadata is that of the first page",)
    for number, page in enumerate(pages):
        back = images.read(tmp_path / "out/a.tif", number)
        np.testing.assert_array_equal(back.pixels, page.pixels)
    (failed,) = restore_folder(nn.Identity(), tmp_path / "in", tmp_path / "png", suffix=".png")
    assert "only TIFF files hold several pages" in (failed.error or "")


GREY = Image(np.random.default_rng(0).integers(110, 140, (192, 192, 3), np.uint8))


def test_a_file_falls_back_on_the_full_image_result(tmp_path: Path) -> None:
    images.write(tmp_path / "in.png", GREY)
    paths = tmp_path / "in.png", tmp_path / "out.png"
    result = restore_file(Mosaic(), *paths, fallback=nn.Identity())
    assert " % of the image as the full-image result" in result.fallback
    assert result.notes == ()
    np.testing.assert_array_equal(images.read(paths[1]).pixels, GREY.pixels)
    assert restore_file(Mosaic(), *paths).fallback == ""
    assert not np.array_equal(images.read(paths[1]).pixels, GREY.pixels)


def test_a_streamed_file_has_nothing_to_fall_back_on(tmp_path: Path) -> None:
    images.write(tmp_path / "in.png", GREY)
    result = restore_file(
        Brighter(), tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=TILES,
        fallback=nn.Identity(),
    )  # fmt: skip
    assert (result.notes, result.fallback) == ((NOT_LOOKED,), "")


def test_every_page_falls_back(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    images.write_pages(tmp_path / "in/a.tif", [GREY, GREY])
    options = {"fallback": nn.Identity()}
    (result,) = restore_folder(Mosaic(), tmp_path / "in", tmp_path / "out", **options)
    assert result.fallback.startswith("page 1: ")
    assert "; page 2: " in result.fallback
    np.testing.assert_array_equal(images.read(tmp_path / "out/a.tif", 1).pixels, GREY.pixels)
