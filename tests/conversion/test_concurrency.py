"""One converted network, used by several threads and by forked processes at once."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import glocal

THREADS = 8
SIZES = [(40 + 4 * n, 52 + 6 * n) for n in range(THREADS)]


class Gated(nn.Module):
    """A pooled gate of torch's modules, a norm, and a statistic that the rewriter converts."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.enter(x))
        y = y * self.gate(y)
        return x + self.leave(y - y.amax((2, 3), keepdim=True))


@pytest.fixture(scope="module", params=["windows", "crops"])
def local(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return glocal.localize(Gated().eval(), 32, statistics=request.param)


def in_threads(call: Callable[[int], object]) -> list[object]:
    """The results of calls with the numbers of the threads, which begin together."""
    start = threading.Barrier(THREADS)

    def begin(number: int) -> object:
        start.wait()
        return call(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


@torch.no_grad()
def test_threads_get_the_results_of_their_own_images(local: nn.Module) -> None:
    inputs = [torch.rand(1, 3, *size) for size in SIZES]
    wanted = [local(x) for x in inputs]

    def call(number: int) -> list[Tensor]:
        with torch.no_grad():  # a setting of each thread
            return [local(inputs[number]) for _ in range(3)]

    for got, result in zip(in_threads(call), wanted, strict=True):
        for each in got:
            torch.testing.assert_close(each, result)


def test_threads_restore_images_of_any_size(local: nn.Module) -> None:
    images = [
        np.random.default_rng(n).random((*size, 3), np.float32) for n, size in enumerate(SIZES)
    ]
    wanted = [glocal.restore(local, image) for image in images]
    got = in_threads(lambda number: glocal.restore(local, images[number]))
    for each, result in zip(got, wanted, strict=True):
        np.testing.assert_allclose(each, result, atol=1e-6)


class Restored(Dataset[tuple[int, Tensor]]):
    def __init__(self, local: nn.Module, inputs: list[Tensor]) -> None:
        self.local, self.inputs = local, inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        with torch.no_grad():
            return number, self.local(self.inputs[number])


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@torch.no_grad()
def test_forked_workers_of_a_data_loader(local: nn.Module) -> None:
    inputs = [torch.rand(1, 3, *size) for size in SIZES]
    wanted = [local(x) for x in inputs]
    workers = DataLoader(
        Restored(local, inputs), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    found = dict(iter(workers))
    assert len(found) == len(inputs)
    for number, result in enumerate(wanted):
        torch.testing.assert_close(found[number], result)
