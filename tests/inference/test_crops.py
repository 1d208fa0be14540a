"""Statistics from crops wherever an image is restored: runner, tiles, batches, short memory."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import GlocalError
from glocal.inference.geometry import round_up
from glocal.inference.measure import measure
from glocal.inference.options import Tiles
from glocal.inference.plan import BOUND
from glocal.inference.restore import restore
from glocal.inference.run import TiledImage, with_statistics
from glocal.inference.runner import ModelRunner
from glocal.inference.tiling import local_window
from glocal.networks import HINet, NAFNet, Restormer
from glocal.ops.crops import CropGrid, Replay, gather, running
from glocal.runs.batches import restore_together
from glocal.scanning.modules import eval_mode

NETWORKS = {
    "NAFNet": lambda: NAFNet(3, 8, 1, [1, 1], [1, 1]),
    "HINet": lambda: HINet(3, 8, 3),
    "Restormer": lambda: Restormer(
        dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 2, 4]
    ),
}


class Even(nn.Module):
    """A network with a norm that takes even sizes only, as it halves the image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 4, 2, stride=2)
        self.norm = nn.InstanceNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.seen: list[tuple[int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.shape[-2], x.shape[-1]))
        return x + self.up(self.norm(self.down(x)))


def perturbed(name: str) -> nn.Module:
    """A network whose global operations have an effect: none of its weights is zero."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def on_crops(model: nn.Module, train_size: int, **options: Any) -> nn.Module:
    return glocal.localize(model, train_size, statistics="crops", verify=False, **options)


def photo(*size: int) -> Tensor:
    """Smooth, with noise, and darker on its right half."""
    generator = torch.Generator().manual_seed(0)
    h, w = size
    small = torch.rand(1, 3, h // 8 + 1, w // 8 + 1, generator=generator)
    x = nn.functional.interpolate(small, size, mode="bilinear")
    x = 0.8 * x + 0.1 * torch.rand(1, 3, h, w, generator=generator)
    x[..., w // 2 :] *= 0.5
    return x


def tiled(x: Tensor) -> TiledImage:
    return TiledImage(lambda y, z: x[..., y, z], (x.shape[-2], x.shape[-1]))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_halo_is_narrower_than_a_window(name: str) -> None:
    x, local = photo(261, 453), on_crops(perturbed(name), 64)
    runner = ModelRunner(local, torch.float32, torch.device("cpu"))
    with eval_mode(local, runner.device), torch.inference_mode():
        image = with_statistics(tiled(x), runner, math.inf)
        found = measure(runner, image, (64, 64), None, least=16, align=16)
    assert found.halo is not None
    assert found.halo <= 64 < round_up(96)  # of windows of 1.5 × the training size
    assert local_window(local) == (64, 64)
    result, whole = (restore(local, x, tiles=tiles) for tiles in (Tiles(256, halo=64), None))
    assert (result - whole).abs().max() <= BOUND


def test_tiles_are_the_whole() -> None:
    local, x = on_crops(Even(), 36), photo(203, 341)
    whole = restore(local, x, tiles=None)
    result = restore(local, x, tiles=Tiles((192, 256)))
    torch.testing.assert_close(result, whole, atol=1e-5, rtol=0)
    # blended tiles, too, have the statistics of the image
    blended = restore(local, x, tiles=Tiles((187, 325), overlap=171, blend="cut"))
    torch.testing.assert_close(blended, whole, atol=1e-5, rtol=0)


def test_an_image_smaller_than_a_tile_and_a_crop_is_that_of_the_original() -> None:
    model, x = perturbed("NAFNet"), photo(61, 50)
    local = on_crops(model, 64)
    for tiles in (None, Tiles("auto"), Tiles(192, halo=16)):
        torch.testing.assert_close(restore(local, x, tiles=tiles), restore(model, x))


@pytest.mark.parametrize("size", [(30, 150), (150, 41)])
def test_an_image_smaller_than_a_crop_along_one_axis(size: tuple[int, int]) -> None:
    local, x = on_crops(perturbed("NAFNet"), 64), photo(*size)
    with torch.inference_mode():
        torch.testing.assert_close(restore(local, x), local(x))


def test_crops_have_no_part_of_the_padding_of_the_whole_image() -> None:
    model = Even()
    local, x = on_crops(model, 36), photo(75, 101)
    runner = ModelRunner(local, torch.float32, torch.device("cpu"))
    model.seen = local.seen = seen = []
    with eval_mode(local, runner.device), torch.inference_mode():
        runner.restore(x)
        seen.clear()  # from now on the runner knows that it must pad the whole image
        result, _ = runner.restore(x)
        assert runner.accepted.multiple == (2, 2)
        assert {size for size in seen if size[0] < 75} == {(36, 36)}
        assert seen[-1] == (76, 102)

        grid = CropGrid.on((75, 101), (36, 36), 1.0)
        found = gather(grid, 4, lambda at: local(torch.cat([x[..., y, z] for y, z in at])))
        padded = nn.functional.pad(x, (0, 1, 0, 1), mode="reflect")
        with running(Replay(found)):
            expected = local(padded)[..., :75, :101]
    torch.testing.assert_close(result, expected)


def test_images_of_a_batch_are_restored_one_by_one() -> None:
    local = on_crops(perturbed("HINet"), 32)
    images = [np.random.default_rng(n).integers(0, 90 * n, (45, 83, 3), np.uint8) for n in (1, 2)]
    for image, restored in zip(images, restore_together(local, images), strict=True):
        assert np.abs(restored.astype(int) - restore(local, image)).max() <= 1


def short(monkeypatch: pytest.MonkeyPatch, pixels: int) -> list[int]:
    """As if the network could only read so many pixels at once; lists those of each call."""
    whole, calls = ModelRunner.__call__, []

    def limited(self: ModelRunner, x: Tensor) -> tuple[Tensor, int]:
        calls.append(x.shape[0] * x.shape[-2] * x.shape[-1])
        if calls[-1] > pixels:
            raise MemoryError
        return whole(self, x)

    monkeypatch.setattr(ModelRunner, "__call__", limited)
    return calls


def test_short_memory_takes_fewer_crops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    local, x = on_crops(Even(), 36), photo(203, 341)
    runner = ModelRunner(local, torch.float32, torch.device("cpu"))
    with eval_mode(local, runner.device), torch.inference_mode():
        all_at_once = with_statistics(tiled(x), runner, math.inf).statistics
        calls = short(monkeypatch, 5 * 36 * 36)
        few_at_once = with_statistics(tiled(x), runner, math.inf).statistics
    assert calls[0] > calls[-2] > 36 * 36
    for a, b in zip(all_at_once.records, few_at_once.records, strict=True):
        torch.testing.assert_close(a.values, b.values)


def test_given_tiles_bound_the_crops_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    local, x = on_crops(Even(), 36), photo(203, 341)
    calls = short(monkeypatch, 10**6)
    restore(local, x, tiles=Tiles((192, 256), halo=16))
    crops = 6 * 10 * 36 * 36
    assert calls[0] + calls[1] == crops > 192 * 256 > calls[0]


def test_no_memory_for_a_crop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    local, x = on_crops(Even(), 36), photo(203, 341)
    short(monkeypatch, 1000)
    with pytest.raises(GlocalError, match="not enough memory for a crop of 36x36 pixels"):
        restore(local, x, tiles=Tiles((192, 256), halo=16))
