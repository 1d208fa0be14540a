"""Padding, channels, outputs and dtypes, as `restore` shows them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glocal.errors import ArgumentError, GlocalError
from glocal.inference.restore import restore


class Double(nn.Module):
    """Gives the image and its negative."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, 1 - x]


class Enlarge(nn.Module):
    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Multiples(nn.Module):
    """Refuses sizes that are not multiples of ``by``, as an encoder with skips does."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % self.by or x.shape[-1] % self.by:
            raise RuntimeError("The size of tensor a must match the size of tensor b")
        self.sizes.append(tuple(x.shape))
        return x


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tile", [None, 16])
def test_super_resolution(scale: int, tile: int | None) -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 37, 3), dtype=np.uint8)
    restored = restore(Enlarge(scale), image, tiles=tile)
    np.testing.assert_array_equal(restored, image.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("by", [2, 8, 16, 24, 64])
def test_refused_sizes_are_padded_and_cropped_back(by: int) -> None:
    image = photo(3, 37, 50)
    if by == 24:
        with pytest.raises(GlocalError, match=r"does not run on .*RuntimeError: .*must match"):
            restore(Multiples(by), image)
        return
    torch.testing.assert_close(restore(Multiples(by), image), image)


def test_super_resolution_of_a_padded_size() -> None:
    model = nn.Sequential(Multiples(16), Enlarge(2))
    image = photo(3, 19, 21)
    expected = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(restore(model, image), expected)
    torch.testing.assert_close(restore(model, image, tiles=12), expected)


def test_accepted_sizes_are_not_padded() -> None:
    model = Multiples(1)
    restore(model, photo(3, 37, 50))
    assert model.sizes == [(1, 3, 37, 50)]


def test_images_are_padded_if_the_output_is_cut_to_a_multiple() -> None:
    class Floor(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[..., : x.shape[-2] // 8 * 8, : x.shape[-1] // 8 * 8]

    image = photo(3, 37, 50)
    torch.testing.assert_close(restore(Floor(), image), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_tiny_images(size: tuple[int, int]) -> None:
    image = photo(3, *size)
    torch.testing.assert_close(restore(Multiples(32), image), image)


def test_grey_through_a_colour_network_is_averaged() -> None:
    model = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.diag(torch.tensor([0.3, 0.6, 0.9]))[..., None, None])
    image = photo(1, 8, 8)
    torch.testing.assert_close(restore(model, image), image * 0.6)
    torch.testing.assert_close(restore(model, image[0].numpy()), (image[0] * 0.6).numpy())


def test_grey_through_a_grey_network_stays_one_channel() -> None:
    model = nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 1, 1))
    assert restore(model, photo(1, 8, 8)).shape == (1, 8, 8)


def test_channels_can_be_given() -> None:
    seen: list[int] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape[1])
            return x

    restore(Look(), photo(1, 8, 8))
    restore(Look(), photo(1, 8, 8), channels=3)
    assert seen == [1, 3]


def test_outputs_are_chosen() -> None:
    image = photo(3, 8, 8)
    torch.testing.assert_close(restore(Double(), image, output=1), 1 - image)
    torch.testing.assert_close(restore(Double(), image, output=-2), image)
    with pytest.raises(ArgumentError, match=r"returns 2 outputs.*choose one with output="):
        restore(Double(), image)
    with pytest.raises(ArgumentError, match="output=2"):
        restore(Double(), image, output=2)
    with pytest.raises(ArgumentError, match="output=1, but the network returns one output"):
        restore(nn.Identity(), image, output=1)


def test_outputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(ArgumentError, match="expected \\(b, c, h, w\\)"):
        restore(nn.Flatten(), photo(3, 8, 8))
    with pytest.raises(ArgumentError, match="not a whole multiple"):
        restore(nn.MaxPool2d(2), photo(3, 8, 8))

    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"image": x}

    with pytest.raises(ArgumentError, match="returned dict"):
        restore(Named(), photo(3, 8, 8))


def test_mode_and_flags_survive() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9)))
    model[1].eval()
    flags = [module.training for module in model.modules()]
    image = photo(3, 16, 16)
    torch.testing.assert_close(restore(model, image), image, rtol=1e-4, atol=1e-4)
    assert [module.training for module in model.modules()] == flags
    with pytest.raises(ArgumentError):
        restore(nn.Sequential(model, nn.Flatten()), image)
    assert [module.training for module in model.modules()] == flags


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_narrow_types_run_by_autocast(dtype: torch.dtype | str) -> None:
    model, seen = nn.Conv2d(3, 3, 1), []
    model.register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    image = photo(3, 16, 16)
    restored = restore(model, image, dtype=dtype)
    assert seen == [torch.bfloat16 if dtype == "bfloat16" else torch.float16]
    assert restored.dtype == torch.float32
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(restored, restore(model, image), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", ["float64", "int8", "nonsense", "nn", torch.float64])
def test_other_types_are_refused(dtype: torch.dtype | str) -> None:
    with pytest.raises(ArgumentError, match=r"give torch\.float32, bfloat16 or float16"):
        restore(nn.Conv2d(3, 3, 1), photo(3, 8, 8), dtype=dtype)


def test_own_narrow_type_is_used_without_autocast() -> None:
    model = nn.Conv2d(3, 3, 1).bfloat16()
    assert restore(model, photo(3, 8, 8)).dtype == torch.float32
    with pytest.raises(ArgumentError, match="convert the network first"):
        restore(model, photo(3, 8, 8), dtype="float32")


class TwoImages(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class OneSize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    "network",
    [TwoImages(), OneSize(), nn.Conv2d(1, 1, 3, padding=1), nn.Conv3d(3, 3, 1)],
    ids=["two images", "one size", "grey", "video"],
)
@pytest.mark.parametrize("tiles", [None, 20])
def test_networks_that_refuse_every_size_raise_an_error_of_glocal(
    network: nn.Module, tiles: int | None
) -> None:
    with pytest.raises(GlocalError, match=r"the network does not run on \(1, 3, \d+, \d+\)"):
        restore(network, photo(3, 37, 50), tiles=tiles)
