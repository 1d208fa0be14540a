import threading

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from glocal.ops.placement import (
    ALIGN,
    Extent,
    Placement,
    Resolution,
    Whole,
    placed,
    recorded_grids,
    resolutions_of,
    whole_of,
)

HERE = Placement(Extent(4, 12, 20), Extent(0, 9, 9), (Resolution(0, 1, 0), Resolution(0, 4, 0)))
ELSEWHERE = Placement(Extent(0, 8, 8), Extent(0, 9, 9))


def test_a_tile_is_placed_inside_of_the_with_only() -> None:
    whole = Whole(size=20, origin=4)
    with placed(HERE):
        assert whole_of(0, 8) == whole
        assert whole_of(1, 9) is None
        with placed(ELSEWHERE):
            assert whole_of(0, 8) is None
        assert whole_of(0, 8) == whole
        assert whole_of(0, 2) == Whole(size=5, origin=1)
    assert whole_of(0, 8) is None


def test_grids_are_recorded() -> None:
    with recorded_grids() as lengths:
        assert whole_of(1, 8) is None
        with placed(HERE):
            whole_of(0, 9)
    assert lengths == {(1, 8)}


def test_other_threads_are_elsewhere() -> None:
    found: list[Whole | None] = []
    with placed(HERE):
        thread = threading.Thread(target=lambda: found.append(whole_of(0, 8)))
        thread.start()
        thread.join()
    assert found == [None]


@given(
    size=st.integers(ALIGN, 5000),
    multiple=st.sampled_from([1, 2, 8, 16, 64]),
    axis=st.sampled_from([0, 1]),
    data=st.data(),
)
def test_a_tile_knows_its_place_at_every_resolution_of_a_network_that_pads(
    size: int, multiple: int, axis: int, data: st.DataObject
) -> None:
    """The network pads to a multiple and halves down to a ratio of that multiple."""
    start = ALIGN * data.draw(st.integers(0, (size - 1) // ALIGN))
    inner = range(start + ALIGN, size, ALIGN)
    stop = data.draw(st.sampled_from([*inner, size]))
    ratios = [ratio for ratio in (1, 2, 4, 8, 16, 32, 64) if ratio <= multiple]
    padded = -(-size // multiple) * multiple
    found = resolutions_of({(axis, padded // ratio) for ratio in ratios}, (size, size))
    extents = [Extent(0, size, size), Extent(0, size, size)]
    extents[axis] = Extent(start, stop, size)
    placement = Placement(*extents, found)
    tile = -(-(stop - start) // multiple) * multiple
    assume(tile >= ALIGN)  # else the padding may be as long as the tile: several ratios match
    for ratio in ratios:
        assert placement.whole(axis, tile // ratio) == Whole(padded // ratio, start // ratio)
        assert placement.whole(1 - axis, tile // ratio) is None


@pytest.mark.parametrize("length", [5, 63, 65, 1000])
def test_maps_of_no_known_resolution_are_not_placed(length: int) -> None:
    resolutions = resolutions_of({(0, 128), (0, 64)}, (128, 128))
    placement = Placement(Extent(64, 128, 128), Extent(0, 128, 128), resolutions)
    assert placement.whole(0, 64) == Whole(128, 64)
    assert placement.whole(0, length) is None
