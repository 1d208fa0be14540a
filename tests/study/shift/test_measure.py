"""The statistics shift of a network.

More than 300 lines: tests mirror the modules, one file for each.
"""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from torch import Tensor, nn

import glocal
from glocal.conversion.localize import plan_of
from glocal.errors import ArgumentError, GlocalError
from glocal.study.options import ConversionOptions, RunOptions
from glocal.study.shift.distances import distance, mean_shift, varying, wasserstein
from glocal.study.shift.measure import Shift, StatisticsShift, analyze, window_shifts

pytestmark = pytest.mark.usefixtures("unproven")

Values = np.ndarray
# where no conversion, or no proof of it, is tested
GLOBAL, UNPROVEN = ConversionOptions("*", verify=False), ConversionOptions(verify=False)


def samples(rows: st.SearchStrategy[int]) -> st.SearchStrategy[Values]:
    return rows.flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-100, 100)))


@given(samples(st.integers(1, 30)), samples(st.integers(1, 30)))
def test_the_distance_is_that_of_scipy(a: Values, b: Values) -> None:
    expected = [stats.wasserstein_distance(x, y) for x, y in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(wasserstein(a, b), expected, rtol=1e-9, atol=1e-9)


def test_distances_are_in_deviations_of_the_crops() -> None:
    random = np.random.default_rng(0)
    crops, values = random.normal(2, 3, (50, 4)), random.normal(5, 1, (20, 4))
    expected = [
        stats.wasserstein_distance(c, v) / c.std() for c, v in zip(crops.T, values.T, strict=True)
    ]
    assert distance(crops, values) == pytest.approx(np.mean(expected))
    shifts = np.abs(values.mean(0) - crops.mean(0)) / crops.std(0)
    assert mean_shift(crops, values) == pytest.approx(shifts.mean())
    assert distance(1e5 * crops, 1e5 * values) == pytest.approx(np.mean(expected))
    assert distance(crops, crops) == 0


def test_noise_is_the_distance_of_two_halves_of_the_crops() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3))
    shift = Shift("", "mean", "", "mean", values, *[values] * 3)
    assert shift.noise() == pytest.approx(distance(values[::2], values[1::2]))
    shifts = StatisticsShift((64, 64), (96, 96), 2, (shift, shift))
    assert shifts.noise() == pytest.approx(shift.noise())
    assert shifts.verdict().endswith(f"(two halves of the training crops: {shift.noise():.2f})")


def test_channels_that_do_not_vary_are_left_out() -> None:
    random = np.random.default_rng(0)
    crops, full = random.normal(1, 1, (50, 4)), random.normal(3, 1, (5, 4))
    constant = np.full((50, 1), 7.0)
    rounding = 7 + 1e-7 * random.normal(size=(50, 1))
    silence = 1e-9 * random.normal(size=(50, 1))
    wide = np.hstack([crops, constant, rounding, silence])
    shift = Shift("", "mean", "", "mean", wide, np.pad(full, ((0, 0), (0, 3))), wide, wide)
    assert shift.constant_channels == 3
    assert shift.distance(shift.full) == pytest.approx(distance(crops, full))
    assert shift.mean_shift(shift.full) == pytest.approx(mean_shift(crops, full))
    assert shift.standardised(shift.crops).shape == (50, 4)
    still = Shift("", "mean", "", "mean", *[constant] * 4)
    assert math.isnan(still.distance(still.full))
    assert not varying(constant).any()


# --- networks --------------------------------------------------------------------------------


