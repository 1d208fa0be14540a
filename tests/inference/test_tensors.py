"""Images of every layout and dtype through `restore`, and back."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError
from glocal.inference.any_image import restore


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(21, 34), (21, 34, 1), (21, 34, 3)])
@pytest.mark.parametrize("tile", [None, 16])
def test_arrays_keep_shape_type_and_values(
    dtype: type, shape: tuple[int, ...], tile: int | None
) -> None:
    values = np.random.default_rng(0).random(shape)
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values * np.iinfo(dtype).max)
    image = values.astype(dtype)
    restored = restore(nn.Identity(), image, tiles=tile)
    assert restored.dtype == dtype
    assert restored.flags.c_contiguous
    if np.issubdtype(dtype, np.integer):
        np.testing.assert_array_equal(restored, image)
    else:
        np.testing.assert_allclose(restored, image, rtol=1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 21, 34), (2, 3, 21, 34), (1, 21, 34)])
def test_tensors_keep_shape_type_and_values(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    image = photo(*shape).to(dtype)
    restored = restore(nn.Identity(), image)
    assert restored.dtype == dtype
    torch.testing.assert_close(restored, image, rtol=1e-6, atol=1e-6)


def test_integers_are_clamped_and_floats_are_not() -> None:
    half = np.full((4, 4, 3), 200, np.uint8)
    assert restore(Scale(2.0), half).max() == 255
    assert restore(Scale(-1.0), half).max() == 0
    assert restore(Scale(2.0), photo(3, 4, 4)).max() > 1


def test_integers_are_rounded() -> None:
    image = np.array([[[100]], [[101]]], np.uint8)
    np.testing.assert_array_equal(restore(Scale(0.996), image), [[[100]], [[101]]])


def test_other_array_layouts_in_memory_are_read() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (12, 20, 3)).astype(">u2")
    assert restore(nn.Identity(), image).dtype == np.dtype("u2")
    np.testing.assert_array_equal(restore(nn.Identity(), image), image)
    flipped = image.astype(np.uint8)[::-1, ::-1]
    flipped.flags.writeable = False
    np.testing.assert_array_equal(restore(nn.Identity(), flipped), flipped)


def test_the_image_is_left_as_it_was() -> None:
    image = photo(3, 32, 32)
    before = image.clone()
    restore(nn.ReLU(inplace=True), image - 0.5)
    restored = restore(nn.Identity(), image)
    restored.zero_()
    torch.testing.assert_close(image, before)


def test_an_in_place_network_does_not_touch_the_image() -> None:
    image = photo(3, 16, 16) - 0.5
    before = image.clone()
    restore(nn.ReLU(inplace=True), image)
    torch.testing.assert_close(image, before)
    array = before.permute(1, 2, 0).numpy().copy()
    restore(nn.ReLU(inplace=True), array)
    np.testing.assert_array_equal(array, before.permute(1, 2, 0).numpy())


def test_result_may_take_part_in_autograd() -> None:
    weight = torch.ones((), requires_grad=True)
    restored = restore(nn.Conv2d(3, 3, 1), photo(3, 8, 8))
    assert not restored.requires_grad
    (restored * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.zeros(8, 8), r"tensor of shape \(8, 8\); expected \(c, h, w\)"),
        (torch.zeros(3, 0, 8), r"expected \(c, h, w\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"torch.uint8; expected floats .* / 255"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), r"torch.bool; expected floats"),
        (torch.zeros(3, 8, 8, device="meta"), "on the meta device, which holds no values"),
        (torch.zeros(9, 8, 3), r"looks like \(h, w, c\); pass image.permute\(2, 0, 1\)"),
        (torch.zeros(2, 9, 8, 3), r"permute\(0, 3, 1, 2\), of shape \(2, 3, 9, 8\)"),
        (torch.full((3, 8, 8), 255.0), r"from 255 to 255 are not in \[0, 1\]; divide by 255"),
        (np.zeros((2, 3, 8, 8)), r"expected \(h, w\) or \(h, w, c\); pass a batch as a tensor"),
        (np.zeros((3, 8, 9), np.uint8), r"pass image.transpose\(1, 2, 0\), of shape \(8, 9, 3\)"),
        (np.zeros((1, 8, 9)), r"looks like \(c, h, w\)"),
        (np.zeros((8, 8), np.int32), r"int32; expected uint8, .* image.astype\(numpy.uint8\)"),
        (np.zeros((8, 8), bool), r"bool; expected uint8, .* image \* numpy.uint8\(255\)"),
        (np.zeros((8, 8), complex), r"complex128; expected uint8, uint16 or floats in \[0, 1\]$"),
        (np.full((8, 8), 60000.0), "divide by 65535"),
        (np.full((8, 8), 1e6, np.float32), "divide by its maximum"),
        (np.full((8, 8), np.nan, np.float32), "float32, and some values are NaN or infinite"),
        (np.full((8, 8), np.inf, np.float16), "some values are NaN or infinite"),
        (None, r"is a NoneType; expected .* a Pillow image, a path, or a list of them$"),
    ],
)  # fmt: skip
def test_other_images_are_refused_with_what_to_pass(image: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said) as caught:
        restore(nn.Identity(), image)
    assert "\n" not in str(caught.value)


def test_values_somewhat_above_white_are_taken() -> None:
    bright = np.linspace(-0.5, 8, 48, dtype=np.float32).reshape(4, 4, 3)
    np.testing.assert_allclose(restore(nn.Identity(), bright), bright)


@pytest.mark.parametrize("shape", [(5, 5, 3), (3, 4, 3), (6, 8, 6), (1, 9, 1)])
def test_shapes_that_fit_the_layout_are_no_mistake(shape: tuple[int, ...]) -> None:
    assert restore(nn.Identity(), np.zeros(shape, np.uint8)).shape == shape
    first = (shape[2], shape[0], shape[1])
    assert restore(nn.Identity(), torch.zeros(first)).shape == first
