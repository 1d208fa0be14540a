"""Estimates of time and memory. No test asserts a time: a clock of the tests counts the runs."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from glocal.inference import estimate
from glocal.inference.estimate import estimated


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
    monkeypatch.setattr(estimate.time, "perf_counter", Counted.clock)
    return Counted()


def test_time_is_in_proportion_to_the_pixels(network: Counted) -> None:
    found = estimated(network, 3, (1000, 2000), least_s=10)
    assert found is not None
    assert found.seconds == pytest.approx(1e-4 * 1000 * 2000)


def test_quick_images_have_none(network: Counted) -> None:
    assert estimated(network, 3, (300, 300), least_s=10) is None
    assert network.sizes == [(128, 128)]


def test_small_images_are_not_measured(network: Counted) -> None:
    assert estimated(network, 3, (128, 128), least_s=0) is None
    assert network.sizes == []


def test_memory_is_that_of_the_process(
    network: Counted, memory_is_measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "process_size", lambda: 5e12)
    found = estimated(network, 3, (1000, 2000), least_s=10)
    assert found is not None
    assert found.memory_bytes is None or found.memory_bytes > 5e12


def test_memory_is_limited_as_the_run_is(
    network: Counted, memory_is_measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "process_size", lambda: 0)
    monkeypatch.setattr(estimate, "memory_budget", lambda *given: 1000.0)
    found = estimated(network, 3, (10_000, 20_000), least_s=10)
    assert found is not None
    assert found.memory_bytes in (None, 1000.0)


def test_the_network_and_the_random_state_stay_as_they_are(network: Counted) -> None:
    network.train()
    before = torch.get_rng_state()
    estimated(network, 3, (1000, 2000), least_s=10)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_runs_out_of_memory_has_none() -> None:
    class Large(Counted):
        def forward(self, x: Tensor) -> Tensor:
            raise MemoryError

    assert estimated(Large(), 3, (1000, 2000), least_s=0) is None
