import numpy as np
import pytest
from torch import nn

from glocal.inference.memory import MemoryNeed
from glocal.inference.steps import Steps
from glocal.runs.estimate import Estimate, estimate


def test_time_and_memory_grow_with_the_pixels() -> None:
    found = Estimate(1e-6, MemoryNeed(1e6, 100.0), None, Steps(nn.Identity()), is_tiled=False)
    assert found.seconds([(1000, 1000), (1000, 2000)]) == pytest.approx(3.0)
    assert found.nbytes([(1000, 1000), (1000, 2000)]) == 1e6 + 2e6 * (100 + 9)


def test_tiles_and_the_budget_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glocal.runs.estimate.STREAMED_PIXELS", 10_000)
    need, steps = MemoryNeed(0.0, 100.0), Steps(nn.Identity())
    tiled = Estimate(1e-6, need, None, steps, is_tiled=True)
    assert tiled.nbytes([(1000, 1000)]) == 1e6 + 9e6
    bounded = Estimate(1e-6, need, 5e5, steps, is_tiled=False)
    assert bounded.nbytes([(1000, 1000)]) == 5e5 + 9e6


@pytest.mark.parametrize("size", [(20, 30), (500, 400)])
def test_the_centre_of_an_image_is_measured(size: tuple[int, int]) -> None:
    network = nn.Conv2d(3, 3, 3, padding=1)
    pixels = np.zeros((*size, 3), np.uint8)
    found = estimate(network, pixels, is_tiled=False, strength=0.5, memory=10**9, tiles=7)
    assert found.per_pixel_s > 0
    assert found.need.per_pixel > 0
    assert len(found.steps.shares) == 1
