"""Images that are streamed while statistics come from their crops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalWarning
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.inference.run import TileRunner
from glocal.runs.folder import restore_file

TILES = Tiles(192, halo=16)


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.last(self.norm(self.first(x)))


def on_crops(stride: float = 1.0) -> nn.Module:
    return glocal.localize(Norm(), 32, statistics="crops", stride=stride, verify=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows, columns = np.meshgrid(np.linspace(0, 9, 200), np.linspace(0, 9, 331), indexing="ij")
    planes = np.stack([np.sin(rows), np.cos(columns), np.sin(rows * columns)], -1)
    images.write(tmp_path / "in.png", Image(np.rint((planes + 1) * 127).astype(np.uint8)))
    return tmp_path / "in.png"


def test_statistics_of_a_streamed_file_are_those_of_the_whole(file: Path) -> None:
    local, target = on_crops(), file.with_name("out.png")
    restore_file(local, file, target, stream=True, tiles=TILES)
    whole = restore(local, images.read(file).pixels, tiles=None)
    assert np.abs(images.read(target).pixels.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("stride", [1.0, 2.0])
def test_only_the_same_statistics_go_on(
    file: Path, monkeypatch: pytest.MonkeyPatch, stride: float
) -> None:
    target, said = file.with_name("out.png"), []
    whole, calls = TileRunner.__call__, []

    def stop(self: TileRunner, tile: object) -> object:
        calls.append(tile)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(self, tile)

    monkeypatch.setattr(TileRunner, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        restore_file(on_crops(), file, target, stream=True, tiles=TILES)
    again = on_crops(stride)
    if stride == 1.0:
        restore_file(again, file, target, stream=True, tiles=TILES, report=said.append)
        assert said[0].endswith("3 of them done before")
    else:
        with pytest.warns(GlocalWarning, match="starting afresh"):
            restore_file(again, file, target, stream=True, tiles=TILES)
    expected = restore(again, images.read(file).pixels, tiles=TILES)
    assert np.abs(images.read(target).pixels.astype(int) - expected).max() <= 1
