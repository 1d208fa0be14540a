import dataclasses
import math
import subprocess
import sys
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
from glocal.images import images
from glocal.inference import memory
from glocal.inference.geometry import Part, pieces
from glocal.inference.runner import Runner
from glocal.inference.tiling import PROBE, UNMEASURED, Tiler, affordable, levels_of
from glocal.ops import local_channel_attention
from glocal.ops.placement import Whole, looked_up, placed
from glocal.ops.windows import cells, starts


def tiler(network: nn.Module, image: Tensor, halo: int = 0, device: str = "cpu") -> Tiler:
    runner = Runner(network, torch.float32, torch.device(device), None)
    size = (image.shape[-2], image.shape[-1])
    return Tiler(runner, lambda rows, columns: image[..., rows, columns], size, halo=halo)


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


def restored(tiles: Tiler, tile: int) -> Tensor:
    out = torch.full((1, 3, *tiles.size), torch.nan)
    for piece in pieces(tiles.size, (tile, tile), tiles.halo):
        rows, columns = (slice(p.start, p.stop) for p in (piece.rows, piece.columns))
        out[..., rows, columns], _ = tiles(piece)
    return out


@torch.inference_mode()
def test_tiles_of_a_network_that_sees_no_farther_than_the_halo_are_the_whole() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 3, 5, padding=2))
    image = photo(1, 3, 150, 331)
    tiled = restored(tiler(network, image, halo=4), 192)
    torch.testing.assert_close(tiled, network(image), rtol=0, atol=1e-6)
    cut = restored(tiler(network, image, halo=0), 192)
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
def test_grids_of_windows_lie_where_they_lie_in_the_whole_image() -> None:
    network, image = Attention(96), photo(1, 3, 419, 1186)
    image[..., 300:] *= torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    with looked_up() as extents:
        whole = network(image)
    assert extents == {(0, 424), (1, 1192), (0, 53), (1, 149)}
    tiles = tiler(network, image, halo=320)
    tiles.levels = levels_of(extents, tiles.size)
    assert [(level.axis, level.by, level.padding) for level in tiles.levels] == [
        (0, 1, 5),
        (0, 8, 5),
        (1, 1, 6),
        (1, 8, 6),
    ]
    piece = pieces(tiles.size, (832, 768), 320)[2]
    assert piece.columns.first > 0
    rows, columns = (slice(p.start, p.stop) for p in (piece.rows, piece.columns))
    torch.testing.assert_close(tiles(piece)[0], whole[..., rows, columns], rtol=0, atol=1e-5)
    tiles.levels = ()
    assert (tiles(piece)[0] - whole[..., rows, columns]).abs().max() > 1 / 255


@pytest.mark.parametrize("size", [(720, 1280), (448, 1216), (410, 997)])
def test_an_image_of_any_shape_has_its_grids_in_tiles(size: tuple[int, int]) -> None:
    network, image = Attention(96), photo(3, *size)
    image[..., 500:] *= torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    whole = glocal.restore(network, image)
    tiled = glocal.restore(network, image, tile=576, halo=96)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)


@given(st.integers(40, 400), st.integers(5, 60), st.data())
def test_windows_of_a_tile_are_those_of_the_whole(
    size: int, window: int, data: st.DataObject
) -> None:
    window = min(window, size)
    origin = data.draw(st.integers(0, size - window))
    length = data.draw(st.integers(window, size - origin))
    axis = data.draw(st.sampled_from([0, 1]))
    with placed({(axis, length): Whole(size, origin)}):
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
    """Has memory for so many pixels on a device."""

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


def test_short_memory_halves_the_tiles_and_remembers_it() -> None:
    network, image = Hungry(cpu=52_000), photo(1, 3, 200, 512)
    tiles = tiler(network, image, halo=10)
    with pytest.warns(GlocalWarning) as warned:
        result = restored(tiles, 512)
    assert [str(w.message) for w in warned] == [
        "not enough memory on cpu for 200×512 pixels at once; going on in tiles of 200×320",
        "not enough memory on cpu for 200×320 pixels at once; going on in tiles of 200×192",
    ]
    torch.testing.assert_close(result, image)
    before = len(network.seen)
    restored(tiles, 512)
    assert all(h * w <= 52_000 for _, (h, w) in network.seen[before:])


@pytest.mark.parametrize("pixels", [10, 20_000])
def test_a_device_without_memory_is_left_for_the_cpu(pixels: int) -> None:
    # torch's "meta" device stands for a GPU: there is none here
    network, image = Hungry(meta=10, cpu=10**9), photo(1, 3, 100, 300)
    tiles = tiler(network, image, halo=0, device="meta")
    with pytest.warns(GlocalWarning) as warned:
        result = restored(tiles, 512)
    assert str(warned[-1].message).startswith("not enough memory on meta for ")
    assert str(warned[-1].message).endswith("pixels at once; going on on the CPU")
    assert tiles.runner.device.type == "cpu"
    assert {device for device, _ in network.seen} == {"meta", "cpu"}
    torch.testing.assert_close(result, image)


