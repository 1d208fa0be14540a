from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import ArgumentError
from glocal.inference.geometry import (
    ALIGN,
    BLENDS,
    AxisTiles,
    Blend,
    Span,
    Tile,
    best_tile_size,
    halo_span,
    halo_spans,
    halo_tiles,
    overlapping_tiles,
    round_up,
    split_tile,
    tile_starts,
)


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


@given(
    st.integers(1, 300),
    st.integers(2, 90),
    st.integers(1, 4),
    st.sampled_from(BLENDS),
    st.sampled_from([(None, 1), (0.5, 1), (0.5, 16), (0.5, 12), (0.5, 70)]),
)
def test_weights_add_up_to_one(
    size: int, tile: int, scale: int, blend: Blend, how: tuple[float | None, int]
) -> None:
    overlap, align = how
    (axis, _) = overlapping_tiles((size, size), (tile, tile), overlap, align)
    assert axis.length <= tile
    assert tile < 3 * align or all(start % align == 0 for start in axis.starts)
    total = torch.zeros(size * scale, dtype=torch.float64)
    for start, weight in zip(axis.starts, axis.weights(scale, blend), strict=True):
        total[start * scale :][: len(weight)] += weight
    torch.testing.assert_close(total, torch.ones_like(total))


def test_two_tiles_fade_linearly() -> None:
    first, second = AxisTiles(size=12, length=8, starts=[0, 4]).weights(1)
    torch.testing.assert_close(first[4:], torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64))
    torch.testing.assert_close(second[:4], torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(first[:4], torch.ones(4, dtype=torch.float64))


def test_mean_averages_where_tiles_overlap_and_cut_takes_the_tile_whose_middle_is_nearer() -> None:
    axis = AxisTiles(size=12, length=8, starts=[0, 4])
    assert axis.weights(1, "mean")[0].tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert axis.weights(1, "cut")[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert axis.weights(1, "cut")[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


@given(st.integers(1, 3000), st.integers(0, 200), st.data())
def test_cores_cover_the_axis_once_and_halos_are_wide_enough(
    size: int, halo: int, data: st.DataObject
) -> None:
    tile = data.draw(st.integers(2 * round_up(halo) + ALIGN, 1500))
    found = halo_spans(size, tile, halo)
    assert found[0].core_start == 0
    assert found[-1].core_stop == size
    assert all(a.core_stop == b.core_start for a, b in pairwise(found))
    for each in found:
        assert each.core_start < each.core_stop
        assert each.length <= max(tile, size if size <= tile else 0)
        assert each.start % ALIGN == 0
        assert each.start == 0 or each.core_start - each.start >= halo
        assert each.stop == size or (each.stop - each.core_stop >= halo and each.stop % ALIGN == 0)


def test_a_tile_too_small_for_its_halo_is_refused() -> None:
    with pytest.raises(ArgumentError, match="they need 320 or more"):
        halo_spans(1000, 300, halo=100)
    assert halo_spans(1000, 1000, halo=5000) == [Span(0, 1000, 0, 1000)]


@given(
    st.integers(100, 2000), st.integers(100, 2000), st.integers(0, 150), st.integers(1, 2_000_000)
)
def test_the_best_tile_has_no_more_pixels_than_allowed(
    height: int, width: int, halo: int, pixels: int
) -> None:
    size = height, width
    tile = best_tile_size(size, halo, pixels)
    least = 2 * round_up(halo) + ALIGN
    if tile is None:
        assert pixels < min(least, height) * min(least, width)
        return
    found = halo_tiles(size, tile, halo)
    assert max(tile.pixels for tile in found) <= pixels


@given(st.integers(65, 2000), st.integers(65, 2000), st.integers(0, 150))
def test_halves_have_the_core_of_the_whole(height: int, width: int, halo: int) -> None:
    whole = Tile(halo_span(0, height, height, halo), halo_span(0, width, width, halo))
    both = split_tile(whole, (height, width), halo)
    assert both is not None
    first, second = both
    if width > height:
        assert first.rows == second.rows == whole.rows
        assert (first.columns.core_start, second.columns.core_stop) == (0, width)
        assert first.columns.core_stop == second.columns.core_start
    else:
        assert first.columns == second.columns == whole.columns
        assert (first.rows.core_start, second.rows.core_stop) == (0, height)
        assert first.rows.core_stop == second.rows.core_start


def test_the_smallest_core_has_no_halves() -> None:
    whole = Tile(halo_span(0, 64, 64, 8), halo_span(64, 128, 300, 8))
    assert split_tile(whole, (64, 300), 8) is None
