from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.restore import restore
from glocal.runs.folder import restore_file
from glocal.runs.region import Region, check_region, restored_region

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 170, 3), np.uint8)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(1 - x, scale_factor=2, mode="nearest")


@pytest.mark.parametrize("region", [Region(5, 7, 30, 20), Region(0, 0, 170, 100)])
def test_a_region_is_restored_alone(region: Region) -> None:
    x, y, width, height = region
    image, restored = restored_region(Twice(), Image(PIXELS, PIXELS[..., 0]), region)
    part = PIXELS[y : y + height, x : x + width]
    np.testing.assert_array_equal(image.pixels, part)
    np.testing.assert_array_equal(image.alpha, part[..., 0])
    np.testing.assert_array_equal(restored[::2, ::2], 255 - part)


def test_a_converted_network_sees_a_window_around_the_region() -> None:
    network = glocal.localize(
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)), 16, verify=False
    )
    whole = restore(network, PIXELS)
    for region in (Region(70, 40, 20, 15), Region(0, 85, 25, 15)):
        x, y, width, height = region
        _, restored = restored_region(network, Image(PIXELS), region)
        expected = whole[y : y + height, x : x + width]
        np.testing.assert_allclose(restored.astype(int), expected.astype(int), atol=1)


def test_a_file_of_the_region_is_written(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", Image(PIXELS))
    region = Region(1, 2, 30, 20)
    result = restore_file(nn.Identity(), tmp_path / "a.png", tmp_path / "b.png", region=region)
    assert result.size == (20, 30)
    np.testing.assert_array_equal(images.read(tmp_path / "b.png").pixels, PIXELS[2:22, 1:31])


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (166, 0, 5, 5), (0, 96, 5, 5)])
def test_a_region_outside_of_the_photograph_is_refused(region: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="does not lie in the photograph of 170 × 100 pixels"):
        check_region(Region(*region), (100, 170))
