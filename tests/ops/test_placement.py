import threading

from glocal.ops.placement import Whole, looked_up, placed, whole_of


def test_a_tile_is_placed_inside_of_the_with_only() -> None:
    whole = Whole(size=20, origin=4)
    with placed({(0, 8): whole}):
        assert whole_of(0, 8) == whole
        assert whole_of(1, 8) is None
        with placed({}):
            assert whole_of(0, 8) is None
        assert whole_of(0, 8) == whole
    assert whole_of(0, 8) is None


def test_axes_that_are_asked_for_are_told() -> None:
    with looked_up() as extents:
        assert whole_of(1, 8) is None
        with placed({}):
            whole_of(0, 9)
    assert extents == {(1, 8)}


def test_other_threads_are_elsewhere() -> None:
    found: list[Whole | None] = []
    with placed({(0, 8): Whole(20, 4)}):
        thread = threading.Thread(target=lambda: found.append(whole_of(0, 8)))
        thread.start()
        thread.join()
    assert found == [None]
