"""Areas where a local result has structure of its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glocal.inference.areas import CELL, Areas, parting_areas


def photo(height: int = 192, width: int = 208, channels: int = 3, seed: int = 0) -> Tensor:
    """Texture of varying strength."""
    noise = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed))
    strength = torch.linspace(0.01, 0.15, width)
    return (0.5 + strength * noise).clamp(0, 1)


def mosaic(height: int, width: int, channels: int = 3, block: int = 4) -> Tensor:
    """Blocks of random colours."""
    generator = torch.Generator().manual_seed(1)
    blocks = torch.rand(1, channels, height // block, width // block, generator=generator) - 0.5
    return 0.6 * blocks.repeat_interleave(block, -1).repeat_interleave(block, -2)


@pytest.mark.parametrize(
    "parted",
    [
        lambda x: x,
        lambda x: x + 0.2,
        lambda x: 0.3 * x,
        lambda x: x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2)),
        lambda x: x + mosaic(192, 208),
    ],
    ids=["alike", "brighter", "fainter", "noise", "mosaic"],
)
def test_results_that_part_evenly_have_no_areas(parted) -> None:
    full = photo()
    areas = parting_areas(parted(full), full, full)
    assert areas.weight.max() == 0
    assert areas.difference == 0


def test_a_stronger_restoration_of_a_part_is_no_area() -> None:
    image = photo()
    full = image + 0.3 * (image - 0.5)
    stronger = 2 * torch.linspace(-1, 1, 208).clamp(min=0)  # as it is with windows: gradually
    local = full + stronger * (image - 0.5)
    assert (local - full)[..., 150:].abs().max() > 0.5
    assert parting_areas(local, full, image).weight.max() == 0


@settings(max_examples=15)
@given(
    top=st.integers(0, 100), left=st.integers(0, 100), block=st.sampled_from([1, 2, 4, 8, 16, 32])
)
def test_a_mosaic_is_an_area(top: int, left: int, block: int) -> None:
    full = photo()
    local = full.clone()
    local[..., top : top + 64, left : left + 64] += mosaic(64, 64, block=block)
    areas = parting_areas(local, full, full)
    assert (areas.weight[..., top : top + 64, left : left + 64] > 0.99).all()
    assert areas.difference > 0.05
    far = torch.ones(areas.weight.shape, dtype=torch.bool)
    reach = 5 * CELL
    far[..., max(0, top - reach) : top + 64 + reach, max(0, left - reach) : left + 64 + reach] = 0
    assert (areas.weight[far] == 0).all()


def test_a_patch_of_another_colour_is_an_area_to_its_middle() -> None:
    full = photo(256, 256)
    local = full.clone()
    local[:, 0, 48:208, 48:208] += 0.3
    assert (parting_areas(local, full, full).weight[..., 48:208, 48:208] > 0.99).all()


@settings(max_examples=20)
@given(height=st.integers(1, 80), width=st.integers(1, 80), channels=st.sampled_from([1, 3, 9]))
def test_weights_have_no_step(height: int, width: int, channels: int) -> None:
    full = photo(height, width, channels)
    local = full.clone()
    local[..., : height // 3, : width // 3] += 0.5 * torch.rand(height // 3, width // 3)
    weight = parting_areas(local, full, full).weight
    assert weight.shape == (1, 1, height, width)
    assert weight.min() >= 0
    assert weight.max() <= 1
    for dim in (-1, -2):
        steps = weight.diff(dim=dim).abs()
        assert steps.numel() == 0 or steps.max() < 1 / CELL


def test_a_batch_is_its_images() -> None:
    full = torch.cat([photo(seed=seed) for seed in range(3)])
    local = full.clone()
    local[1, :, 48:112, 64:128] += mosaic(64, 64)[0]
    local[2] += 0.1
    together = parting_areas(local, full, full)
    one_by_one = [
        parting_areas(*(each[i : i + 1] for each in (local, full, full))) for i in (0, 1, 2)
    ]
    assert [each.weight.max() > 0 for each in one_by_one] == [False, True, False]
    torch.testing.assert_close(together.weight, torch.cat([each.weight for each in one_by_one]))
    assert together.difference == pytest.approx(max(each.difference for each in one_by_one))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_may_have_another_size_and_other_channels(channels: int) -> None:
    full = torch.nn.functional.interpolate(photo(96, 104), scale_factor=2.0, mode="bilinear")
    local = full.clone()
    local[..., 64:128, 64:128] += mosaic(64, 64)
    weight = parting_areas(local, full, photo(96, 104, channels)).weight
    assert weight.shape == (1, 1, 192, 208)
    assert (weight[..., 64:128, 64:128] > 0.99).all()
    assert weight[..., 0].max() == 0


def test_an_invisible_mosaic_is_no_area() -> None:
    full = torch.full((1, 3, 192, 208), 0.5)
    local = full.clone()
    local[..., 64:128, 64:128] += 0.01 * mosaic(64, 64)
    assert parting_areas(local, full, full).weight.max() == 0


def test_outside_the_areas_the_local_result_stays_bit_for_bit() -> None:
    local, full = photo(32, 32), photo(32, 32, seed=1)
    full[..., 0, 0] = torch.nan
    weight = torch.zeros(1, 1, 32, 32)
    weight[..., 16:] = torch.linspace(0.1, 1, 16)
    blend = Areas(weight, 0.1).blended(local, full)
    assert torch.equal(blend[..., :16], local[..., :16])
    assert torch.equal(blend[..., 31], full[..., 31])
    torch.testing.assert_close(blend[..., 16:], torch.lerp(local, full, weight)[..., 16:])


def test_values_that_are_not_finite_make_no_area() -> None:
    local, full = photo(), photo()
    local[..., 5, 5] = torch.inf
    full[..., 100, 100] = torch.nan
    assert parting_areas(local, full, photo()).weight.max() == 0
