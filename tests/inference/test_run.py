import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalError, GlocalWarning
from glocal.images import image_files as images
from glocal.inference.geometry import Span
from glocal.inference.options import Tiles
from glocal.inference.plan import TilePlan
from glocal.inference.run import TiledImage, TileRunner, run
from glocal.inference.runner import ModelRunner
from glocal.ops import local_channel_attention
from glocal.ops.placement import (
    Extent,
    Placement,
    Resolution,
    placed,
    recorded_grids,
    resolutions_of,
)
from glocal.ops.windows import cells, starts


def case(
    network: nn.Module, image: Tensor, plan: TilePlan, device: str = "cpu"
) -> tuple[TilePlan, ModelRunner, TiledImage]:
    runner = ModelRunner(network, torch.float32, torch.device(device))
    return plan, runner, TiledImage(lambda rows, columns: image[..., rows, columns], plan.size)


def planned(image: Tensor, tile: int, halo: int = 0, doubt: str = "") -> TilePlan:
    return TilePlan((image.shape[-2], image.shape[-1]), (tile, tile), halo, doubt)


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


def restored(plan: TilePlan, runner: ModelRunner, image: TiledImage) -> Tensor:
    out = torch.full((1, 3, *plan.size), torch.nan)
    for _, tile, core, scale in run(plan, runner, image):
        out[..., *tile.core(scale)] = core
    return out


@torch.inference_mode()
def test_tiles_of_a_network_that_reaches_no_farther_than_the_halo_are_the_whole() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 3, 5, padding=2))
    image = photo(1, 3, 150, 331)
    tiled = restored(*case(network, image, planned(image, 192, halo=4)))
    torch.testing.assert_close(tiled, network(image), rtol=0, atol=1e-6)
    cut = restored(*case(network, image, planned(image, 192)))
    assert (cut - network(image)).abs().max() > 1e-3