def test_smaller_tiles_that_are_not_sure_say_so() -> None:
    tiles = tiler(Hungry(cpu=52_000), photo(1, 3, 200, 512))
    tiles.exact = False
    with pytest.warns(GlocalWarning, match="may not be that of the whole image"):
        restored(tiles, 512)


def test_memory_short_everywhere_is_an_error() -> None:
    tiles = tiler(Hungry(meta=10, cpu=10), photo(1, 3, 100, 300), device="meta")
    with pytest.warns(GlocalWarning), pytest.raises(GlocalError, match="not enough memory on cpu"):
        restored(tiles, 512)


def test_other_errors_are_the_networks_own() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        restored(tiler(Fails(), photo(1, 3, 100, 100)), 512)


@torch.inference_mode()
def test_a_square_tile_of_a_wide_image_has_two_grids() -> None:
    network, image = Attention(96), photo(1, 3, 448, 896)
    image[..., 500:] *= torch.tensor([0.1, 1.0, 0.5])[:, None, None]
    tiles = tiler(network, image, halo=320)
    with looked_up() as extents:
        whole = network(image)
    tiles.levels = levels_of(extents, tiles.size)
    piece = pieces(tiles.size, (448, 768), 320)[1]
    square = dataclasses.replace(piece, columns=Part(start=768, stop=896, first=448, end=896))
    assert square.seen == (448, 448)
    rows, columns = (slice(p.start, p.stop) for p in (square.rows, square.columns))
    torch.testing.assert_close(tiles(square)[0], whole[..., rows, columns], rtol=0, atol=1e-5)


def test_the_shipped_photograph_in_small_tiles_is_that_of_the_whole(example: np.ndarray) -> None:
    local = glocal.localize(glocal.load("nafnet-motion-blur"), 64)
    image = np.ascontiguousarray(example[:448, :640]).astype(np.float32) / 255
    whole = glocal.restore(local, image)
    tiled = glocal.restore(local, image, tile=384)
    assert np.abs(tiled - whole).max() <= 1 / 255
    with pytest.warns(
        GlocalWarning, match="halo of 0 pixels is narrower than the measured one of 128"
    ):
        cut = glocal.restore(local, image, tile=384, halo=0)
    assert np.abs(cut - whole).max() > 1 / 255


@pytest.fixture
def example() -> np.ndarray:
    return images.read(Path(__file__).parents[2] / "examples" / "handshake.jpg").pixels


class Widened(nn.Module):
    """Takes 40 images' memory for one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.repeat_interleave(40, 1)[:, ::40]


@pytest.mark.usefixtures("memory_is_measured")
def test_a_small_part_tells_once_how_much_memory_pixels_take() -> None:
    network = Widened()
    tiles = tiler(network, photo(1, 3, 300, 500))
    enough = 300 * 500 * UNMEASURED
    assert affordable(tiles, None) == affordable(tiles, enough) == math.inf
    assert network.seen == []
    few, many = affordable(tiles, 1e7), affordable(tiles, 1e8)
    assert few
    assert many == pytest.approx(10 * few)
    assert 1e8 / 3000 < many < 1e8 / (3 * 4 * 40)
    assert network.seen == [(1, 3, PROBE, PROBE)]
    assert affordable(tiler(network, photo(2, 3, 300, 500)), 1e8) == pytest.approx(many / 2)
    assert len(network.seen) == 1


def test_where_memory_cannot_be_measured_published_networks_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_PROCESS", Path("/nowhere"))
    assert affordable(tiler(Widened(), photo(1, 3, 300, 500)), 1e8) == 1e8 / UNMEASURED
    assert affordable(tiler(Widened(), photo(2, 3, 300, 500)), 1e8) == 1e8 / UNMEASURED / 2


def test_a_part_that_does_not_fit_says_so() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    assert affordable(tiler(Full(), photo(1, 3, 300, 500)), 1e8) == 0


@pytest.mark.usefixtures("memory_is_measured")
def test_memory_that_is_kept_for_reuse_hides_nothing() -> None:
    script = """
import torch
from glocal.inference.allocator import keep_freed_memory
from test_tiling import Widened, affordable, photo, tiler
keep_freed_memory()
for _ in range(3):
    torch.ones(10**8).sum()
print(affordable(tiler(Widened(), photo(1, 3, 300, 500)), 1e8))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1e8 / 3000 < float(ran.stdout) < 1e8 / (3 * 4 * 40)
