from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import ArgumentError
from glocal.ops.windows import (
    Overlap,
    as_size,
    cells,
    covers,
    scale_window,
    start_of,
    starts,
    stride,
)

lengths = st.integers(1, 60)


@given(lengths, lengths)
def test_window_of_a_pixel_lies_inside_and_holds_it(size, window):
    for pixel in range(size):
        first = start_of(pixel, window, size)
        assert 0 <= first <= pixel < first + min(window, size) <= size


@given(lengths, lengths)
def test_window_of_a_pixel_is_the_nearest_inside(size, window):
    window = min(window, size)
    for pixel in range(size):
        centred = pixel - (window - 1) // 2
        inside = range(size - window + 1)
        assert start_of(pixel, window, size) == min(inside, key=lambda s: abs(s - centred))


@given(lengths, lengths)
def test_attention_windows_cover_the_axis_with_the_fewest(size, window):
    begins = starts(size, window)
    covered = {p for b in begins for p in range(b, min(b + window, size))}
    assert covered == set(range(size))
    assert len(begins) <= max(1, -(-size // window))
    assert begins == sorted(set(begins))
    assert begins[-1] == max(size - window, 0)


@given(lengths, lengths)
def test_cells_partition_the_axis_and_windows_are_runs_of_cells(size, window):
    pieces = cells(size, window)
    assert [p for a, b in pieces for p in range(a, b)] == list(range(size))
    edges = {a for a, _ in pieces} | {b for _, b in pieces}
    for begin in starts(size, window):
        assert {begin, min(begin + window, size)} <= edges


def test_attention_windows_of_the_official_code():
    # By hand: n = ceil(size / k), step = ceil((size - k) / (n - 1)), the last pushed inside.
    assert starts(720, 384) == [0, 336]
    assert starts(1280, 384) == [0, 299, 598, 896]
    assert starts(384, 384) == [0]


def test_window_scales_with_the_feature_and_never_vanishes():
    assert scale_window((64, 32), (384, 300), (256, 256)) == (96, 37)
    assert scale_window((2, 2), (16, 16), (256, 256)) == (1, 1)


def test_covers_needs_both_axes():
    assert covers((5, 5), (5, 5))
    assert not covers((5, 9), (6, 9))


@pytest.mark.parametrize("value", [0, -1, (3,), (3, 0), (1.5, 2), "ab"])
def test_bad_sizes_are_named(value):
    with pytest.raises(ArgumentError, match="window must be a positive int"):
        as_size(value, "window")


@given(st.integers(1, 300), st.integers(1, 90), st.floats(0, 0.95))
def test_windows_overlap_by_their_share_and_are_the_fewest(size: int, window: int, share: float):
    begins = starts(size, window, share)
    inside = min(window, size)
    assert begins[0] == 0
    assert begins[-1] + inside == size
    steps = [b - a for a, b in pairwise(begins)]
    assert all(0 < step <= stride(window, share) for step in steps)
    assert len(begins) == 1 + -(-(size - inside) // stride(window, share))


@pytest.mark.parametrize(("share", "blend"), [(1, "mean"), (-0.1, "mean"), (0.5, "cut")])
def test_an_overlap_that_cannot_be_is_refused(share, blend):
    with pytest.raises(ArgumentError, match="an overlap needs 0 <= share < 1"):
        Overlap(share, blend)