class Attention(nn.Module):
    """Transposed attention at two resolutions, after padding to a multiple of 8."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect")
        for by in (1, 8):
            y = nn.functional.avg_pool2d(x, by)
            windows = (self.window // by, self.window // by)
            y = local_channel_attention(y[:, None], y[:, None], y[:, None], 4.0, windows)[:, 0]
            x = x + nn.functional.interpolate(y, scale_factor=by, mode="nearest")
        return x[..., :height, :width]


@torch.inference_mode()
def test_tiles_have_the_grids_of_windows_of_the_whole_image() -> None:
    network, image = Attention(96), photo(1, 3, 419, 1186)
    image[..., 300:] *= torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    with recorded_grids() as lengths:
        whole = network(image)
    assert lengths == {(0, 424), (1, 1192), (0, 53), (1, 149)}
    found = resolutions_of(lengths, (419, 1186))
    assert [(each.axis, each.ratio, each.padding) for each in found] == [
        (0, 1, 5),
        (0, 8, 5),
        (1, 1, 6),
        (1, 8, 6),
    ]
    plan = TilePlan((419, 1186), (832, 768), 320, resolutions=found)
    tile = plan.tiles[2]
    assert tile.columns.start > 0
    wanted = whole[..., *tile.core(1)]
    core, _ = TileRunner(*case(network, image, plan))(tile)
    torch.testing.assert_close(core, wanted, rtol=0, atol=1e-5)
    unplaced, _ = TileRunner(*case(network, image, dataclasses.replace(plan, resolutions=())))(tile)
    assert (unplaced - wanted).abs().max() > 1 / 255


@pytest.mark.parametrize("size", [(720, 1280), (448, 1216), (410, 997)])
def test_an_image_of_any_shape_has_its_grids_in_tiles(size: tuple[int, int]) -> None:
    network, image = Attention(96), photo(3, *size)
    image[..., 500:] *= torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    whole = glocal.restore(network, image)
    tiled = glocal.restore(network, image, tiles=Tiles(576, halo=96))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)


@given(st.integers(40, 400), st.integers(5, 60), st.data())
def test_windows_of_a_tile_are_those_of_the_whole(
    size: int, window: int, data: st.DataObject
) -> None:
    window = min(window, size)
    origin = data.draw(st.integers(0, size - window))
    length = data.draw(st.integers(window, size - origin))
    axis = data.draw(st.sampled_from([0, 1]))
    extents = [Extent(0, 1000, 1000), Extent(0, 1000, 1000)]
    extents[axis] = Extent(origin, origin + length, size)
    with placed(Placement(*extents, (Resolution(axis, 1, 0),))):
        found = starts(length, window, axis=axis)
        covered = cells(length, window, axis=axis)
        assert starts(length, window, axis=1 - axis) == starts(length, window)
    everywhere = [s - origin for s in starts(size, window)]
    inside = {s for s in everywhere if 0 <= s <= length - window}
    assert inside <= set(found)
    assert set(found) <= inside | {0, length - window}
    assert covered[0][0] == 0
    assert covered[-1][1] == length
    assert all(b - a <= window for a, b in pairwise(found))


class Hungry(nn.Module):
    """Runs out of memory above a number of pixels on each device."""

    def __init__(self, **pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.seen: list[tuple[str, tuple[int, int]]] = []

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        self.seen.append((x.device.type, size))
        if size[0] * size[1] > self.pixels[x.device.type]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        return x


def test_too_little_memory_splits_the_tiles_and_remembers_it() -> None:
    network, image = Hungry(cpu=52_000), photo(1, 3, 200, 512)
    tiles = case(network, image, planned(image, 512, halo=10))
    restore = TileRunner(*tiles)
    (tile,) = tiles[0].tiles
    with pytest.warns(GlocalWarning) as warned:
        result, _ = restore(tile)
    assert [str(w.message) for w in warned] == [
        "not enough memory on cpu for 200x512 pixels at once; continuing in tiles of 200x320",
        "not enough memory on cpu for 200x320 pixels at once; continuing in tiles of 200x192",
    ]
    torch.testing.assert_close(result, image)
    before = len(network.seen)
    restore(tile)
    assert all(h * w <= 52_000 for _, (h, w) in network.seen[before:])


@pytest.mark.parametrize("pixels", [10, 20_000])
def test_a_device_without_memory_is_replaced_by_the_cpu(pixels: int) -> None:
    # torch's "meta" device plays a GPU
    network, image = Hungry(meta=10, cpu=10**9), photo(1, 3, 100, 300)
    tiles = case(network, image, planned(image, 512), device="meta")
    with pytest.warns(GlocalWarning) as warned:
        result = restored(*tiles)
    assert str(warned[-1].message).startswith("not enough memory on meta for ")
    assert str(warned[-1].message).endswith("pixels at once; continuing on the CPU")
    assert tiles[1].device.type == "cpu"
    assert {device for device, _ in network.seen} == {"meta", "cpu"}
    torch.testing.assert_close(result, image)


def test_smaller_tiles_in_doubt_give_a_warning() -> None:
    image = photo(1, 3, 200, 512)
    tiles = case(Hungry(cpu=52_000), image, planned(image, 512, doubt="unmeasured"))
    with pytest.warns(GlocalWarning, match="may differ from that of the whole image"):
        restored(*tiles)


def test_too_little_memory_on_every_device_is_an_error() -> None:
    image = photo(1, 3, 100, 300)
    tiles = case(Hungry(meta=10, cpu=10), image, planned(image, 512), device="meta")
    with pytest.warns(GlocalWarning), pytest.raises(GlocalError, match="not enough memory on cpu"):
        restored(*tiles)


def test_other_errors_name_the_networks_own() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("mine")

    image = photo(1, 3, 100, 100)
    with pytest.raises(GlocalError, match="ValueError: mine"):
        restored(*case(Fails(), image, planned(image, 512)))


@torch.inference_mode()
def test_a_square_tile_of_a_wide_image_has_two_grids() -> None:
    network, image = Attention(96), photo(1, 3, 448, 896)
    image[..., 500:] *= torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    with recorded_grids() as lengths:
        whole = network(image)
    plan = TilePlan((448, 896), (448, 768), 320, resolutions=resolutions_of(lengths, (448, 896)))
    columns = Span(core_start=768, core_stop=896, start=448, stop=896)
    square = dataclasses.replace(plan.tiles[1], columns=columns)
    assert square.size == (448, 448)
    core, _ = TileRunner(*case(network, image, plan))(square)
    torch.testing.assert_close(core, whole[..., *square.core(1)], rtol=0, atol=1e-5)


@pytest.mark.long
@pytest.mark.slow
def test_the_shipped_photograph_in_small_tiles_is_that_of_the_whole(example: np.ndarray) -> None:
    local = glocal.localize(glocal.load("nafnet-motion-blur"), 64)
    image = np.ascontiguousarray(example[:448, :640]).astype(np.float32) / 255
    whole = glocal.restore(local, image)
    tiled = glocal.restore(local, image, tiles=384)
    assert np.abs(tiled - whole).max() <= 1 / 255
    widened = glocal.restore(local, image, tiles=Tiles(384, halo=0))
    assert np.abs(widened - whole).max() <= 1 / 255  # a halo is never narrower than measured


@pytest.fixture
def example() -> np.ndarray:
    return images.read(Path(__file__).parents[2] / "examples" / "handshake.jpg").pixels


def test_tiles_that_are_done_are_skipped_and_counted() -> None:
    image, calls = photo(1, 3, 100, 300), []
    tiles = case(nn.Identity(), image, planned(image, 128))
    found = run(*tiles, done={0, 2}, progress=lambda *call: calls.append(call))
    assert [index for index, *_ in found] == [1]
    assert calls == [(0, 3), (2, 3), (3, 3)]
