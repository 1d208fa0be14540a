from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.measure import BYTES_PER_PIXEL
from glocal.inference.memory import BUDGET_SHARE
from glocal.inference.options import Tiles
from glocal.inference.restore import restore
from glocal.runs.batches import AUTO_IMAGES, AUTO_PIXELS_ON_CPU, Batches, restore_together


class Gate(nn.Module):
    """Each image by a gate from its own mean, with weights that leave no sample as it was."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * self.convolution(x) * self.pool(x)


def photos(shape: tuple[int, int, int], dtype: Any = np.uint8, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    peak = np.iinfo(dtype).max
    return [rng.integers(0, peak, shape, dtype=dtype, endpoint=True) for _ in range(count)]


def recorder(sizes: list[int], refuse: Exception | None = None) -> nn.Module:
    class Recorder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            if refuse is not None and len(x) > 1:
                raise refuse
            return x

    return Recorder()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("network", "channels"),
    [(Gate(), 3), (Gate(), 1), (Gate().double(), 3), (Gate(1), 1)],
    ids=["colour", "grey by a network of three channels", "double", "grey"],
)
def test_images_together_are_restored_as_alone(network: Gate, channels: int, dtype: type) -> None:
    local = glocal.localize(network, train_size=8)
    images = photos((17, 23, channels), dtype)
    together = restore_together(local, images)
    for image, restored in zip(images, together, strict=True):
        alone = restore(local, image)
        assert restored.dtype == alone.dtype
        assert restored.shape == alone.shape
        assert restored.flags.c_contiguous
        # float rounding may turn a tie of the last step
        assert np.abs(restored.astype(int) - alone.astype(int)).max() <= 1
        assert (restored != alone).mean() < 0.001
        assert (alone != image).any()


def test_the_embedded_network_gives_the_same_images_together() -> None:
    local = glocal.localize(glocal.load("nafnet-motion-blur"), train_size=64)
    images = photos((130, 120, 3), count=2)
    for image, restored in zip(images, restore_together(local, images), strict=True):
        alone = restore(local, image)
        assert np.abs(restored.astype(int) - alone.astype(int)).max() <= 1
        assert (restored != alone).mean() < 0.001


def test_values_beyond_the_range_are_made_samples_as_alone() -> None:
    class Wild(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x - 1

    images = photos((9, 8, 3))
    alone = [restore(Wild(), image) for image in images]
    np.testing.assert_array_equal(restore_together(Wild(), images), alone)


def test_options_go_to_every_call() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, 1 - x]

    images = photos((8, 9, 3))
    with pytest.raises(ArgumentError, match="choose one"):
        Batches(Two(), 3).restore(images)
    np.testing.assert_array_equal(
        Batches(Two(), 3, {"output": 1}).restore(images), [255 - image for image in images]
    )


def test_lots_are_of_one_shape_and_dtype() -> None:
    batches = Batches(nn.Identity(), 5)
    key, most = batches.group(np.zeros((8, 9, 3), np.uint8))
    assert most == 5
    others = [((9, 8, 3), np.uint8), ((8, 9, 1), np.uint8), ((8, 9, 3), np.uint16)]
    for shape, dtype in others:
        assert batches.group(np.zeros(shape, dtype))[0] != key
    assert batches.group(np.ones((8, 9, 3), np.uint8))[0] == key


@pytest.mark.parametrize("tiles", [8, Tiles(halo=8), Tiles(overlap=2), Tiles(blend="cut")], ids=str)
def test_images_in_tiles_go_alone(tiles: Any) -> None:
    assert Batches(nn.Identity(), 5, {"tiles": tiles}).group(np.zeros((8, 9, 3), np.uint8))[1] == 1


def test_automatic_batches_on_the_cpu_are_of_few_pixels() -> None:
    batches = Batches(nn.Identity())
    assert batches.group(np.zeros((8, 9, 3), np.uint8))[1] == AUTO_IMAGES
    assert batches.group(np.zeros((64, 64, 3), np.uint8))[1] == AUTO_PIXELS_ON_CPU // 64**2
    assert batches.group(np.zeros((400, 520, 3), np.uint8))[1] == 1


@pytest.mark.parametrize("tiles", ["auto", None, Tiles()], ids=str)
def test_options_that_ask_for_whole_images_leave_batches_alone(tiles: Any) -> None:
    assert Batches(nn.Identity(), 5, {"tiles": tiles}).group(np.zeros((8, 9, 3), np.uint8))[1] == 5


def test_automatic_batches_on_cuda_fill_a_share_of_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glocal.inference.memory.free_memory", lambda device, limit: 2**33)
    monkeypatch.setattr("glocal.runs.batches.device_of", lambda model, device: torch.device(device))
    batches = Batches(nn.Identity(), "auto", {"device": "cuda"})
    small, large = np.zeros((64, 64, 3), np.uint8), np.zeros((300, 400, 3), np.uint8)
    assert batches.group(small)[1] == AUTO_IMAGES
    most = batches.group(large)[1]
    assert 1 < most < AUTO_IMAGES
    pixels = 300 * 400
    assert most * pixels * BYTES_PER_PIXEL < 2**33
    assert batches.group(np.zeros((2000, 2000, 3), np.uint8))[1] == 1


def test_memory_bounds_batches_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glocal.inference.memory.free_memory", lambda device, limit: limit)
    image = np.zeros((100, 100, 3), np.uint8)
    memory = 4.5 * image[..., 0].size * BYTES_PER_PIXEL / BUDGET_SHARE
    limited = Batches(nn.Identity(), 8, {"memory": memory})
    assert limited.group(image)[1] == 4
    assert Batches(nn.Identity(), 8, {"memory": None}).group(image)[1] == 8  # nothing is known


@pytest.mark.parametrize("batch", [0, -1])
def test_no_images_are_refused(batch: int) -> None:
    with pytest.raises(ArgumentError, match=f"at least 1 image or 'auto', got {batch}"):
        Batches(nn.Identity(), batch)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["CUDA", "host"]
)
def test_later_batches_are_smaller_where_memory_was_short(error: Exception) -> None:
    sizes: list[int] = []
    batches = Batches(recorder(sizes, error), 8, {"channels": 3})
    images = photos((16, 20, 3), count=8)
    with (
        pytest.warns(GlocalWarning, match="not enough memory for a batch of 8 images of 16x20"),
        pytest.raises(type(error)),
    ):
        batches.restore(images)
    assert sizes == [8]
    assert batches.group(images[0])[1] == 4
    # what counts is memory, not images
    assert batches.group(np.zeros((8, 20, 3), np.uint8))[1] == 8
    assert batches.group(np.zeros((64, 64, 3), np.uint8))[1] == 1
    np.testing.assert_array_equal(batches.restore(images[:1])[0], images[0])


def test_a_network_that_takes_one_image_gets_one() -> None:
    sizes: list[int] = []
    batches = Batches(recorder(sizes, ValueError("one\nimage")), 8)
    images = photos((16, 16, 3), count=2)
    with (
        pytest.warns(GlocalWarning, match=r"failed on a batch of 2 images of 16x16 .*one image"),
        pytest.raises(GlocalError, match="ValueError: one image"),
    ):
        batches.restore(images)
    assert batches.group(images[0])[1] == 1


def test_wrong_arguments_are_told_once() -> None:
    with pytest.raises(ArgumentError, match="dtype=int8"):
        Batches(nn.Identity(), 8, {"dtype": "int8"}).restore(photos((16, 16, 3)))
