import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glocal.study.report.crops import Box, cut, differing


def spread_in(images: list[np.ndarray], box: Box) -> int:
    parts = np.stack([cut(image, box, image.shape[:2]) for image in images]).astype(int)
    return int((parts.max(0) - parts.min(0)).sum())


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_squares_are_the_worst_and_do_not_overlap(height, width, side, count, seed) -> None:
    rng = np.random.default_rng(seed)
    images = list(rng.integers(0, 4, (3, height, width, 1), np.uint8))
    boxes = differing(images, count, side)
    tall, wide = min(side, height), min(side, width)
    assert len(boxes) <= count
    taken = np.zeros((height, width), int)
    for box in boxes:
        assert (box.height, box.width) == (tall, wide)
        taken[box.top : box.top + tall, box.left : box.left + wide] += 1
    assert taken.max(initial=0) <= 1
    everywhere = [
        spread_in(images, Box(top, left, tall, wide))
        for top in range(height - tall + 1)
        for left in range(width - wide + 1)
    ]
    if boxes:
        assert spread_in(images, boxes[0]) == max(everywhere)
        values = [spread_in(images, box) for box in boxes]
        assert values == sorted(values, reverse=True)
    else:
        assert max(everywhere) == 0


def test_images_that_are_alike_have_no_place_to_look_at() -> None:
    image = np.full((50, 60, 3), 7, np.uint8)
    assert differing([image, image.copy()]) == []


def test_a_small_image_is_enlarged_by_repetition() -> None:
    small = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    large = small.repeat(2, 0).repeat(2, 1)
    box = Box(1, 3, 4, 5)
    np.testing.assert_array_equal(cut(small, box, (6, 8)), cut(large, box, (6, 8)))
