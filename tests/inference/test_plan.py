"""Plans need no tensors: sizes and measured numbers alone."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import GlocalError
from glocal.inference.geometry import ALIGN
from glocal.inference.memory import MemoryNeed
from glocal.inference.plan import BOUND, BlendedTiles, Reach, TilePlan, plan
from glocal.ops.placement import Extent, Placement, Resolution

WINDOW = (64, 64)
lengths = st.integers(1, 2000)
reaches = st.builds(
    Reach,
    halo=st.none() | st.sampled_from([64, 128, 256]),
    need=st.builds(MemoryNeed, fixed=st.just(10_000), per_pixel=st.integers(1, 50)),
)


def covered(found: TilePlan) -> np.ndarray:
    """How many cores each pixel is in."""
    count = np.zeros(found.size, np.uint8)
    for tile in found.tiles:
        count[tile.core(1)] += 1
    return count


def check_tiles(found: TilePlan) -> None:
    """Every pixel is in one core, every halo inside the image, wide enough, and aligned."""
    assert (covered(found) == 1).all()
    for tile in found.tiles:
        for span, size in zip((tile.rows, tile.columns), found.size, strict=True):
            assert 0 <= span.start <= span.core_start < span.core_stop <= span.stop <= size
            assert span.start % ALIGN == 0
            assert span.start == 0 or span.core_start - span.start >= found.halo
            assert span.stop == size or span.stop - span.core_stop >= found.halo


@given(lengths, lengths, reaches, st.none() | st.integers(0, 200), st.integers(500_000, 30_000_000))
def test_planned_tiles_cover_the_image_once_and_each_fits_into_memory(
    height: int, width: int, reach: Reach, halo: int | None, memory: int
) -> None:
    found = plan((height, width), WINDOW, reach, halo=halo, memory=memory)
    assert reach.need is not None
    most = reach.need.max_pixels(memory)
    if isinstance(found, BlendedTiles):
        assert math.prod(found.tile_size) <= most
        return
    check_tiles(found)
    assert found.halo >= max(halo or 0, 192 if reach.halo is None else reach.halo)
    assert max(tile.pixels for tile in found.tiles) <= most


@given(lengths, lengths, st.integers(64, 2000), st.integers(64, 2000), reaches)
def test_a_given_tile_is_never_exceeded_and_its_halo_fits(
    height: int, width: int, rows: int, columns: int, reach: Reach
) -> None:
    found = plan((height, width), WINDOW, reach, tile_size=(rows, columns))
    wanted = 192 if reach.halo is None else reach.halo
    least = 2 * wanted + ALIGN
    if isinstance(found, BlendedTiles):
        assert found.tile_size == (rows, columns)
        assert rows < min(least, height) or columns < min(least, width)
        return
    check_tiles(found)
    assert all(tile.size[0] <= rows and tile.size[1] <= columns for tile in found.tiles)
    assert found.halo == wanted


@given(lengths, lengths, st.integers(0, 200), st.integers(4096, 2_000_000))
def test_split_tiles_have_the_core_of_the_tile(
    height: int, width: int, halo: int, max_pixels: int
) -> None:
    found = plan((height, width), WINDOW, Reach(64), halo=halo, max_pixels=max_pixels)
    if isinstance(found, BlendedTiles):
        assert math.prod(found.tile_size) <= max_pixels
        return
    for tile in found.tiles:
        halves = found.split(tile)
        if halves is None:
            assert all(s.core_stop - s.core_start <= ALIGN for s in (tile.rows, tile.columns))
            continue
        count = np.zeros(found.size, np.uint8)
        for half in halves:
            count[half.core(1)] += 1
        count[tile.core(1)] -= 1
        assert not count.any()


def test_memory_decides_between_the_whole_image_and_tiles() -> None:
    reach = Reach(64, need=MemoryNeed(0, 1000))
    assert str(plan((700, 900), WINDOW, reach, memory=630e6)) == "the whole image at once"
    assert str(plan((700, 900), WINDOW, reach)) == "the whole image at once"
    found = plan((700, 900), WINDOW, reach, memory=629e6)
    assert str(found) == (
        "2 of up to 700x896 with a halo of 64, 1.1 × the pixels of the image, "
        "off by 0.00/255 as measured"
    )
    assert plan((700, 900), WINDOW, reach, max_pixels=629e3) == found


@pytest.mark.parametrize(
    ("reach", "options", "halo"),
    [
        (Reach(64), {}, 64),
        (Reach(64), {"halo": 100}, 100),
        (Reach(128), {"halo": 64}, 128),  # never narrower than it was measured
        (Reach(16, align=16), {"tile_size": (64, 64)}, 16),
        (Reach(64, align=16), {"tile_size": (160, 160)}, 64),  # the core gives way
    ],
)
def test_the_halo_is_never_narrower_than_measured(
    reach: Reach, options: dict[str, Any], halo: int
) -> None:
    found = plan((700, 900), WINDOW, reach, **{"tile_size": (512, 512), **options})
    assert isinstance(found, TilePlan)
    assert (found.halo, found.doubt) == (halo, "")
    assert len(found.tiles) > 1


def test_a_halo_that_could_not_be_measured_is_wide_and_in_doubt() -> None:
    found = plan((700, 900), WINDOW, Reach(), tile_size=(512, 512), halo=8)
    assert isinstance(found, TilePlan)
    assert found.halo == 192
    assert "too small to measure how wide a halo must be; it is 192 pixels" in found.doubt


@pytest.mark.parametrize(
    ("reach", "options", "why"),
    [
        (Reach(64), {"tile_size": (128, 128)}, "tiles of 128x128 have no core between halos of 64"),
        (Reach(64, align=16), {"tile_size": (900, 140)}, "have no core between halos of 64"),
        (Reach(64), {"halo": 240}, "have no core between halos of 240"),
        (Reach(192, 3 * BOUND), {}, "192 pixels from the border of a tile, values still differ by"),
        (
            Reach(64, resolutions=(Resolution(0, 2, 0), Resolution(0, 2, 4))),
            {},
            "pads feature maps of one resolution in two ways",
        ),
        (
            Reach(64, need=MemoryNeed(0, 10)),
            {"tile_size": None, "memory": 300_000},
            "memory suffices for 30000 pixels at once, too few for a halo of 64",
        ),
    ],
)
def test_tiles_are_blended_where_a_halo_cannot_make_them_exact(
    reach: Reach, options: dict[str, Any], why: str
) -> None:
    found = plan((700, 900), WINDOW, reach, **{"tile_size": (512, 512), **options})
    assert isinstance(found, BlendedTiles)
    assert why in found.why


def test_too_little_memory_for_any_tile_is_an_error() -> None:
    with pytest.raises(GlocalError, match="suffices for 1000 pixels at once, and the smallest"):
        plan((700, 900), WINDOW, Reach(64, need=MemoryNeed(0, 10)), memory=10_000)
    with pytest.raises(GlocalError, match="suffices for 0 pixels"):
        plan((700, 900), WINDOW, Reach(64), memory=0)


def test_unknown_memory_limits_nothing() -> None:
    assert len(plan((700, 900), WINDOW, Reach(64), memory=10).tiles) == 1


def test_a_tile_is_placed_in_the_image() -> None:
    resolutions = (Resolution(0, 2, 0),)
    found = TilePlan((700, 900), (448, 900), 64, resolutions=resolutions)
    assert found.placement(found.tiles[1]) == Placement(
        Extent(320, 700, 700), Extent(0, 900, 900), resolutions
    )
