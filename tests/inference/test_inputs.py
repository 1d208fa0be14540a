"""Inputs of a network beside the image."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError
from glocal.inference.inputs import example_of, extras_of
from glocal.inference.restore import restore


class Masked(nn.Module):
    """Restores where a mask says so; `strength` is a number for each image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(4, 8, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor, strength: Tensor) -> Tensor:
        y = self.body(torch.cat([x, mask], 1))
        return x + strength * mask * self.last(y * self.gate(y))


class Denoiser(nn.Module):
    """Takes a noise level as a fourth channel, as DRUNet does; multiples of 8 only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(4, 8, 8, 8)
        self.up = nn.ConvTranspose2d(8, 3, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-2] % 8 == x.shape[-1] % 8 == 0, "multiples of 8 only"
        return x[:, :3] + self.up(self.down(x))


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("statistics", ["windows", "crops"])
@pytest.mark.parametrize("tiles", ["auto", 96, glocal.Tiles(40, overlap=16)])
def test_maps_are_cut_like_the_image(statistics: str, tiles: object) -> None:
    network = Masked()
    inputs = {"mask": photo(1, 70, 130) > 0.5, "strength": 2.0}
    inputs["mask"] = inputs["mask"].float()
    example = example_of(network, 3, extras_of(network, inputs))
    local = glocal.localize(network, 16, statistics=statistics, example=example)
    image = photo(3, 70, 130)
    with torch.inference_mode():
        wanted = local(image[None], inputs["mask"][None], torch.full((1, 1, 1, 1), 2.0))[0]
    restored = restore(local, image, inputs=inputs, tiles=tiles)
    exact = not isinstance(tiles, glocal.Tiles)
    torch.testing.assert_close(restored, wanted, rtol=0, atol=1e-5 if exact else 0.3)
    masked = inputs["mask"][0] == 0
    torch.testing.assert_close(restored[:, masked], image[:, masked])


@pytest.mark.parametrize("size", [(24, 32), (21, 30)])
def test_a_number_is_a_constant_map_of_further_channels(size: tuple[int, int]) -> None:
    network, image = Denoiser(), photo(3, *size)
    by_number = restore(network, image, inputs={"sigma": 0.1})
    by_map = restore(network, image, inputs={"sigma": np.full(size, 0.1, np.float32)})
    torch.testing.assert_close(by_number, by_map)
    if size == (24, 32):
        with torch.no_grad():
            wanted = network(torch.cat([image, torch.full((1, *size), 0.1)])[None])[0]
        torch.testing.assert_close(by_number, wanted)
    assert (by_number - restore(network, image, inputs={"sigma": 0.5})).abs().max() > 1e-3


def test_8_bit_images_and_maps() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    mask = np.zeros((24, 32), np.uint8)
    mask[:, 16:] = 255
    restored = restore(Masked(), image, inputs={"mask": mask, "strength": 1})
    assert restored.dtype == np.uint8
    assert (restored[:, :16] == image[:, :16]).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"mask": photo(1, 24, 24)}, "input 'mask' has 24x24 pixels, the image has 24x32"),
        ({"mask": "mask.png"}, "input 'mask' is str; give a number, or an array or tensor"),
        ({"mask": [1, 2]}, "input 'mask' is list"),
        ({"mask": True}, "input 'mask' is bool"),
        ({"mask": np.zeros(3, np.float32)}, r"input 'mask' is ndarray of shape \(3,\)"),
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        restore(Masked(), photo(3, 24, 32), inputs=inputs)


def test_missing_inputs_are_named_by_the_network() -> None:
    with pytest.raises(GlocalError, match="missing 1 required positional argument: 'strength'"):
        restore(Masked(), photo(3, 24, 32), inputs={"mask": photo(1, 24, 32)})
