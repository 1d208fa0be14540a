from glocal.inference.time_left import TimeLeft


def test_what_was_expected_tells_the_rest_at_first_and_then_what_has_passed() -> None:
    now = [0.0]
    left = TimeLeft(100.0, clock=lambda: now[0])
    assert (left.share, left.seconds()) == (0.0, 100.0)
    left.tiles(0, 1)
    left.step(5, 0.04)
    now[0] = 10.0
    assert left.seconds() == 96.0
    left.step(5, 0.5)
    assert (left.share, left.seconds()) == (0.5, 10.0)
    left.restart()
    assert left.seconds() == 0.0


def test_calls_before_the_image_do_not_count() -> None:
    left = TimeLeft(calls=2)
    left.step(0, 0.5)
    assert (left.share, left.seconds()) == (0.0, None)
    left.tiles(0, 1)
    left.step(3, 0.5)
    assert left.share == 0.25
    left.step(4, 0.5)
    assert left.share == 0.75


def test_calls_of_a_tile_count_to_that_tile() -> None:
    left = TimeLeft(calls=2)
    left.tiles(1, 4)
    left.step(7, 0.6)
    assert left.share == 0.4
