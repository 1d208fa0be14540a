import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalError, GlocalWarning
from glocal.inference import measure as measure_module
from glocal.inference import memory
from glocal.inference.geometry import ALIGN
from glocal.inference.measure import BYTES_PER_PIXEL, PROBE, _strip, measure, pixels_that_fit
from glocal.inference.memory import MemoryNeed, Peak
from glocal.inference.options import Tiles
from glocal.inference.plan import BOUND, BlendedTiles, TilePlan
from glocal.inference.run import TiledImage
from glocal.inference.runner import ModelRunner
from glocal.inference.tiling import measured_plan

Case = tuple[ModelRunner, TiledImage]


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


def case(network: nn.Module, image: Tensor) -> Case:
    size = (image.shape[-2], image.shape[-1])
    runner = ModelRunner(network, torch.float32, torch.device("cpu"))
    return runner, TiledImage(lambda rows, columns: image[..., rows, columns], size)


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


def shift(by: int, *size: int) -> Case:
    return case(Shift(by), photo(1, 3, *size))


def stepped(*size: int) -> Tensor:
    """A photograph whose right half is brighter."""
    image = photo(1, 3, *size)
    image[..., size[1] // 2 :] += 1
    return image


@pytest.mark.parametrize(("by", "halo"), [(1, 64), (64, 64), (65, 128), (150, 192)])
@pytest.mark.parametrize("size", [(300, 700), (700, 300)])
def test_the_halo_is_how_far_a_network_reaches(by: int, halo: int, size: tuple[int, int]) -> None:
    found = measure(*shift(by, *size), (64, 64))
    assert found.halo == halo
    assert found.error <= BOUND / 4


def test_a_network_that_reaches_everywhere_has_an_error() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ramp = torch.linspace(0, 1, x.shape[-1])
            return x + (x * ramp).mean((-2, -1), keepdim=True)

    means = case(Mean(), stepped(300, 900))
    found = measure(*means, (64, 64))
    assert found.error > BOUND
    with pytest.warns(GlocalWarning, match=r"still differ by .* blended, .* by up to \d"):
        plan = measured_plan(*means, (64, 64), Tiles((300, 576)), None)
    assert isinstance(plan, BlendedTiles)
    assert plan.tile_size == (300, 576)


def test_an_image_of_one_tile_is_not_measured() -> None:
    assert measure(*shift(1, 100, 120), (64, 64)).halo is None


def test_too_little_memory_to_measure_is_no_error() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    assert measure(*case(Full(), photo(1, 3, 300, 700)), (64, 64)).halo is None


def part_needs(monkeypatch: pytest.MonkeyPatch, need: MemoryNeed | None) -> None:
    """As if a small part of the image had shown this."""
    monkeypatch.setattr(measure_module, "_need_of_part", lambda *given: need)


def budget(monkeypatch: pytest.MonkeyPatch, per_pixel: int) -> None:
    """As if the network needed ``per_pixel`` bytes for each pixel and nothing else."""

    class Fixed:
        def __init__(self, device: object) -> None:
            self.peak = Peak()

        def __enter__(self) -> Peak:
            return self.peak

        def __exit__(self, *raised: object) -> None:
            self.peak.mib = 1.0

    monkeypatch.setattr(measure_module, "peak_memory", Fixed)
    monkeypatch.setattr(MemoryNeed, "through", lambda *measured: MemoryNeed(0, per_pixel))
    part_needs(monkeypatch, MemoryNeed(0, 0))


def largest(plan: TilePlan) -> int:
    return max(tile.pixels for tile in plan.tiles)


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


def test_if_no_strip_fits_a_small_part_shows_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    part_needs(monkeypatch, MemoryNeed(0, 1e9 / 70_000))
    with pytest.warns(GlocalWarning, match="suffices for 70000 pixels .* for a halo of 576"):
        plan = measured_plan(*shift(1, 900, 900), (192, 192), Tiles(), memory=1e9)
    assert isinstance(plan, BlendedTiles)
    assert 60_000 < math.prod(plan.tile_size) <= 70_000


def test_a_device_on_which_nothing_fits_is_tried_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part_needs(monkeypatch, None)
    plan = measured_plan(*shift(1, 900, 900), (192, 192), Tiles(), memory=1e9)
    assert len(plan.tiles) == 1
    assert plan.doubt  # should the run need smaller ones
    with pytest.raises(GlocalError, match="suffices for 0 pixels"):
        measured_plan(*shift(1, 900, 900), (192, 192), Tiles(), memory=0)


def test_memory_that_cannot_be_measured_is_not_assumed_to_suffice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_PROCESS", Path("/nowhere"))
    memory_limit = BYTES_PER_PIXEL * 300_000
    plan = measured_plan(*shift(10, 700, 900), (64, 64), Tiles(), memory_limit)
    assert 150_000 < largest(plan) <= 300_000


def test_a_network_with_a_reach_beyond_any_halo_warns_with_a_given_halo_too() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x.mean((-2, -1), keepdim=True)

    means = case(Mean(), stepped(300, 900))
    with pytest.warns(GlocalWarning, match="values still differ"):
        plan = measured_plan(*means, (64, 64), Tiles((300, 576), halo=128), None)
    assert isinstance(plan, BlendedTiles)


def test_the_largest_tile_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    budget(monkeypatch, 1000)
    shifts = shift(10, 700, 900)
    plan = measured_plan(*shifts, (64, 64), Tiles(), memory=630_000_000)
    assert str(plan) == "the whole image at once"
    plan = measured_plan(*shifts, (64, 64), Tiles(), memory=300_000_000)
    assert len(plan.tiles) > 1
    assert plan.halo == 64
    assert not plan.doubt
    assert 150_000 < largest(plan) <= 300_000


def test_tiles_are_blended_where_memory_has_no_room_for_the_halo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget(monkeypatch, 1000)
    shifts = shift(150, 700, 900)
    with pytest.warns(GlocalWarning, match="for 60000 pixels at once, too few for a halo of 192"):
        plan = measured_plan(*shifts, (64, 64), Tiles(), memory=60_000_000)
    assert plan == BlendedTiles((224, 224), plan.why)
    with pytest.raises(GlocalError, match="for 900 pixels at once, and the smallest tile has 1024"):
        measured_plan(*shifts, (64, 64), Tiles(), memory=900_000)


def test_a_given_tile_keeps_a_given_halo_if_it_is_wide_enough() -> None:
    shifts = shift(10, 700, 900)
    plan = measured_plan(*shifts, (64, 64), Tiles((320, 512), halo=100), None)
    assert (plan.tile_size, plan.halo, plan.doubt) == ((320, 512), 100, "")
    plan = measured_plan(*shifts, (64, 64), Tiles((320, 512), halo=20), None)
    assert (plan.tile_size, plan.halo, plan.doubt) == ((320, 512), 64, "")
    with pytest.warns(GlocalWarning, match="256x256 have no core between halos of 100 pixels"):
        plan = measured_plan(*shifts, (64, 64), Tiles((256, 256), halo=100), None)
    assert isinstance(plan, BlendedTiles)


def test_grids_are_found_at_their_resolutions() -> None:
    from glocal.networks import Restormer

    torch.manual_seed(0)
    network = Restormer(
        dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 1, 1]
    ).eval()
    local = glocal.localize(network, 32)
    with torch.inference_mode():
        found = measure(*case(local, photo(1, 3, 250, 414)), (48, 48))
    assert {(each.axis, each.ratio) for each in found.resolutions} == {
        (axis, ratio) for axis in (0, 1) for ratio in (1, 2, 4, 8)
    }
    assert {each.padding for each in found.resolutions if each.axis == 0} == {6}
    assert {each.padding for each in found.resolutions if each.axis == 1} == {2}


