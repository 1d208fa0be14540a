"""Estimates of time and memory. No test asserts a time: a clock of the tests counts the runs."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glocal.inference import estimate as module
from glocal.inference.estimate import Estimate, estimate
from glocal.inference.memory import MemoryNeed
from glocal.inference.steps import Steps

IMAGE = np.zeros((300, 400, 3), np.uint8)


class Counted(nn.Module):
    """Takes a fixed time for each pixel, on a clock of its own."""

    sizes: ClassVar[list[tuple[int, ...]]] = []  # of all copies, which share the class

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append((x.shape[-2], x.shape[-1]))
        return self.conv(x)

    @classmethod
    def clock(cls) -> float:
        return 1e-4 * sum(height * width for height, width in cls.sizes)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setattr(Counted, "sizes", [])
    monkeypatch.setattr(module.time, "perf_counter", Counted.clock)
    monkeypatch.setattr(module.Steps, "learning", lambda steps: memoryless())
    return Counted()


class memoryless:  # noqa: N801  # a context that learns nothing: its clock would stand still
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_time_is_in_proportion_to_the_pixels(network: Counted) -> None:
    found = estimate(network, IMAGE, side=64)
    assert found is not None
    assert found.seconds([(1000, 2000)]) == pytest.approx(1e-4 * 1000 * 2000)
    assert network.sizes == [(32, 32), (32, 32), (64, 64)]


def test_quick_images_are_not_measured_further(network: Counted) -> None:
    assert estimate(network, IMAGE, side=64, is_quick=lambda per_pixel_s: True) is None
    assert network.sizes == [(32, 32)]


def test_only_the_first_run_tells_what_is_quick(network: Counted) -> None:
    asked: list[float] = []
    estimate(network, IMAGE, side=64, is_quick=lambda s: bool(asked.append(s)))  # type: ignore[func-returns-value]
    assert asked == [pytest.approx(1e-4)]


@pytest.mark.parametrize("size", [(20, 30), (500, 400)])
def test_the_centre_of_an_image_is_measured(size: tuple[int, int]) -> None:
    options = {"strength": 0.5, "memory": 10**9, "tiles": 7}
    found = estimate(Counted(), np.zeros((*size, 3), np.uint8), **options)
    assert found is not None
    assert found.per_pixel_s > 0
    assert found.need is None or found.need.per_pixel > 0
    assert len(found.steps.shares) == 2  # the network and its convolution


def test_the_network_and_the_random_state_stay_as_they_are(network: Counted) -> None:
    network.train()
    before = torch.get_rng_state()
    estimate(network, IMAGE, side=64)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_runs_out_of_memory_has_none() -> None:
    class Large(Counted):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    assert estimate(Large(), IMAGE) is None


def test_a_network_that_does_not_run_has_none() -> None:
    assert estimate(nn.Linear(5, 5), IMAGE) is None


def made(need: MemoryNeed | None, budget: float | None, most_pixels: int | None) -> Estimate:
    return Estimate(1e-6, need, budget, 10**6, Steps(nn.Identity()), most_pixels)


def test_time_and_memory_grow_with_the_pixels() -> None:
    found = made(MemoryNeed(1e6, 100.0), None, None)
    assert found.seconds([(1000, 1000), (1000, 2000)]) == pytest.approx(3.0)
    assert found.nbytes([(1000, 1000), (1000, 2000)]) == 2e6 + 2e6 * (100 + 9)


def test_tiles_and_the_budget_bound_the_memory() -> None:
    need = MemoryNeed(0.0, 100.0)
    assert made(need, None, 10_000).nbytes([(1000, 1000)]) == 1e6 + 1e6 + 9e6
    assert made(need, 5e5, None).nbytes([(1000, 1000)]) == 1e6 + 5e5 + 9e6


def test_a_fallback_runs_too() -> None:
    network, original = Counted(), Counted()
    before = len(Counted.sizes)
    found = estimate(network, IMAGE, side=64, fallback=original)
    assert found is not None
    assert len(Counted.sizes) - before == 6  # three runs of each
