"""Values that are not finite are a failure with a place, never a black picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.not_finite import first_not_finite
from glocal.inference.options import Tiles
from glocal.runs.folder import restore_file, restore_folder

NAN, INF = float("nan"), float("inf")


class Dividing(nn.Module):
    """Divides by zero where a pixel of the input is 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x - 1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Identity(), Dividing(), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())


def dark(**bright: int) -> np.ndarray:
    pixels = np.full((40, 48, 3), 100, np.uint8)
    pixels[8, 9] = bright.get("value", 100)
    return pixels


@pytest.mark.parametrize("tiles", [None, 16, Tiles(16, overlap=0.5)])
def test_the_first_layer_is_named(tiles: object) -> None:
    glocal.restore(network(), dark(), tiles=tiles)
    with pytest.raises(GlocalError, match=r"\(NaN or infinite\), first in 1 \(Dividing\)$"):
        glocal.restore(network(), dark(value=255), tiles=tiles)


def test_half_precision_is_suspected() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1e4 * 1e4 * 1e-8

    large = nn.Sequential(nn.Conv2d(3, 3, 1), Large()).half()
    with pytest.raises(GlocalError, match=r"it ran in float16: try float32"):
        glocal.restore(large, dark())


def test_outputs_of_many_forms_are_looked_at() -> None:
    class Dicts(nn.Module):
        def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
            return {"a": [x, x * INF], "b": [x]}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Dicts()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)["b"][0]

    outer = Outer()
    assert first_not_finite(outer, lambda: outer(torch.ones(1))) == "inner (Dicts)"
    assert first_not_finite(outer.inner, lambda: outer.inner(torch.ones(1))) == "(Dicts)"
    plain = nn.ReLU()
    assert first_not_finite(plain, lambda: plain(torch.ones(1))) is None


def test_one_image_of_a_folder_fails_alone(tmp_path: Path) -> None:
    for name, value in (("a", 100), ("b", 255), ("c", 100)):
        (tmp_path / "in").mkdir(exist_ok=True)
        images.write(tmp_path / "in" / f"{name}.png", Image(dark(value=value)))
    with pytest.warns(glocal.GlocalWarning, match="one by one"):
        results = list(restore_folder(network(), tmp_path / "in", tmp_path / "out", channels=3))
    assert [each.status for each in results] == ["restored", "failed", "restored"]
    assert "first in 1 (Dividing)" in (results[1].error or "")
    assert not (tmp_path / "out" / "b.png").exists()


def test_a_pixel_of_a_file_that_is_not_finite_is_that_files_failure(tmp_path: Path) -> None:
    pytest.importorskip("tifffile").imwrite(
        tmp_path / "a.tif", np.full((40, 48, 3), np.nan, np.float32), photometric="rgb"
    )
    for stream in (False, True):
        with pytest.raises(GlocalError, match=r"a\.tif: has floating-point samples, and some"):
            restore_file(
                nn.Identity(), tmp_path / "a.tif", tmp_path / "b.tif",
                stream=stream, channels=3, tiles=Tiles(16, halo=0),
            )  # fmt: skip
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize("value", [NAN, INF])
def test_arrays_that_are_not_finite_are_refused(value: float) -> None:
    image = np.zeros((8, 8, 3), np.float32)
    image[1, 2] = value
    with pytest.raises(ArgumentError, match="some values are NaN or infinite"):
        glocal.restore(network(), image)
