"""Tiles are the whole image to within 1/255, or they are blended and that is said."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalError
from glocal.inference.options import Tiles
from glocal.inference.plan import BOUND
from glocal.inference.restore import restore


class Gate(nn.Module):
    """A network with pooled gates at two resolutions and a wide receptive field."""

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 4, 2, 1)
        self.wide = nn.Conv2d(8, 8, 5, padding=6, dilation=3)
        self.gates = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
            for _ in range(2)
        )
        self.up = nn.Sequential(nn.Conv2d(8, 32, 1), nn.PixelShuffle(2))
        self.last = nn.Sequential(nn.Conv2d(8, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        y = self.first(x)
        y = y * self.gates[0](y)
        z = self.wide(self.down(y))
        z = z + self.up(z * self.gates[1](z))[..., ::2, ::2]
        out = self.last(y + self.up(z))
        scale = out.shape[-1] // x.shape[-1]
        return out[..., : height * scale, : width * scale]


class Normed(nn.Module):
    """Instance norms, whose statistics come from crops or windows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.body(x)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {
        "gate": glocal.localize(Gate(), 24, verify=False),
        "x2": glocal.localize(Gate(2), 24, verify=False),
        "crops": glocal.localize(Normed(), 32, statistics="crops", verify=False),
    }


def photo(height: int, width: int) -> Tensor:
    """Smooth, with noise, and darker on its right half."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 12 + 2, width // 12 + 2, generator=generator)
    x = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    x = 0.8 * x + 0.1 * torch.rand(3, height, width, generator=generator)
    x[..., width // 2 :] *= 0.5
    return x


SIZE = (150, 190)


@pytest.fixture(scope="module")
def wholes(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {name: restore(each, photo(*SIZE), tiles=None) for name, each in networks.items()}


@pytest.mark.parametrize("name", ["gate", "x2", "crops"])
@pytest.mark.parametrize("halo", [None, 0, 8, 40])
@pytest.mark.parametrize("tile", [32, 72, 96, (150, 100), 128, 144])
def test_tiles_are_the_whole_unless_blending_is_announced(
    networks: dict[str, nn.Module],
    wholes: dict[str, Tensor],
    name: str,
    halo: int | None,
    tile: int | tuple[int, int],
) -> None:
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored = restore(
            networks[name], photo(*SIZE), tiles=Tiles(tile, halo=halo), report=said.append
        )
    texts = [str(each.message) for each in caught]
    blended = any("are blended" in text for text in texts)
    assert blended or said
    error = float((restored - wholes[name]).abs().max())
    assert error <= BOUND or blended, (error * 255, texts, said)


@pytest.mark.parametrize("name", ["gate", "x2", "crops"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.9])
def test_short_memory_never_cuts_a_halo(
    networks: dict[str, nn.Module],
    wholes: dict[str, Tensor],
    name: str,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from glocal.inference import measure, memory
    from glocal.inference import restore as module

    pixels = share * SIZE[0] * SIZE[1]
    monkeypatch.setattr(memory.MemoryNeed, "through", lambda *given: memory.MemoryNeed(0, 1000))
    monkeypatch.setattr(measure, "_need_of_part", lambda *given: memory.MemoryNeed(0, 1000))
    monkeypatch.setattr(module, "memory_budget", lambda *given, reserved: 1000 * pixels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored = restore(networks[name], photo(*SIZE), memory=10**9)
    error = float((restored - wholes[name]).abs().max())
    texts = [str(each.message) for each in caught]
    assert error <= BOUND or any("are blended" in text for text in texts), (error * 255, texts)


def test_a_wider_tile_sees_more(networks: dict[str, nn.Module]) -> None:
    """Tiles are not rounded down to multiples of 64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        narrow, wide = (restore(networks["gate"], photo(*SIZE), tiles=n) for n in (128, 144))
    assert not torch.equal(narrow, wide)


def test_even_the_smallest_tile_may_be_too_large(
    networks: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glocal.inference import measure, memory
    from glocal.inference import restore as module

    monkeypatch.setattr(measure, "_need_of_part", lambda *given: memory.MemoryNeed(0, 1000))
    monkeypatch.setattr(module, "memory_budget", lambda *given, reserved: 100_000)
    with pytest.raises(GlocalError, match="suffices for 100 pixels at once"):
        restore(networks["gate"], photo(*SIZE), memory=10**9)
