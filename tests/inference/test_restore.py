"""Converted networks on tiles with a halo, memory and progress."""

import contextlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalWarning
from glocal.inference import restore as restore_module
from glocal.inference.memory import MemoryNeed
from glocal.inference.options import Tiles
from glocal.inference.restore import restore


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


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


def test_progress_counts_the_tiles() -> None:
    calls: list[tuple[int, int]] = []
    restore(nn.Identity(), photo(3, 40, 20), tiles=20, progress=lambda *call: calls.append(call))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    calls.clear()
    restore(nn.Identity(), photo(3, 40, 20), progress=lambda *call: calls.append(call))
    assert calls == [(0, 1), (1, 1)]


def test_a_converted_network_in_tiles_gives_the_whole_image() -> None:
    local = glocal.localize(Gate(), 32)
    image = photo(2, 3, 300, 420)
    whole = restore(local, image)
    said: list[str] = []
    tiled = restore(local, image, tiles=256, report=said.append)
    (line,) = said
    assert line.startswith("6 of up to 256x256 with a halo of 48, 1.9 × the pixels of the image,")
    assert line.endswith(", off by 0.00/255 as measured")
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1 / 255)
    torch.testing.assert_close(restore(local, image, tiles=(300, 420)), whole, rtol=0, atol=0)
    blended = restore(local, image, tiles=Tiles(256, blend="linear"))
    assert (blended - whole).abs().max() > (tiled - whole).abs().max()


@pytest.mark.parametrize("kind", ["tensor", "array", "grey", "uint8"])
def test_tiles_of_every_kind_of_image(kind: str) -> None:
    local = glocal.localize(Gate(), 32)
    image = photo(3, 300, 420) if kind == "tensor" else photo(300, 420, 3).numpy()
    if kind == "grey":
        image = image[..., 0]
    if kind == "uint8":
        image = np.rint(image * 255).astype(np.uint8)
    whole, tiled = restore(local, image), restore(local, image, tiles=256)
    assert type(tiled) is type(whole)
    assert tiled.dtype == whole.dtype
    assert tiled.shape == whole.shape
    assert abs(tiled * 1.0 - whole * 1.0).max() <= (1 if kind == "uint8" else 1 / 255)


def test_a_budget_makes_tiles_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    local = glocal.localize(Gate(), 32)
    image = photo(3, 300, 420)
    whole = restore(local, image)
    said: list[str] = []
    # as if the network took 1000 bytes a pixel; one probe is as good as the other then
    monkeypatch.setattr(MemoryNeed, "through", lambda *measured: MemoryNeed(0, 1000))
    for budget, pixels in ((130e6, 300 * 420), (110e6, 110_000)):
        monkeypatch.setattr(
            restore_module, "memory_budget", lambda *given, reserved, budget=budget: budget
        )
        local.sizes.clear()
        tiled = restore(local, image, report=said.append)
        largest = max(height * width for height, width in local.sizes)
        assert largest <= pixels
        assert (largest == 300 * 420) == (budget == 130e6)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=0 if budget == 130e6 else 1 / 255)
    assert len(said) == 1


@pytest.mark.usefixtures("memory_is_measured")
def test_strips_of_an_image_that_surely_fits_are_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = glocal.localize(Gate(), 32)
    local.sizes.clear()
    monkeypatch.setattr(restore_module, "memory_budget", lambda *given, reserved: 300 * 420 * 8_000)
    restore(local, photo(3, 300, 420))
    restore(local, photo(3, 300, 420))
    assert local.sizes == [(256, 256), (300, 420), (300, 420)]


@pytest.mark.parametrize("local", [False, True])
def test_a_device_without_memory_is_replaced_by_the_cpu(
    local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.inference.placing.usable_device", torch.device)

    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.device.type == "meta":  # as a GPU without memory: there is none here
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return x

    image = photo(3, 400, 600)
    with (
        pytest.warns(GlocalWarning, match="continuing"),
        pytest.warns(GlocalWarning, match="too small to measure")
        if local
        else contextlib.nullcontext(),
    ):
        restored = restore(Picky(), image, device="meta", tiles=Tiles(halo=8 if local else None))
    torch.testing.assert_close(restored, image)
