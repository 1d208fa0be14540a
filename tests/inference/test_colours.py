"""Images of one number of channels through networks of another."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError
from glocal.inference.restore import restore


class Gate(nn.Module):
    def __init__(self, channels: int, scale: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Conv2d(8, channels * scale**2, 3, padding=1)
        self.up = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.up(self.last(y * self.gate(y)))


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("statistics", ["windows", "crops"])
@pytest.mark.parametrize("tiles", ["auto", 80, glocal.Tiles(24, overlap=8)])
def test_a_grey_network_restores_each_channel(statistics: str, tiles: object) -> None:
    local = glocal.localize(Gate(1), 16, statistics=statistics)
    image = photo(2, 3, 37, 120)
    apart = torch.cat([restore(local, image[:, i : i + 1], tiles=tiles) for i in range(3)], 1)
    torch.testing.assert_close(restore(local, image, tiles=tiles), apart, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [1, 2])
def test_luma_keeps_the_colours_of_the_image(scale: int) -> None:
    network = Gate(1, scale)
    image = photo(3, 20, 24)
    restored = restore(network, image, grey="luma")
    luma = torch.tensor([0.299, 0.587, 0.114])
    wanted = restore(network, torch.einsum("c,chw->hw", luma, image)[None])
    torch.testing.assert_close(torch.einsum("c,chw->hw", luma, restored), wanted[0])
    shift = restored - torch.nn.functional.interpolate(
        image[None], scale_factor=scale, mode="bicubic"
    )
    torch.testing.assert_close(shift[0, 0], shift[0, 1])
    torch.testing.assert_close(shift[0, 0], shift[0, 2])


def test_a_grey_image_stays_grey_in_a_grey_network() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    for grey in ("channels", "luma"):
        assert restore(Gate(1), image, grey=grey).shape == image.shape


@pytest.mark.parametrize(
    ("taken", "given", "message"),
    [
        (4, 3, "the network takes 4 channels, the image has 3"),
        (4, 1, "the network takes 4 channels, the image has 1"),
        (9, 3, "the network takes 9 channels, the image has 3"),
        (3, 4, "the network takes 3 channels, the image has 4; leave out alpha"),
    ],
)
def test_other_channels_are_refused(taken: int, given: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        restore(Gate(taken), photo(given, 20, 24))


@pytest.mark.parametrize("channels", [2, 4, 6, 9])
def test_images_with_the_channels_of_the_network(channels: int) -> None:
    network, image = Gate(channels), photo(channels, 20, 24)
    with torch.no_grad():
        wanted = network(image[None])[0]
    torch.testing.assert_close(restore(network, image), wanted)


class Unshuffled(nn.Module):
    """Its first convolution takes other channels than the network."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(nn.functional.pixel_unshuffle(x, 2))
        return nn.functional.pixel_shuffle(y, 2)


class Mixed(nn.Module):
    """A grey network whose first module takes three channels, those of its second."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 1, 3, padding=1)
        self.first = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


def test_modules_may_be_defined_in_any_order() -> None:
    for channels in (1, 3):
        assert restore(Mixed(), photo(channels, 20, 24)).shape == (channels, 20, 24)


def test_the_first_convolution_need_not_take_the_image() -> None:
    assert restore(Unshuffled(), photo(3, 20, 24)).shape == (3, 20, 24)
    assert restore(Unshuffled(), photo(1, 20, 24)).shape == (1, 20, 24)
