"""Images of Pillow through `restore`, and back."""

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from glocal.errors import ArgumentError
from glocal.inference.any_image import restore
from glocal.inference.options import Tiles


def photo(mode: str, size: tuple[int, int] = (9, 7)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


class Enlarge(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("tiles", [None, Tiles(4, overlap=1, blend="cut")])
def test_mode_and_values_are_kept(mode: str, tiles: Tiles | None) -> None:
    image = photo(mode)
    restored = restore(nn.Identity(), image, tiles=tiles)
    assert restored.mode == mode
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(image))


def test_alpha_is_enlarged_with_the_image_and_the_network_does_not_see_it() -> None:
    image = photo("RGBA")
    restored = restore(Enlarge(), image)
    assert (restored.mode, restored.size) == ("RGBA", (18, 14))
    colours = np.asarray(image)[..., :3].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(np.asarray(restored)[..., :3], colours)
    opaque = photo("RGB").convert("RGBA")
    assert np.asarray(restore(Enlarge(), opaque))[..., 3].min() == 255


def test_colour_profile_and_exif_are_kept() -> None:
    image = photo("RGB")
    image.info |= {"icc_profile": b"profile", "exif": b"Exif"}
    assert restore(nn.Identity(), image).info == {"icc_profile": b"profile", "exif": b"Exif"}


@pytest.mark.parametrize("mode", ["P", "CMYK", "I", "F", "1", "LA"])
def test_other_modes_are_refused_with_their_name(mode: str) -> None:
    with pytest.raises(ArgumentError, match=rf"mode {mode}; expected L, RGB or RGBA"):
        restore(nn.Identity(), photo(mode))


def test_a_transparent_colour_is_refused() -> None:
    image = photo("RGB")
    image.info["transparency"] = (0, 0, 0)
    with pytest.raises(ArgumentError, match=r"transparent colour; .*convert\('RGBA'\)"):
        restore(nn.Identity(), image)


def test_a_result_that_pillow_cannot_hold_is_refused() -> None:
    with pytest.raises(ArgumentError, match="returned 5 channels, which no mode of Pillow holds"):
        restore(nn.Conv2d(3, 5, 1), photo("RGB"), channels=3)


def test_a_grey_result_of_a_colour_image_is_grey() -> None:
    to_grey = nn.Conv2d(3, 1, 1)
    nn.init.constant_(to_grey.weight, 1 / 3)
    nn.init.zeros_(to_grey.bias)
    assert restore(to_grey, photo("RGB")).mode == "L"
    assert restore(to_grey, photo("RGBA")).mode == "RGBA"
