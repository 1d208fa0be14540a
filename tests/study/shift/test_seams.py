import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glocal.errors import ArgumentError
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.study.shift.seams import amplified, seam_map, seam_ratio, tile_borders


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


class TileMean(nn.Module):
    """Gives every tile a colour of its own: its mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x)


@given(st.integers(1, 200), st.integers(1, 70))
def test_borders_are_where_a_stitched_image_changes_its_tile(size: int, tile: int) -> None:
    photo = np.linspace(0, 1, size, dtype=np.float32).reshape(1, size, 1).repeat(3, 2)
    stitched = restore(TileMean(), photo, tiles=Tiles((1, tile), overlap=0, blend="cut"))
    steps = np.flatnonzero(np.diff(stitched[0, :, 0])) + 1
    assert tile_borders(size, tile) == steps.tolist()


def test_a_map_is_the_mean_difference_of_the_channels() -> None:
    a, b = noise(5, 7, 3), noise(6, 7, 3)[1:]
    np.testing.assert_allclose(seam_map(a, b), np.abs(a - b).mean(2))
    np.testing.assert_allclose(seam_map(a[..., 0], b[..., 0]), np.abs(a - b)[..., 0])


def test_integers_are_scaled_to_unit_range() -> None:
    a, b = np.array([[[0], [255]]], np.uint8), np.array([[[255], [204]]], np.uint8)
    np.testing.assert_allclose(seam_map(a, b), [[1, 0.2]])
    wide = [x.astype(np.uint16) * 257 for x in (a, b)]
    np.testing.assert_allclose(seam_map(*wide), [[1, 0.2]])


def test_a_step_at_a_border_is_a_seam() -> None:
    image = noise(60, 60, 3)
    stepped = image.copy()
    stepped[30:] += 1.0
    flat = np.zeros_like(image)
    assert seam_ratio(image, flat, [30], [30]) == pytest.approx(1, abs=0.1)
    assert seam_ratio(stepped, flat, [30], [30]) > 1.8
    assert seam_ratio(stepped, flat, [20], [20]) == pytest.approx(1, abs=0.1)


def test_the_ratio_by_hand() -> None:
    difference = np.array([[0, 1, 4, 4], [0, 1, 4, 4], [1, 2, 5, 5]], float)
    # At the border: three steps of 3. Elsewhere: 1 and 0 beside it, and down 0, then 1.
    expected = 3 / ((3 * 1 + 3 * 0 + 4 * 0 + 4 * 1) / 14)
    assert seam_ratio(difference, np.zeros((3, 4)), [], [2]) == pytest.approx(expected)


def test_equal_images_have_no_seams() -> None:
    image = noise(20, 20, 3)
    assert seam_ratio(image, image, [10], []) == 1
    stepped = image.copy()
    stepped[10:] += 1
    assert seam_ratio(stepped.round(), image.round() * 0 + stepped.round(), [10], []) == 1
    flat = np.zeros((20, 20))
    apart = flat.copy()
    apart[10:] = 1
    assert seam_ratio(apart, flat, [10], []) == float("inf")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"got \(4, 4, 3\) of float64 and \(4, 5, 3\)"):
        seam_map(noise(4, 4, 3), noise(4, 5, 3))
    with pytest.raises(ArgumentError, match="no border"):
        seam_ratio(noise(4, 4), noise(4, 4), [], [])
    for border in (0, 4):
        with pytest.raises(ArgumentError, match="must be inside an axis of 4 pixels"):
            seam_ratio(noise(4, 4), noise(4, 4), [border], [])


def test_a_picture_says_by_how_much_it_is_amplified() -> None:
    picture, factor = amplified(np.full((4, 6), 0.01))
    assert picture.shape == (4, 6, 1)
    assert factor == 100
    assert (picture == 255).all()
    dark, factor = amplified(np.zeros((4, 6)))
    assert factor == 1
    assert not dark.any()
