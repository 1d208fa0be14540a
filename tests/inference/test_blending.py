"""Overlapping tiles of networks that are not converted."""

import pytest
import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference import restore as restore_module
from glocal.inference.memory import MemoryNeed
from glocal.inference.options import Tiles
from glocal.inference.restore import FALLBACK_TILES, restore


class Hungry(nn.Module):
    """Runs out of memory above ``pixels`` of input."""

    def __init__(self, pixels: int, error: Exception) -> None:
        super().__init__()
        self.pixels, self.error = pixels, error
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape[-2:]))
        if x.shape[-2] * x.shape[-1] > self.pixels:
            raise self.error
        return x


def blur() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect")


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Gate(nn.Module):
    """One global mean, and a record of the sizes it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
        self.sizes: list[tuple[int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append((x.shape[-2], x.shape[-1]))
        return x * self.gate(x)


def test_float64_network_and_tiles_keep_float64_precision() -> None:
    model = blur().double()
    image = photo(3, 40, 40).double()
    tiled = restore(model, image, tiles=Tiles(24, overlap=12))
    torch.testing.assert_close(tiled[:, 20, 20], model(image)[:, 20, 20].detach(), atol=1, rtol=1)
    identity = restore(nn.Sequential(nn.Identity(), Scale(1.0).double()), image, tiles=24)
    torch.testing.assert_close(identity, image, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", [32, (24, 50), 1000])
def test_tiles_of_a_local_network_equal_the_whole(tile: int | tuple[int, int]) -> None:
    model = blur()
    image = photo(2, 3, 70, 93)
    whole = restore(model, image)
    tiled = restore(model, image, tiles=Tiles(tile, overlap=12))
    # a tile's own border pads differently; everything further in is the same
    difference = (tiled - whole).abs()
    assert difference.max() < 0.15
    assert difference.median() < 1e-6


def test_overlaps_turn_steps_between_tiles_into_slopes() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((-2, -1), keepdim=True).expand_as(x)

    def largest_step(width: int) -> float:
        ramp = torch.arange(width).expand(1, 8, width) / 100
        return float(restore(Mean(), ramp, tiles=Tiles(40, overlap=0)).diff().abs().max())

    assert largest_step(80) == pytest.approx(0.4)  # two tiles side by side, 40 pixels apart
    assert largest_step(70) == pytest.approx(0.3 / 11, rel=1e-4)  # 30 pixels apart, fading over 10


def test_pointwise_network_in_tiles_equals_the_whole_exactly_enough() -> None:
    model, image = nn.Conv2d(3, 3, 1), photo(3, 75, 101)
    torch.testing.assert_close(
        restore(model, image, tiles=32), restore(model, image), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_too_little_memory_falls_back_to_tiles_with_a_warning(error: Exception) -> None:
    model, image = Hungry(512 * 512, error), photo(1, 300, 1100)
    with pytest.warns(GlocalWarning) as warned:
        restored = restore(model, image)
    assert [str(w.message) for w in warned] == [
        "not enough memory for 300x1100 pixels at once; continuing in blended tiles of 1024x1024",
        "not enough memory for 1024x1024 pixels at once; continuing in blended tiles of 512x512",
    ]
    assert model.sizes == [(300, 1100), (300, 1024), (300, 512), (300, 512), (300, 512)]
    torch.testing.assert_close(restored, image)


def test_smaller_tiles_keep_a_given_overlap() -> None:
    model, image = Hungry(512 * 512, MemoryError()), photo(1, 300, 1300)
    with pytest.warns(GlocalWarning) as warned:
        restore(model, image, tiles=Tiles(overlap=400))
    assert str(warned[-1].message).endswith("continuing in blended tiles of 512x512")
    # 300 rows have one tile; 1300 columns have them at 0, 99, 197, ... for an overlap of 400
    assert model.sizes.count((300, 512)) == 9
    with pytest.warns(GlocalWarning), pytest.raises(GlocalError, match="tile of 512x512"):
        restore(Hungry(100, MemoryError()), image, tiles=Tiles(overlap=400))
    assert torch.equal(
        restore(nn.Identity(), photo(1, 30, 40), tiles=Tiles(overlap=400)), photo(1, 30, 40)
    )


def test_too_little_memory_for_the_smallest_tile_is_an_error() -> None:
    assert FALLBACK_TILES[-1] == 256
    with pytest.warns(GlocalWarning), pytest.raises(GlocalError, match="tile of 256x256"):
        restore(Hungry(100, MemoryError()), photo(1, 300, 300))


def test_a_given_tile_is_not_made_smaller() -> None:
    with pytest.raises(GlocalError, match="tile of 64x64 pixels; use smaller tiles"):
        restore(Hungry(100, MemoryError()), photo(1, 100, 100), tiles=64)


def test_other_errors_name_the_networks_own() -> None:
    with pytest.raises(GlocalError, match="ValueError: no such thing"):
        restore(Hungry(0, ValueError("no such thing")), photo(1, 8, 8))


def test_tiles_that_do_not_exceed_their_overlap_are_refused() -> None:
    with pytest.raises(ArgumentError, match="cannot cover"):
        restore(nn.Identity(), photo(3, 40, 40), tiles=Tiles(16, overlap=16))


def test_an_unconverted_network_in_tiles_warns_of_another_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore_module, "memory_budget", lambda *given, reserved: 70e6)
    monkeypatch.setattr(MemoryNeed, "through", lambda *measured: MemoryNeed(0, 1000))
    network, said = Gate(), []
    with pytest.warns(GlocalWarning, match="blended tiles of 256x256.*not that of the whole image"):
        restore(network, photo(3, 300, 420), report=said.append)
    assert max(network.sizes[1:]) == (256, 256)
