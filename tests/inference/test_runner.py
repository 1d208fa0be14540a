"""Padding, channels, outputs and dtypes, as `restore` shows them."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


class Named(nn.Module):
    """Gives the image under names, in a dict or a dataclass."""

    def __init__(self, *names: str, kind: Callable[[dict[str, Tensor]], Any] = dict) -> None:
        super().__init__()
        self.names, self.kind = names, kind

    def forward(self, x: Tensor) -> Any:
        return self.kind({name: x + n for n, name in enumerate(self.names)})


@dataclass
class Result:
    loss: Tensor | None
    image: Tensor


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


@pytest.mark.parametrize("by", [2, 7, 8, 10, 12, 16, 24, 64, 160, 256])
def test_refused_sizes_are_padded_and_cropped_back(by: int) -> None:
    image = photo(3, 37, 50)
    torch.testing.assert_close(restore(Multiples(by), image), image)


def test_the_training_size_shows_which_multiples_a_network_takes() -> None:
    image = photo(3, 37, 50)
    model = Multiples(11)
    with pytest.raises(
        GlocalError, match=r"does not run on \(1, 3, 37, 50\): RuntimeError: .*must match"
    ):
        restore(model, image)
    model.glocal_train_size = 66
    torch.testing.assert_close(restore(model, image), image)
    restored = len(model.sizes)
    restore(model, photo(3, 40, 50))
    assert model.sizes[restored:] == [(1, 3, 44, 55)]  # known by now


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == x.shape[-2], "square images only"
        return x


class AtLeast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert min(x.shape[-2:]) >= 64, "too small"
        return x


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-2:] == (64, 64), "64x64 only"
        return x


@pytest.mark.parametrize("model", [Square(), AtLeast(), Fixed()])
def test_networks_of_squares_and_of_a_least_size(model: nn.Module) -> None:
    image = photo(3, 37, 50)
    model.glocal_train_size = 64
    torch.testing.assert_close(restore(model, image), image)


@pytest.mark.parametrize(
    ("layers", "scale"),
    [
        ([nn.Conv2d(3, 3, 3)], 1),
        ([nn.Conv2d(3, 4, 9), nn.Conv2d(4, 3, 5)], 1),
        ([nn.Conv2d(3, 12, 3), nn.PixelShuffle(2)], 2),
        ([nn.Conv2d(3, 48, 5), nn.PixelShuffle(4), nn.Conv2d(3, 3, 5)], 4),
    ],
)
@pytest.mark.parametrize("tile", [None, 24])
def test_convolutions_without_padding(
    layers: list[nn.Module], scale: int, tile: int | None
) -> None:
    model = nn.Sequential(*layers)
    model.glocal_train_size = 32
    image = photo(1, 3, 37, 50)
    restored = restore(model, image, tiles=tile)
    assert restored.shape[-2:] == (37 * scale, 50 * scale)
    if tile is None:
        with torch.no_grad():
            inner = model(image)
        lost = 37 * scale - inner.shape[-2]
        assert lost > 0
        half = lost // 2
        torch.testing.assert_close(restored[..., half:-half, half:-half], inner)


def test_output_that_is_off_centre_is_refused() -> None:
    with pytest.raises(GlocalError, match="lacks 1 rows and 1 columns"):
        restore(nn.Conv2d(3, 3, 2), photo(3, 37, 50))


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

    restore(Look(), photo(1, 8, 8), channels=1)
    restore(Look(), photo(1, 8, 8), channels=3)
    assert seen == [1, 3]


def test_outputs_are_chosen() -> None:
    image = photo(3, 8, 8)
    torch.testing.assert_close(restore(Double(), image, output=1), 1 - image)
    torch.testing.assert_close(restore(Double(), image, output=-2), image)
    torch.testing.assert_close(restore(Named("image"), image), image)
    with pytest.raises(ArgumentError, match=r"returns 2 outputs.*choose one with output="):
        restore(Double(), image)
    with pytest.raises(ArgumentError, match="output=2"):
        restore(Double(), image, output=2)
    with pytest.raises(ArgumentError, match="output=1, but the network returns one output"):
        restore(nn.Identity(), image, output=1)


@pytest.mark.parametrize(
    ("kind", "names", "output", "offset"),
    [
        (dict, ["out"], None, 0),
        (dict, ["aux", "out"], "out", 1),
        (dict, ["aux", "out"], -1, 1),
        (lambda found: list(found.values()), ["out"], None, 0),
        (lambda found: tuple(found.values()), ["out"], None, 0),
        (lambda found: [None, list(found.values())], ["out"], None, 0),
        (lambda found: Result(None, found["out"]), ["out"], None, 0),
        (lambda found: Result(None, found["out"]), ["out"], "image", 0),
        (lambda found: namedtuple("Pair", found)(**found), ["aux", "out"], "out", 1),
        (lambda found: OrderedDict(loss=0.5, **found), ["out"], None, 0),
    ],
)
@pytest.mark.parametrize("tiles", [None, 8])
def test_outputs_with_names(
    kind: Callable[[dict[str, Tensor]], Any],
    names: list[str],
    output: int | str | None,
    offset: int,
    tiles: int | None,
) -> None:
    image = photo(3, 8, 12)
    restored = restore(Named(*names, kind=kind), image, output=output, tiles=tiles)
    torch.testing.assert_close(restored, image + offset)


def test_unknown_outputs_are_listed() -> None:
    image = photo(3, 8, 8)
    with pytest.raises(
        ArgumentError, match=r"returns 2 outputs, aux \(1, 3, 8, 8\), out .*; choose one"
    ):
        restore(Named("aux", "out"), image)
    with pytest.raises(
        ArgumentError, match=r"output=image, but the network returns 2 outputs, aux"
    ):
        restore(Named("aux", "out"), image, output="image")
    with pytest.raises(ArgumentError, match=r"output=loss is NoneType, not a tensor"):
        restore(Named("a", kind=lambda found: Result(None, found["a"])), image, output="loss")


def test_outputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(ArgumentError, match="expected \\(b, c, h, w\\)"):
        restore(nn.Flatten(), photo(3, 8, 8))
    with pytest.raises(ArgumentError, match="not a whole multiple"):
        restore(nn.MaxPool2d(2), photo(3, 8, 8))

    class Text(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "image"

    with pytest.raises(ArgumentError, match="returned str, not a tensor"):
        restore(Text(), photo(3, 8, 8))


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
    [TwoImages(), OneSize(), nn.Conv3d(3, 3, 1)],
    ids=["two images", "one size", "video"],
)
@pytest.mark.parametrize("tiles", [None, 20])
def test_networks_that_refuse_every_size_raise_an_error_of_glocal(
    network: nn.Module, tiles: int | None
) -> None:
    with pytest.raises(GlocalError, match=r"the network does not run on \(1, 3, \d+, \d+\)"):
        restore(network, photo(3, 37, 50), tiles=tiles)