class Widened(nn.Module):
    """Needs the memory of 40 images."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.repeat_interleave(40, 1)[:, ::40]


@pytest.mark.usefixtures("memory_is_measured")
def test_a_small_part_shows_once_how_much_memory_pixels_need() -> None:
    network = Widened()
    tiles = case(network, photo(1, 3, 300, 500))
    enough = 300 * 500 * BYTES_PER_PIXEL
    assert pixels_that_fit(*tiles, None) == math.inf
    assert pixels_that_fit(*tiles, enough) >= 300 * 500
    assert network.seen == []
    few, many = pixels_that_fit(*tiles, 1e7), pixels_that_fit(*tiles, 1e8)
    assert few
    assert many == pytest.approx(10 * few)
    assert 1e8 / 3000 < many < 1e8 / (3 * 4 * 40)
    assert network.seen == [(1, 3, PROBE, PROBE)]
    assert pixels_that_fit(*case(network, photo(2, 3, 300, 500)), 1e8) == pytest.approx(many / 2)
    assert len(network.seen) == 1


def test_if_memory_cannot_be_measured_published_networks_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_PROCESS", Path("/nowhere"))
    assert pixels_that_fit(*case(Widened(), photo(1, 3, 300, 500)), 1e8) == 1e8 / BYTES_PER_PIXEL
    assert (
        pixels_that_fit(*case(Widened(), photo(2, 3, 300, 500)), 1e8) == 1e8 / BYTES_PER_PIXEL / 2
    )


def test_no_pixels_fit_if_a_small_part_does_not() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    assert pixels_that_fit(*case(Full(), photo(1, 3, 300, 500)), 1e8) == 0


@pytest.mark.usefixtures("memory_is_measured")
def test_freed_memory_that_is_kept_hides_nothing() -> None:
    script = """
import torch
from glocal.inference.allocator import keep_freed_memory
from test_measure import Widened, case, photo, pixels_that_fit
keep_freed_memory()
for _ in range(3):
    torch.ones(10**8).sum()
print(pixels_that_fit(*case(Widened(), photo(1, 3, 300, 500)), 1e8))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1e8 / 3000 < float(ran.stdout) < 1e8 / (3 * 4 * 40)
