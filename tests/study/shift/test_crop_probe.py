"""What `analyze` shows of statistics from crops."""

import numpy as np
import pytest
import torch
from probed import NETWORKS, TRAIN, Block, Instance, build, photo
from torch import Tensor, nn

from glocal.conversion.localize import localize
from glocal.ops.crops import CropGrid
from glocal.scanning.example import scan_network
from glocal.study.options import ConversionOptions
from glocal.study.shift.crop_probe import CropProbe
from glocal.study.shift.measure import analyze
from glocal.study.shift.probe import Probe
from glocal.study.shift.window_probe import sampled_pixels


class Spread(nn.Module):
    """Its output is the statistic that each pixel takes."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x + x.mean((2, 3), keepdim=True)


class Padded(nn.Module):
    """Zeros around a crop change the statistics of its norms, which no window shows."""

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 8, 5, padding=2)]
        self.body = nn.Sequential(
            convs[0], nn.InstanceNorm2d(8), nn.ReLU(), convs[1], nn.InstanceNorm2d(8),
            nn.Conv2d(8, 3, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_an_image_that_is_a_crop_shows_its_own_statistics(network: type[Block]) -> None:
    model, scan = build(network)
    converted = localize(model, TRAIN, statistics="crops", allow_global=True, verify=False)
    x = photo(*TRAIN)
    for a, b in zip(Probe(model, scan)(x), CropProbe(model, scan, converted)(x), strict=True):
        assert b == pytest.approx(a.repeat(len(b), 0), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("size", [(40, 52), (16, 70), (61, 23)])
@pytest.mark.parametrize("stride", [1.0, 2.0])
def test_a_statistic_is_the_one_that_pixels_take(size: tuple[int, int], stride: float) -> None:
    model, x = Spread(), photo(*size)
    converted = localize(model, TRAIN, statistics="crops", stride=stride, verify=False)
    (values,) = CropProbe(model, scan_network(model, TRAIN, None), converted)(x)
    rows, columns = map(sampled_pixels, size)
    taken = converted(x)[0][:, rows][:, :, columns].flatten(1).T
    np.testing.assert_allclose(values, taken.numpy(), rtol=1e-5, atol=1e-6)


def test_a_pixel_at_the_centre_of_a_crop_has_its_statistics() -> None:
    model, scan = build(Instance)
    converted = localize(model, TRAIN, statistics="crops", verify=False)
    x = photo(16, 128)  # crops start at 0, 16, …, 112; sampled columns are 8, 24, …, 120
    grid = CropGrid.on((16, 128), TRAIN, 1.0)
    (values,) = CropProbe(model, scan, converted)(x)
    crops = [Probe(model, scan)(x[..., y, columns])[0] for y, columns in grid.places()]
    # centres are at 7.5, 23.5, …: half a pixel before
    expected = np.concatenate(crops)
    expected[:-1] += (expected[1:] - expected[:-1]) / 32
    np.testing.assert_allclose(values[:8], expected, rtol=1e-4, atol=1e-5)


def test_what_takes_windows_is_measured_beside_crops() -> None:
    model = nn.Sequential(nn.InstanceNorm2d(3), nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3))
    sources = {"0": "crops", "2": "windows"}
    converted = localize(model, TRAIN, statistics=sources, verify=False)
    scan, x = scan_network(model, TRAIN, None), photo(48, 64)
    first, second = CropProbe(model, scan, converted)(x)
    alone = localize(model, TRAIN, statistics="crops", verify=False)
    np.testing.assert_allclose(first, CropProbe(model, scan, alone)(x)[0])
    assert second.shape == (64, 6)
    assert not np.allclose(second, CropProbe(model, scan, alone)(x)[1])


def test_the_shift_from_crops_is_near_zero_where_padding_misleads_windows() -> None:
    torch.manual_seed(0)
    model = Padded()
    images = [photo(96, 112)[0].permute(1, 2, 0).numpy() + 0.5 for _ in range(2)]
    found = analyze(
        model, images, TRAIN, crops_per_image=60, conversion=ConversionOptions(verify=False)
    )
    full, local, from_crops = found.mean_distances()
    assert from_crops < 2 * found.noise()
    assert local > 3 * from_crops
    assert full > 3 * from_crops
    assert "; with statistics from crops 0." in found.verdict()
