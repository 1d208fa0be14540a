"""The public `restore`: files, lists, strength and ensemble."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, ImageError
from glocal.inference.options import Tiles

PHOTO = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 - x


class Right(nn.Module):
    """Moves the image by a pixel to the right: flips and turns change the result."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(x, 1, -1)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    glocal.write_image(tmp_path / "a.png", glocal.Image(PHOTO))
    return tmp_path / "a.png"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_read(path: Path, kind: Any) -> None:
    np.testing.assert_array_equal(glocal.restore(Negative(), kind(path)), 255 - PHOTO)


def test_a_path_without_a_file_is_an_error_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        glocal.restore(Negative(), tmp_path / "none.png")


def test_lists_are_restored_one_by_one(path: Path) -> None:
    image = PIL.Image.fromarray(PHOTO)
    for images in ([path, str(path)], [PHOTO, PHOTO[:5]], [image], (PHOTO,), []):
        found = glocal.restore(Negative(), images)
        assert isinstance(found, list)
        assert len(found) == len(images)
    np.testing.assert_array_equal(np.asarray(glocal.restore(Negative(), [image])[0]), 255 - PHOTO)


def test_files_are_read_and_written(path: Path) -> None:
    image = glocal.read_image(path)
    assert image.size == (9, 12)
    np.testing.assert_array_equal(image.pixels, PHOTO)


@pytest.mark.parametrize("tiles", ["auto", Tiles(8, overlap=2)], ids=str)
@pytest.mark.parametrize(("strength", "white"), [(0.0, 0), (0.25, 64), (1.0, 255)])
def test_strength_blends_with_the_image(tiles: Any, strength: float, white: int) -> None:
    black = np.zeros((9, 12, 3), np.uint8)
    restored = glocal.restore(Negative(), black, strength=strength, tiles=tiles)
    assert (restored == white).all()


def test_strength_blends_tensors_and_keeps_their_dtype() -> None:
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    restored = glocal.restore(nn.Conv2d(3, 3, 1), image, strength=0.0)
    assert restored.dtype == torch.float64
    torch.testing.assert_close(restored, image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_strength_is_a_share(strength: float) -> None:
    with pytest.raises(ArgumentError, match="give a share of the result, 0 to 1"):
        glocal.restore(Negative(), PHOTO, strength=strength)


def test_an_enlarged_image_is_not_blended_with_the_small_one() -> None:
    with pytest.raises(ArgumentError, match="strength needs a result of the image's size"):
        glocal.restore(Twice(), PHOTO, strength=0.5)


def test_an_ensemble_is_the_mean_over_flips_and_turns() -> None:
    image = torch.rand(1, 3, 6, 9, dtype=torch.float64)
    expected = sum(torch.roll(image, step, axis) for step in (1, -1) for axis in (-1, -2)) / 4
    restored = glocal.restore(Right().double(), image, ensemble=8)
    torch.testing.assert_close(restored, expected)


@pytest.mark.parametrize(("network", "scale"), [(nn.Identity(), 1), (Twice(), 2)])
def test_what_turns_do_not_change_is_kept(network: nn.Module, scale: int) -> None:
    restored = glocal.restore(network, PHOTO, ensemble=8)
    assert restored.shape == (9 * scale, 12 * scale, 3)
    np.testing.assert_array_equal(restored[::scale, ::scale], PHOTO)


def test_maps_beside_the_image_are_turned_with_it() -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x + mask

    mask = np.random.default_rng(1).random((9, 12)).astype(np.float32)
    image = np.zeros((9, 12, 3), np.float32)
    restored = glocal.restore(Add(), image, ensemble=8, inputs={"mask": mask})
    np.testing.assert_allclose(restored, mask[..., None].repeat(3, -1), atol=1e-6)


def test_progress_counts_the_tiles_of_all_turns() -> None:
    seen: list[tuple[int, int]] = []
    glocal.restore(nn.Identity(), PHOTO, ensemble=8, progress=lambda *each: seen.append(each))
    assert seen == [(0, 8), *((n, 8) for n in range(1, 9))]


def test_other_ensembles_are_refused() -> None:
    with pytest.raises(ArgumentError, match="ensemble=4; give 8"):
        glocal.restore(nn.Identity(), PHOTO, ensemble=4)  # type: ignore[call-overload]
