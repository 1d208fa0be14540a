"""Networks of unusual geometry on every way through glocal: whole, tiles, disk, exported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.runs.folder import restore_file


class Cells(nn.Module):
    """Takes multiples of `cell` only, enlarges by `scale`, may lose pixels at the border."""

    def __init__(self, cell: int = 1, scale: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = cell
        self.body = nn.Conv2d(3, 8, 3, padding=int(padded))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Conv2d(8, 3 * scale**2, 3, padding=int(padded))
        self.up = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        n = self.cell
        if n > 1:
            x = x.view(b, c, h // n, n, w // n, n).flip(3).reshape(b, c, h, w)
        y = self.body(x)
        return self.up(self.last(y * self.gate(y)))


NETWORKS = {
    "multiples of 7": (Cells(7), 28),
    "multiples of 12": (Cells(12), 24),
    "x2": (Cells(scale=2), 24),
    "x3": (Cells(scale=3), 24),
    "x8": (Cells(scale=8), 16),
    "no padding": (Cells(padded=False), 24),
    "no padding, x2": (Cells(scale=2, padded=False), 24),
}


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 17 + y / (9 + k)) for k in range(3)]
    return np.rint((np.stack(planes, -1) + 1) * 127).astype(np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_of_running_gives_the_same(name: str, tmp_path: Path) -> None:
    network, train_size = NETWORKS[name]
    local = glocal.localize(network, train_size, verify=False)
    pixels = smooth(100, 190)
    whole = glocal.restore(local, pixels, tiles=None).astype(int)
    said: list[str] = []
    tiled = glocal.restore(local, pixels, tiles=(100, 150), report=said.append)
    assert len(said) == 1
    assert abs(tiled - whole).max() <= 1
    images.write(tmp_path / "in.png", Image(pixels))
    options = {"stream": True, "tiles": Tiles((100, 150))}
    restore_file(local, tmp_path / "in.png", tmp_path / "out.png", **options)
    np.testing.assert_array_equal(images.read(tmp_path / "out.png").pixels, tiled)


@pytest.mark.parametrize("name", ["multiples of 7", "x3", "no padding, x2"])
def test_exported_files_take_the_sizes_of_the_network(name: str, tmp_path: Path) -> None:
    network, train_size = NETWORKS[name]
    local = glocal.localize(network, train_size, verify=False)
    exported = glocal.export(local, tmp_path / "net.pt2")
    assert exported.difference < 1e-5
    assert exported.multiple == (7 if name == "multiples of 7" else 1)


def test_grey_and_blended_images_are_streamed(tmp_path: Path) -> None:
    grey = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Conv2d(4, 1, 1))
    local = glocal.localize(grey, 64, verify=False)
    pixels = smooth(100, 190)
    images.write(tmp_path / "in.png", Image(pixels))
    with pytest.warns(glocal.GlocalWarning, match="are blended"):
        restore_file(local, tmp_path / "in.png", tmp_path / "out.png", stream=True, tiles=Tiles(64))
    with pytest.warns(glocal.GlocalWarning, match="are blended"):
        expected = glocal.restore(local, pixels, tiles=64)
    np.testing.assert_array_equal(images.read(tmp_path / "out.png").pixels, expected)
    assert not list(tmp_path.glob(".*"))
