from pathlib import Path

import numpy as np
import pytest

from glocal.errors import ImageError
from glocal.images.image_files import Image, decode
from glocal.images.previews import TILE, Preview, screen_pixels, write_preview


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_tiles_are_the_pixels_of_the_image(tmp_path: Path) -> None:
    pixels, path = photo(TILE + 70, TILE + 40), tmp_path / "a.preview"
    write_preview(path, Image(pixels))
    preview = Preview(path)
    assert preview.size == pixels.shape[:2]
    corner = preview.tile(0, 1, 1)
    assert corner is not None
    np.testing.assert_array_equal(decode(corner).pixels, pixels[TILE:, TILE:])
    halved = preview.tile(1, 0, 0)
    assert halved is not None
    assert decode(halved).size == ((TILE + 70) // 2, (TILE + 40) // 2)
    assert preview.tile(0, 2, 0) is preview.tile(0, -1, 0) is preview.tile(9, 0, 0) is None
    assert [each.name for each in tmp_path.iterdir()] == ["a.preview"]


def test_the_whole_image_has_no_longer_side(tmp_path: Path) -> None:
    write_preview(tmp_path / "a", Image(photo(60, 30)))
    assert decode(Preview(tmp_path / "a").whole(20)).size == (20, 10)
    assert decode(Preview(tmp_path / "a").whole(100)).size == (60, 30)


def test_the_largest_level_that_is_small_enough_is_read(tmp_path: Path) -> None:
    pixels = photo(TILE + 2, 40)
    write_preview(tmp_path / "a", Image(pixels))
    np.testing.assert_array_equal(Preview(tmp_path / "a").pixels(pixels.size), pixels)
    assert Preview(tmp_path / "a").pixels(TILE * 20).shape == (TILE // 2 + 1, 20, 3)


def test_a_screen_shows_8_bits_of_colour_on_white() -> None:
    grey = np.array([[[0], [65535]]], np.uint16)
    shown = screen_pixels(Image(grey, alpha=np.array([[0, 65535]], np.uint16)))
    np.testing.assert_array_equal(shown, np.full((1, 2, 3), 255, np.uint8))
    half = screen_pixels(Image(np.full((1, 1, 3), 0.5, np.float32)))
    np.testing.assert_array_equal(half, np.full((1, 1, 3), 128, np.uint8))


def test_a_file_that_is_no_preview_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no image")
    with pytest.raises(ImageError, match="cannot be read"):
        Preview(tmp_path / "a").tile(0, 0, 0)
