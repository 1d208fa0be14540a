from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference import memory, reach
from glocal.inference.geometry import ALIGN
from glocal.inference.memory import Need, Peak
from glocal.inference.reach import BOUND, _strip, lay_out, measure
from glocal.inference.runner import Runner
from glocal.inference.tiling import UNMEASURED, Tiler

MIB = 2**20


class Shift(nn.Module):
    """Each pixel is that of `by` pixels away, to all sides: a network with a known reach."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, [self.by] * 4)
        sides = (
            padded[..., : x.shape[-2], self.by : -self.by],
            padded[..., 2 * self.by :, self.by : -self.by],
            padded[..., self.by : -self.by, : x.shape[-1]],
            padded[..., self.by : -self.by, 2 * self.by :],
        )
        return sum(sides) / 4  # type: ignore[return-value]


def tiler(network: nn.Module, *size: int) -> Tiler:
    image = torch.rand((1, 3, *size), generator=torch.Generator().manual_seed(0))
    runner = Runner(network, torch.float32, torch.device("cpu"), None)
    return Tiler(runner, lambda rows, columns: image[..., rows, columns], (size[0], size[1]))


@pytest.mark.parametrize(("by", "halo"), [(1, 64), (64, 64), (65, 128), (150, 192)])
@pytest.mark.parametrize("size", [(300, 700), (700, 300)])
def test_the_halo_is_how_far_a_network_reaches(by: int, halo: int, size: tuple[int, int]) -> None:
    found = measure(tiler(Shift(by), *size), (64, 64))
    assert found is not None
    assert found.halo == halo
    assert found.error <= BOUND / 4


def test_a_network_that_reaches_everywhere_is_found_out() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ramp = torch.linspace(0, 1, x.shape[-1])
            return x + (x * ramp).mean((-2, -1), keepdim=True)

    tiles = tiler(Mean(), 300, 900)
    image = tiles.cut(slice(0, 300), slice(0, 900)).clone()
    image[..., 450:] += 1
    tiles.cut = lambda rows, columns: image[..., rows, columns]
    found = measure(tiles, (64, 64))
    assert found is not None
    assert found.error > BOUND
    with pytest.warns(GlocalWarning, match="may not be that of the whole image"):
        layout = lay_out(tiles, (64, 64), (256, 576), None, None)
    assert not layout.exact


def test_an_image_of_one_tile_is_not_measured() -> None:
    assert measure(tiler(Shift(1), 100, 120), (64, 64)) is None


def test_memory_short_of_a_measurement_is_no_error() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    assert measure(tiler(Full(), 300, 700), (64, 64)) is None


def budget(monkeypatch: pytest.MonkeyPatch, per_pixel: int) -> None:
    """As if the network took so many bytes a pixel and nothing else."""

    class Fixed:
        def __init__(self, device: object) -> None:
            self.peak = Peak()

        def __enter__(self) -> Peak:
            return self.peak

        def __exit__(self, *raised: object) -> None:
            self.peak.mib = 1.0

    monkeypatch.setattr(reach, "peak_memory", Fixed)
    monkeypatch.setattr(Need, "through", lambda *measured: Need(0, per_pixel))
    monkeypatch.setattr(reach, "affordable", lambda *given: float("inf"))


@pytest.mark.parametrize("window", [32, 64, 96, 192, 384])
@pytest.mark.parametrize("size", [(4000, 6000), (720, 1280), (8192, 5464), (300, 20_000)])
def test_a_strip_never_has_more_pixels_than_fit(size: tuple[int, int], window: int) -> None:
    lengths = []
    for most in (10**9, 10**6, 300_000, 160_000, 50_000):
        strip = _strip(size, (window, window), most)
        lengths.append(0 if strip is None else strip.length)
        if strip is not None:
            assert strip.length * strip.across <= most
            assert strip.length - strip.cut >= window
            assert (strip.across - size[1 - strip.axis]) % ALIGN == 0
    assert lengths[0] > 0
    assert lengths == sorted(lengths, reverse=True)


def test_where_no_strip_fits_a_small_part_tells_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "affordable", lambda *given: 70_000.0)
    with pytest.warns(GlocalWarning, match="room for a halo of 64 pixels, not of 576"):
        layout = lay_out(tiler(Shift(1), 900, 900), (192, 192), "auto", None, room=1e9)
    assert max(piece.seen[0] * piece.seen[1] for piece in layout.pieces) <= 70_000
    assert not layout.exact


def test_a_device_on_which_nothing_fits_is_tried_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "affordable", lambda *given: 0.0)
    tiles = tiler(Shift(1), 900, 900)
    assert len(lay_out(tiles, (192, 192), "auto", None, room=1e9).pieces) == 1
    assert not tiles.exact  # should the tiler need smaller ones
    with pytest.raises(GlocalError, match="some for 0 pixels"):
        lay_out(tiles, (192, 192), "auto", None, room=0)


def test_memory_that_cannot_be_measured_is_not_taken_for_plenty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_PROCESS", Path("/nowhere"))
    layout = lay_out(tiler(Shift(10), 700, 900), (64, 64), "auto", None, room=UNMEASURED * 300_000)
    seen = [piece.seen[0] * piece.seen[1] for piece in layout.pieces]
    assert 150_000 < max(seen) <= 300_000


def test_a_network_that_sees_farther_than_any_halo_says_so_with_a_given_one_too() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x.mean((-2, -1), keepdim=True)

    tiles = tiler(Mean(), 300, 900)
    image = tiles.cut(slice(0, 300), slice(0, 900)).clone()
    image[..., 450:] += 1
    tiles.cut = lambda rows, columns: image[..., rows, columns]
    with pytest.warns(GlocalWarning, match="samples still differ"):
        assert not lay_out(tiles, (64, 64), (300, 576), 128, None).exact


def test_the_largest_tile_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    budget(monkeypatch, 1000)
    tiles = tiler(Shift(10), 700, 900)
    layout = lay_out(tiles, (64, 64), "auto", None, room=630_000_000)
    assert str(layout) == "the whole image at once"
    layout = lay_out(tiles, (64, 64), "auto", None, room=300_000_000)
    assert len(layout.pieces) > 1
    assert layout.halo == tiles.halo == 64
    assert layout.exact
    seen = [piece.seen[0] * piece.seen[1] for piece in layout.pieces]
    assert 150_000 < max(seen) <= 300_000


def test_a_halo_without_room_is_narrower_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    budget(monkeypatch, 1000)
    tiles = tiler(Shift(150), 700, 900)
    with pytest.warns(GlocalWarning, match="room for a halo of 64 pixels, not of 192"):
        layout = lay_out(tiles, (64, 64), "auto", None, room=60_000_000)
    assert not layout.exact
    with pytest.raises(GlocalError, match="some for 3000 pixels at once, and a tile has 4096"):
        lay_out(tiles, (64, 64), "auto", None, room=3_000_000)


def test_a_tile_that_is_asked_for_keeps_the_halo_that_is_asked_for() -> None:
    tiles = tiler(Shift(10), 700, 900)
    layout = lay_out(tiles, (64, 64), (320, 512), 100, None)
    assert (layout.tile, layout.halo, layout.exact) == ((320, 512), 100, True)
    with pytest.raises(ArgumentError, match="no room for a halo of 100"):
        lay_out(tiles, (64, 64), (256, 256), 100, None)


def test_grids_are_found_at_their_resolutions() -> None:
    from glocal.networks import Restormer

    torch.manual_seed(0)
    network = Restormer(
        dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 1, 1]
    ).eval()
    local = glocal.localize(network, 32)
    tiles = tiler(local, 250, 414)
    with torch.inference_mode():
        found = measure(tiles, (48, 48))
    assert found is not None
    assert {(level.axis, level.by) for level in found.levels} == {
        (axis, by) for axis in (0, 1) for by in (1, 2, 4, 8)
    }
    assert {level.padding for level in found.levels if level.axis == 0} == {6}
    assert {level.padding for level in found.levels if level.axis == 1} == {2}
