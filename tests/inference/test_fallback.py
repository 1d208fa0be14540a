"""`restore(fallback=)`: areas of the full-image result in a local one."""

import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalWarning
from glocal.inference.areas import Areas
from glocal.inference.fallback import Fallback


class Amplifying(nn.Module):
    """A norm of fine structure: in a window of a flat part it amplifies the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect", groups=3, bias=False)
        nn.init.constant_(self.fine.weight, -1 / 9)
        with torch.no_grad():
            self.fine.weight[:, :, 1, 1] += 1
        self.norm = nn.InstanceNorm2d(3, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.norm(self.fine(x))


FLAT = slice(80, 176)
INSIDE = slice(104, 152)  # where windows of 48 pixels are flat
AROUND = slice(16, 240)  # windows, cells and the transition


def photo() -> np.ndarray:
    """Texture with a flat, dark square of slight noise."""
    generator = np.random.default_rng(0)
    pixels = generator.normal(128, 25, (256, 256, 3))
    pixels[FLAT, FLAT] = generator.normal(20, 0.6, (96, 96, 3))
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def original() -> nn.Module:
    return Amplifying()


@pytest.fixture(scope="module")
def local(original: nn.Module) -> nn.Module:
    return glocal.localize(original, 32, verify=False)


def off(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.square(one.astype(float) - other).mean()))


def test_an_amplified_area_is_that_of_the_full_image(original: nn.Module, local: nn.Module) -> None:
    image, lines = photo(), list[str]()
    before, full = glocal.restore(local, image), glocal.restore(original, image)
    blend = glocal.restore(local, image, fallback=original, report=lines.append)
    assert off(before[INSIDE, INSIDE], full[INSIDE, INSIDE]) > 10
    assert np.abs(blend[INSIDE, INSIDE].astype(int) - full[INSIDE, INSIDE]).max() <= 1
    outside = np.ones(image.shape, bool)
    outside[AROUND, AROUND] = False
    np.testing.assert_array_equal(blend[outside], before[outside])
    assert not np.array_equal(before[outside], full[outside])
    (line,) = lines
    assert line.startswith("fall-back: ")
    assert "% of the image as the full-image result" in line


def test_without_areas_the_result_is_the_local_one(original: nn.Module, local: nn.Module) -> None:
    image, lines = photo()[:, :60].copy(), list[str]()
    blend = glocal.restore(local, image, fallback=original, report=lines.append)
    np.testing.assert_array_equal(blend, glocal.restore(local, image))
    assert lines == []


def test_areas_are_told(original: nn.Module, local: nn.Module) -> None:
    found: list[Areas | None] = []
    glocal.restore(local, photo(), fallback=Fallback(original, found.append))
    (areas,) = found
    assert areas is not None
    assert areas.weight[0, 0, INSIDE, INSIDE].min() == 1
    assert 0.05 < areas.share < 0.6
    assert areas.difference > 0.04


def test_an_image_in_tiles_does_not_fall_back(original: nn.Module, local: nn.Module) -> None:
    image, found = photo(), list[Areas | None]()
    with pytest.warns(GlocalWarning, match="no fall-back: areas .* were not looked for, as the im"):
        blend = glocal.restore(local, image, fallback=original, tiles=208)
    again = glocal.restore(local, image, fallback=Fallback(original, found.append), tiles=208)
    assert found == [None]
    expected = glocal.restore(local, image, tiles=208)
    np.testing.assert_array_equal(blend, expected)
    np.testing.assert_array_equal(again, expected)


def test_every_form_of_an_image_falls_back(original: nn.Module, local: nn.Module) -> None:
    pixels = photo()
    floats = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    expected = glocal.restore(local, pixels, fallback=original)
    of_pillow = glocal.restore(local, PIL.Image.fromarray(pixels), fallback=original)
    np.testing.assert_array_equal(np.asarray(of_pillow), expected)
    (of_list,) = glocal.restore(local, [pixels], fallback=original)
    np.testing.assert_array_equal(of_list, expected)
    result = glocal.restore(local, floats, fallback=original)
    assert result.shape == floats.shape
    assert off(np.rint(255 * result.clamp(0, 1).permute(1, 2, 0).numpy()), expected) < 0.1


def test_turns_fall_back_as_well(original: nn.Module, local: nn.Module) -> None:
    image, calls = photo(), list[tuple[int, int]]()
    options = {"ensemble": 8, "progress": lambda done, total: calls.append((done, total))}
    blend = glocal.restore(local, image, fallback=original, **options)
    full = glocal.restore(original, image, ensemble=8)
    assert np.abs(blend[INSIDE, INSIDE].astype(int) - full[INSIDE, INSIDE]).max() <= 1
    assert (calls[0], calls[-1]) == ((0, 16), (16, 16))
    assert calls == sorted(calls)


def test_progress_is_that_of_both_runs(original: nn.Module, local: nn.Module) -> None:
    calls: list[tuple[int, int]] = []
    glocal.restore(local, photo(), fallback=original, progress=lambda *each: calls.append(each))
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_progress_without_a_full_image_result_is_that_of_the_tiles(
    original: nn.Module, local: nn.Module
) -> None:
    calls: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GlocalWarning)
        options = {"tiles": 208, "progress": lambda *each: calls.append(each)}
        glocal.restore(local, photo(), fallback=original, **options)
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1] > 1


def test_another_network_is_no_fallback(local: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="fallback must be the original of the network"):
        glocal.restore(local, photo(), fallback=nn.Upsample(scale_factor=2))
