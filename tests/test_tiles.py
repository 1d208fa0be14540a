from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import ArgumentError
from glocal.tiles import BLENDS, Axis, Blend, grid, tile_starts


@given(st.integers(1, 400), st.integers(2, 90), st.data())
def test_tiles_cover_the_axis_and_overlap(size: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0
    assert max(starts[-1] + tile, size) == max(size, tile)
    assert len(starts) == 1 or starts[-1] == size - tile
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(starts))


def test_no_tile_is_superfluous() -> None:
    assert tile_starts(480, 256, 32) == [0, 224]
    assert tile_starts(481, 256, 32) == [0, 112, 225]
    assert tile_starts(256, 256, 255) == [0]


@pytest.mark.parametrize(("size", "tile", "overlap"), [(9, 4, 4), (9, 4, -1), (0, 4, 1), (9, 0, 0)])
def test_impossible_tiles_are_refused(size: int, tile: int, overlap: int) -> None:
    with pytest.raises(ArgumentError, match="cannot cover"):
        tile_starts(size, tile, overlap)


@given(st.integers(1, 300), st.integers(2, 90), st.integers(1, 4), st.sampled_from(BLENDS))
def test_weights_add_up_to_one(size: int, tile: int, scale: int, blend: Blend) -> None:
    (axis, _) = grid((size, size), (tile, tile), None)
    total = torch.zeros(size * scale, dtype=torch.float64)
    for start, weight in zip(axis.starts, axis.weights(scale, blend), strict=True):
        total[start * scale :][: len(weight)] += weight
    torch.testing.assert_close(total, torch.ones_like(total))


def test_two_tiles_fade_linearly() -> None:
    first, second = Axis(size=12, tile=8, starts=[0, 4]).weights(1)
    torch.testing.assert_close(first[4:], torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64))
    torch.testing.assert_close(second[:4], torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(first[:4], torch.ones(4, dtype=torch.float64))


def test_mean_averages_where_tiles_overlap_and_cut_takes_the_tile_whose_middle_is_nearer() -> None:
    axis = Axis(size=12, tile=8, starts=[0, 4])
    assert axis.weights(1, "mean")[0].tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert axis.weights(1, "cut")[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert axis.weights(1, "cut")[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