class Net(nn.Module):
    """A gate by a pool, an instance norm and a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.pool, self.norm = nn.AdaptiveAvgPool2d(1), nn.InstanceNorm2d(6)
        self.groups = nn.GroupNorm(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y * self.pool(y).sigmoid()
        y = y + self.norm(y)
        return x + self.last(y + self.groups(y))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def photo(height: int, width: int, seed: int = 0) -> Values:
    """Noise, dark on the left and bright on the right."""
    image = 0.3 * np.random.default_rng(seed).random((height, width, 3), np.float32)
    image[:, width // 2 :] += 0.6
    return image


def test_every_operation_is_measured_on_crops_full_images_and_under_tlc(net: Net) -> None:
    shifts = analyze(net, [photo(48, 64), photo(40, 72, 1)], 16, crops_per_image=5)
    assert (shifts.train_size, shifts.window, shifts.image_count) == ((16, 16), (24, 24), 2)
    assert [s.path for s in shifts.shifts] == ["pool", "norm", "groups"]
    operations = ["adaptive_avg_pool2d", "instance_norm", "group_norm"]
    assert [s.operation for s in shifts.shifts] == operations
    assert [s.statistic for s in shifts.shifts] == ["mean", *["mean, inverse deviation"] * 2]
    assert all(s.line.startswith("test_measure.py:") for s in shifts.shifts)
    for shift, channels in zip(shifts.shifts, (6, 12, 6), strict=True):
        assert shift.crops.shape == (10, channels)
        assert shift.full.shape == (2, channels)
        assert shift.local.shape == shift.from_crops.shape == (128, channels)
        samples = shift.crops, shift.full, shift.local, shift.from_crops
        assert {values.dtype for values in samples} == {np.dtype(np.float64)}


def test_an_image_that_is_a_crop_has_the_statistics_of_the_crop(net: Net) -> None:
    images = [photo(16, 16, seed) for seed in range(4)]
    shifts = analyze(net, images, 16, crops_per_image=1)
    for shift in shifts.shifts:
        np.testing.assert_array_equal(shift.full, shift.crops)
        np.testing.assert_array_equal(shift.from_crops, shift.crops.repeat(64, 0))
        assert shift.distance(shift.full) == shift.distance(shift.from_crops) == 0


def test_a_window_that_covers_the_image_shifts_nothing(net: Net) -> None:
    images = [photo(24, 20, seed) for seed in range(2)]
    shifts = analyze(net, images, 16, window=24, crops_per_image=4)
    for shift in shifts.shifts:
        np.testing.assert_allclose(shift.local, shift.full.repeat(64, 0), rtol=1e-4, atol=1e-5)
        full, local = shift.distance(shift.full), shift.distance(shift.local)
        assert local == pytest.approx(full, rel=1e-3, abs=1e-4)


def test_two_halves_are_a_known_shift(net: Net) -> None:
    """Crops are mostly dark or bright; the whole is grey, and windows are as crops are."""
    shifts = analyze(net, [photo(64, 128, seed) for seed in range(3)], 16)
    pool = shifts.shifts[0]
    assert pool.distance(pool.local) < 0.5 * pool.distance(pool.full)
    assert shifts.verdict().startswith("TLC brings the statistics of ")
    full, local, from_crops = shifts.mean_distances()
    assert full == pytest.approx(np.mean([s.distance(s.full) for s in shifts.shifts]))
    assert local < full
    assert from_crops < full


def test_the_ranking_begins_with_the_largest_shift(net: Net) -> None:
    shifts = analyze(net, [photo(48, 64)], 16, crops_per_image=8)
    far = [s.distance(s.full) for s in shifts.ranking()]
    assert far == sorted(far, reverse=True)
    assert set(shifts.ranking()) == set(shifts.shifts)


def test_crops_may_come_from_the_training_set(net: Net) -> None:
    images, training = [photo(40, 48)], [photo(32, 32, 1), photo(16, 80, 2), photo(9, 30, 3)]
    seen = []
    shifts = analyze(
        net,
        images,
        16,
        crops=training,
        crops_per_image=2,
        conversion=GLOBAL,
        progress=lambda *at: seen.append(at),
    )
    assert shifts.shifts[0].crops.shape[0] == 6
    assert shifts.shifts[0].full.shape[0] == 1
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    own = analyze(net, images, 16, crops=images, crops_per_image=2, conversion=GLOBAL)
    again = analyze(net, images, 16, crops_per_image=2, conversion=GLOBAL)
    np.testing.assert_array_equal(own.shifts[0].crops, again.shifts[0].crops)


def test_the_seed_places_the_crops(net: Net) -> None:
    a, b, c = (
        analyze(net, [photo(40, 48)], 16, crops_per_image=3, seed=seed, conversion=GLOBAL)
        .shifts[0]
        .crops
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


def test_all_kinds_of_images_are_one(net: Net) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    unit = (pixels / np.float32(255)).astype(np.float32)
    kinds = [
        pixels,
        pixels.astype(np.uint16) * 257,
        unit.astype(np.float64),
        torch.from_numpy(unit).permute(2, 0, 1),
        torch.from_numpy(unit).permute(2, 0, 1)[None],
    ]
    options = {"crops_per_image": 1, "conversion": GLOBAL}
    wanted = analyze(net, [unit], 16, **options).shifts[0].full
    for image in kinds:
        got = analyze(net, [image], 16, **options).shifts[0].full
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_operations_left_global_are_marked(net: Net) -> None:
    shifts = analyze(
        net, [photo(48, 64)], 16, conversion=ConversionOptions("pool"), crops_per_image=4
    )
    pool, norm, _ = shifts.shifts
    assert (pool.status, norm.status) == ("kept", "local")
    np.testing.assert_allclose(pool.local, pool.full)
    assert " of 2 operations " in shifts.verdict()
    assert any(row[0] == "pool" and row[-1] == "mean (global)" for row in shifts.rows())


def test_windows_are_measured_side_by_side(net: Net) -> None:
    images = [photo(48, 64), photo(40, 72, 1)]
    windows = [(16, 16), (200, 200)]
    found = window_shifts(net, images, 16, windows=windows, crops_per_image=5, seed=3)
    assert list(found.local) == windows
    for window, far in found.local.items():
        alone = analyze(
            net, images, 16, window=window, crops_per_image=5, seed=3, conversion=UNPROVEN
        )
        assert (found.full, far) == pytest.approx(alone.mean_distances()[:2])
    assert found.local[200, 200] == pytest.approx(found.full, rel=1e-3)


def test_no_windows_are_the_full_image(net: Net) -> None:
    found = window_shifts(net, [photo(48, 64)], 16, windows=[], crops_per_image=4)
    assert found.local == {}
    assert found.full > 0


@pytest.mark.long
@pytest.mark.slow
def test_the_embedded_network() -> None:
    model = glocal.load("nafnet-motion-blur")
    images = [photo(96, 80, seed) for seed in range(2)]
    shifts = analyze(model, images, 64, crops_per_image=3)
    assert len(shifts.shifts) == len(plan_of(glocal.localize(model, 64)).rows) == 8
    assert all(0 < s.distance(s.local) < 20 for s in shifts.shifts)
    same = analyze(model, images, 64, window=96, crops_per_image=3)
    assert same.verdict().startswith(
        "TLC changes no statistic because the window covers the images"
    )


def test_a_network_without_global_operations() -> None:
    plain = nn.Conv2d(3, 3, 1)
    shifts = analyze(plain, [photo(24, 24)], 16)
    assert str(shifts).endswith("the network has no global operations; there is nothing to analyze")
    assert shifts.verdict().endswith("TLC changes nothing")
    assert json.loads(shifts.to_json())["mean_distance"] == dict.fromkeys(
        ("full", "local", "from_crops", "noise")
    )
    assert math.isnan(window_shifts(plain, [photo(24, 24)], 16, windows=[]).full)


def test_one_crop_says_nothing_of_tlc(net: Net) -> None:
    verdict = analyze(net, [photo(40, 72)], 16, crops_per_image=1).verdict()
    assert verdict.startswith("a single training crop has no deviation")


def test_wrong_arguments_are_refused(net: Net) -> None:
    with pytest.raises(ArgumentError, match="no images"):
        analyze(net, [], 16)
    with pytest.raises(ArgumentError, match="no images"):
        analyze(net, [photo(24, 24)], 16, crops=[])
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        analyze(net, [photo(24, 24)], 16, crops_per_image=0)
    with pytest.raises(ArgumentError, match="got 2 images in one tensor"):
        analyze(net, [torch.zeros(2, 3, 24, 24)], 16)
    with pytest.raises(ArgumentError, match="window"):
        window_shifts(net, [photo(24, 24)], 16, windows=[(0, 3)])


def test_short_memory_is_reported(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Net, x: Tensor) -> Tensor:
        if x.shape[-1] == 72:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, x)

    forward = Net.forward
    monkeypatch.setattr(Net, "forward", fail)
    with pytest.raises(GlocalError, match="memory on cpu for a whole image of 40x72 pixels"):
        analyze(net, [photo(40, 72)], 16, crops_per_image=1)


# --- the report ----------------------------------------------------------------------------


def report(*distances: tuple[float, float]) -> StatisticsShift:
    """Operations with these distances on full images and under TLC."""
    crops = np.array([[0.0], [2.0]])  # of deviation 1
    shifts = [
        Shift(
            f"blocks.{i}",
            "mean",
            "net.py:3",
            "mean",
            crops,
            crops + full,
            crops + local,
            crops + full / 10,
        )
        for i, (full, local) in enumerate(distances)
    ]
    return StatisticsShift((64, 64), (96, 96), 2, tuple(shifts))


@pytest.mark.parametrize(
    ("distances", "verdict"),
    [
        (
            [(1, 0.25), (3, 0.25)],
            "TLC brings the statistics of 2 of 2 operations closer to training: "
            "mean distance 2.00 → 0.25; with statistics from crops 0.20",
        ),
        (
            [(1, 0.5), (1, 1.25)],
            "TLC brings the statistics of 1 of 2 operations closer to training: "
            "mean distance 1.00 → 0.88; with statistics from crops 0.10",
        ),
        (
            [(1, 0.5), (1, 2.5)],
            "TLC does not help here; it brings the statistics of 1 of 2 operations closer to "
            "training and of 1 farther away: mean distance 1.00 → 1.50; with statistics from crops "
            "0.10",
        ),
        (
            [(1, 1)],
            "TLC changes no statistic because the window covers the images "
            "(mean distance 1.00 → 1.00); with statistics from crops 0.10",
        ),
    ],
)
def test_the_verdict_is_true(distances: list[tuple[float, float]], verdict: str) -> None:
    assert report(*distances).verdict() == verdict


def test_the_table() -> None:
    assert str(report((1, 0.5), (2, 0.25))).splitlines() == [
        "training size 64x64, window 96x96 (input pixels), 2 images",
        "module    operation  full image  TLC   crops  mean shift  TLC   crops  statistic",
        "--------  ---------  ----------  ----  -----  ----------  ----  -----  ---------",
        "blocks.1  mean       2.00        0.25  0.20   2.00        0.25  0.20   mean",
        "blocks.0  mean       1.00        0.50  0.10   1.00        0.50  0.10   mean",
        "TLC brings the statistics of 2 of 2 operations closer to training: "
        "mean distance 1.50 → 0.38; with statistics from crops 0.15",
    ]


def test_json_contains_the_distances() -> None:
    data = json.loads(report((1, 0.5), (2, 0.25)).to_json())
    assert data["train_size"] == [64, 64]
    mean = data["mean_distance"]
    assert mean.pop("noise") is None  # two crops have no halves
    assert mean == pytest.approx({"full": 1.5, "local": 0.375, "from_crops": 0.15})
    assert data["operations"][0] == {
        "path": "blocks.1",
        "operation": "mean",
        "line": "net.py:3",
        "statistic": "mean",
        "status": "local",
        "channels": 1,
        "constant_channels": 0,
        "samples": {"crops": 2, "full": 2, "local": 2, "from_crops": 2},
        "distance": pytest.approx({"full": 2.0, "local": 0.25, "from_crops": 0.2}),
        "mean_shift": pytest.approx({"full": 2.0, "local": 0.25, "from_crops": 0.2}),
    }


def test_statistics_can_be_measured_in_another_type(net: Net) -> None:
    image = photo(40, 48)
    wanted = analyze(net, [image], 16, crops_per_image=2)
    got = analyze(net, [image], 16, crops_per_image=2, run=RunOptions(dtype="bfloat16"))
    for ours, theirs in zip(got.shifts, wanted.shifts, strict=True):
        np.testing.assert_allclose(ours.full, theirs.full, rtol=0.05, atol=0.02)
        assert not np.array_equal(ours.full, theirs.full)
