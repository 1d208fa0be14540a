"""Decisions that are kept from one image to the next, and statistics smoothed over frames."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError
from glocal.inference import restore as restoring
from glocal.inference.prepared import Blended, Prepared, Whole
from glocal.inference.smoothing import Smoother, Smoothing
from glocal.ops.crops import CropGrid, CropStatistics, Record

pytestmark = pytest.mark.filterwarnings("ignore::glocal.GlocalWarning")  # small tiles blend


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.norm(self.mix(x))


def image(seed: int, size: tuple[int, int] = (60, 90)) -> np.ndarray:
    return np.random.default_rng(seed).random((*size, 3), np.float32)


WAYS = {
    "full": lambda: Gate().eval(),
    "windows": lambda: glocal.localize(Gate().eval(), 16),
    "crops": lambda: glocal.localize(Gate().eval(), 16, statistics="crops"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tiles", ["auto", 48, 200])
def test_prepared_results_are_those_of_single_images(way: str, tiles: object) -> None:
    model, prepared = WAYS[way](), Prepared()
    for seed in range(3):
        alone = glocal.restore(model, image(seed), tiles=tiles)
        together = glocal.restore(model, image(seed), tiles=tiles, prepared=prepared)
        np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("tiles", ["auto", 48])
@pytest.mark.parametrize("way", WAYS)
def test_layouts_survive_as_json(way: str, tiles: object) -> None:
    model, first = WAYS[way](), Prepared()
    expected = glocal.restore(model, image(1), tiles=tiles, prepared=first)
    layouts = json.loads(json.dumps(first.to_dict()))
    assert len(layouts) == 1
    later = Prepared(layouts)
    np.testing.assert_array_equal(
        glocal.restore(model, image(1), tiles=tiles, prepared=later), expected
    )
    assert later.to_dict() == first.to_dict()


def test_nothing_is_measured_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, plan = [], restoring.measured_plan
    monkeypatch.setattr(
        restoring, "measured_plan", lambda *given: measured.append(1) or plan(*given)
    )
    model, prepared = WAYS["windows"](), Prepared()
    for seed in range(3):
        glocal.restore(model, image(seed), tiles=48, prepared=prepared)
    assert len(measured) == 1


def test_sizes_and_networks_are_kept_apart() -> None:
    prepared = Prepared()
    for model in (WAYS["full"](), WAYS["windows"]()):
        for size in ((60, 90), (40, 50)):
            glocal.restore(model, image(0, size), prepared=prepared)
    assert len(prepared.to_dict()) == 4
    sizes = (40, 50)
    kinds = [type(prepared.layout(key, sizes)) for key in prepared.to_dict()]
    assert kinds == [Blended, Blended, Whole, Whole]


def statistics(value: float) -> CropStatistics:
    values = torch.full((1, 2, 1, 3, 1, 1), value)
    return CropStatistics(CropGrid((0,), (0, 8), (16, 16)), (Record((16, 16), (values, values)),))


def smoothed(smoother: Smoother, value: float, decay: float, *, is_cut: bool = False) -> float:
    smoother.begin(decay, is_cut=is_cut)
    return smoother(statistics(value)).records[0].values[1].mean().item()


def test_the_average_is_exponential_after_a_plain_mean() -> None:
    """Against the definition: the share of a frame is 1/n at first, then 1 - decay."""
    smoother, decay, expected = Smoother(), Smoothing.of("3").decay(0.0), 0.0
    assert decay == pytest.approx(math.exp(-1 / 3))
    for number, value in enumerate([1.0, 4.0, 2.0, 8.0, 5.0, 7.0]):
        share = max(1 - decay, 1 / (number + 1))
        expected += share * (value - expected)
        assert smoothed(smoother, value, decay) == pytest.approx(expected)


def test_a_cut_begins_anew() -> None:
    smoother = Smoother()
    smoothed(smoother, 1.0, 0.9)
    assert smoothed(smoother, 5.0, 0.9, is_cut=True) == 5.0
    assert smoothed(smoother, 7.0, 0.9) == 6.0


def test_a_frame_that_is_computed_again_counts_once() -> None:
    once, twice = Smoother(), Smoother()
    for value in (1.0, 2.0, 6.0):
        first = smoothed(once, value, 0.5)
        smoothed(twice, value, 0.5)
        assert twice(statistics(value)).records[0].values[0].mean().item() == first


def test_a_state_goes_on() -> None:
    whole, part = Smoother(), Smoother()
    for value in (1.0, 2.0, 6.0):
        smoothed(whole, value, 0.8)
        smoothed(part, value, 0.8)
    later = Smoother()
    later.restore_state(part.state(), torch.device("cpu"))
    for value in (3.0, 9.0):
        assert smoothed(later, value, 0.8) == smoothed(whole, value, 0.8)


@pytest.mark.parametrize("size", [(60, 90), (16, 16), (12, 14)])
def test_equal_frames_are_as_without_smoothing(size: tuple[int, int]) -> None:
    model, smoother = WAYS["crops"](), Smoother()
    prepared = Prepared(smooth=smoother)
    alone = glocal.restore(model, image(0, size))
    for _ in range(3):
        smoother.begin(0.9, is_cut=False)
        found = glocal.restore(model, image(0, size), prepared=prepared)
        np.testing.assert_allclose(found, alone, atol=1e-5)


@pytest.mark.parametrize("tiles", ["auto", 48, 200])
def test_smoothing_reaches_tiles(tiles: object) -> None:
    model, smoother = WAYS["crops"](), Smoother()
    prepared = Prepared(smooth=smoother)
    for seed in range(2):
        smoother.begin(0.9, is_cut=False)
        found = glocal.restore(model, image(seed) / (1 + seed), tiles=tiles, prepared=prepared)
    alone = glocal.restore(model, image(1) / 2, tiles=tiles)
    assert np.abs(found - alone).max() > 1e-3


@pytest.mark.parametrize("text", ["", "s", "0", "-1", "x", "infs", "nan"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="no time to smooth over"):
        Smoothing.of(text)
