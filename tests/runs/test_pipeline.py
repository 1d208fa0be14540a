"""The three overlapping stages of a run.

More than 300 lines: tests mirror the modules, one file for each.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.runs.pipeline import run
from glocal.runs.stages import Limits, Outcome, Skip, Stages, Usage

IN_TURN = Limits(count=0)
PATIENCE_S = 20
"""Seconds that a stage waits for another before the test fails."""


nap = threading.Event().wait


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("glocal-")]


class FatalError(Exception):
    pass


def stages(**changed: Any) -> Stages[Any, Any, Any, Any]:
    """Squares, as text."""
    chosen: dict[str, Any] = {
        "read": int,
        "compute": lambda numbers: [number**2 for number in numbers],
        "write": lambda item, number, square: f"{item}: {number}² = {square}",
        "fatal": (FatalError,),
    }
    return Stages(**{**chosen, **changed})


def summaries(outcomes: Iterator[Outcome[Any, Any]]) -> list[tuple[Any, Any, str]]:
    return [(outcome.item, outcome.result, repr(outcome.error)) for outcome in outcomes]


def faulty(events: dict[int, str]) -> Stages[Any, Any, Any, Any]:
    """Stages that fail or skip at the given items, in groups by the remainder of 3."""

    def fail(number: int, stage: str) -> None:
        if events.get(number) == stage:
            raise ValueError(f"{stage} {number}")

    def read(item: int) -> int | Skip[str]:
        fail(item, "read")
        return Skip("skipped") if events.get(item) == "skip" else item

    def compute(numbers: list[int]) -> list[int]:
        for number in numbers:
            fail(number, "compute")
        return [number**2 for number in numbers]

    def write(item: int, number: int, square: int) -> int:
        fail(item, "write")
        return square

    return stages(read=read, compute=compute, write=write, group=lambda n: (n % 3, 3))


@given(
    count=st.integers(0, 30),
    events=st.dictionaries(
        st.integers(0, 29), st.sampled_from(["read", "skip", "compute", "write"])
    ),
    limits=st.builds(
        Limits, count=st.integers(1, 8), nbytes=st.just(2**20), workers=st.integers(1, 3)
    ),
)
def test_outcomes_are_those_of_stages_in_turn(
    count: int, events: dict[int, str], limits: Limits
) -> None:
    items = range(count)
    expected = summaries(run(items, faulty(events), IN_TURN))
    assert [item for item, _, _ in expected] == list(items)
    assert summaries(run(items, faulty(events), limits)) == expected


def batches(keys: str, most: int, limits: Limits, **changed: Any) -> list[str]:
    """The batches of items with these keys, such as "a0a2": items 0 and 2, both with key "a"."""
    calls: list[list[int]] = []

    def compute(indices: list[int]) -> list[int]:
        calls.append(indices)
        return indices

    like = stages(compute=compute, group=lambda index: (keys[index], most), **changed)
    assert [outcome.item for outcome in run(range(len(keys)), like, limits)] == list(
        range(len(keys))
    )
    return ["".join(f"{keys[i]}{i}" for i in call) for call in calls]


def test_a_batch_is_the_oldest_item_and_others_of_its_group() -> None:
    assert batches("abaaab", 3, Limits(count=4)) == ["a0a2a3", "b1b5", "a4"]
    assert batches("abaaab", 2, Limits(count=4)) == ["a0a2", "b1b5", "a3a4"]
    assert batches("abbbba", 2, Limits(count=4)) == ["a0", "b1b2", "b3b4", "a5"]
    assert batches("aaa", 1, Limits(count=4)) == ["a0", "a1", "a2"]


@given(
    st.text("abc", max_size=12), st.integers(1, 4), st.integers(1, 5), st.sampled_from([3, 10**6])
)
def test_batches_depend_on_the_items_only(keys: str, most: int, count: int, nbytes: int) -> None:
    def slowly(index: int) -> int:
        nap(0.0005 * (index % 3))
        return index

    once, again = (
        batches(keys, most, Limits(count, nbytes, workers), read=read, nbytes=lambda thing: 1)
        for workers, read in ((1, int), (3, slowly))
    )
    assert once == again


def test_a_batch_that_fails_is_computed_item_by_item() -> None:
    calls: list[list[int]] = []

    def compute(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        if 2 in numbers:
            raise ValueError("two")
        return numbers

    together = stages(compute=compute, group=lambda number: ("one key", 3))
    outcomes = list(run([1, 2, 3, 4], together, Limits(count=3)))
    assert calls == [[1, 2, 3], [1], [2], [3], [4]]
    assert [str(outcome.error) for outcome in outcomes] == ["None", "two", "None", "None"]


def test_stages_overlap() -> None:
    read, computed = threading.Event(), threading.Event()

    def load(item: int) -> int:
        if item == 1:
            read.set()
        return item

    def compute(numbers: list[int]) -> list[int]:
        assert read.wait(PATIENCE_S), "1 was not read while 0 was computed"
        if numbers == [1]:
            computed.set()
        return numbers

    def write(item: int, *_: int) -> None:
        assert computed.wait(PATIENCE_S), "1 was not computed while 0 was written"

    outcomes = list(run([0, 1], stages(read=load, compute=compute, write=write)))
    assert [outcome.error for outcome in outcomes] == [None, None]


@pytest.mark.parametrize(
    "limits",
    [Limits(3), Limits(3, workers=2), Limits(10, nbytes=30), Limits(10, nbytes=30, workers=3)],
)
def test_items_ahead_are_bounded(limits: Limits) -> None:
    begun: list[int] = []
    computed: list[int] = []
    filled = threading.Event()
    bound = 3  # thirty bytes are three items as well

    def load(item: int) -> int:
        begun.append(item)
        # plus one item that may be about to be computed
        assert len(begun) <= len(computed) + 1 + bound
        if len(begun) == 1 + bound:
            filled.set()
        nap(0.001)  # so that several threads read at once
        return item

    def compute(numbers: list[int]) -> list[int]:
        computed.extend(numbers)
        assert filled.wait(PATIENCE_S), "nothing was read ahead"
        nap(0.002)  # time for a read that exceeds the bound
        return numbers

    bounded = stages(read=load, compute=compute, nbytes=lambda thing: 10)
    outcomes = list(run(range(20), bounded, limits))
    assert [outcome.error for outcome in outcomes] == [None] * 20


@pytest.mark.parametrize("limits", [Limits(3), Limits(3, workers=2), Limits(10, nbytes=60)])
def test_items_behind_are_bounded(limits: Limits) -> None:
    computed: list[int] = []
    written: list[int] = []
    filled = threading.Event()

    def compute(numbers: list[int]) -> list[int]:
        # loaded and computed values are both in memory
        assert len(computed) - len(written) < 3
        computed.extend(numbers)
        if len(computed) == 3:
            filled.set()
        return numbers

    def write(item: int, *_: int) -> None:
        assert filled.wait(PATIENCE_S), "nothing was computed while results wait"
        written.append(item)

    bounded = stages(compute=compute, write=write, nbytes=lambda thing: 10)
    outcomes = list(run(range(20), bounded, limits))
    assert [outcome.error for outcome in outcomes] == [None] * 20


def test_an_item_larger_than_the_limit_goes_through() -> None:
    large = stages(nbytes=lambda thing: 1000)
    assert summaries(run(range(4), large, Limits(nbytes=10))) == summaries(
        run(range(4), large, IN_TURN)
    )


@pytest.mark.parametrize("limits", [IN_TURN, Limits(), Limits(workers=3)])
def test_a_fatal_error_ends_the_run_after_what_came_before(limits: Limits) -> None:
    def compute(numbers: list[int]) -> list[int]:
        if numbers[0] >= 3:
            raise FatalError(f"at {numbers[0]}")
        return numbers

    outcomes = run(range(9), stages(compute=compute), limits)
    assert [next(outcomes).item for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FatalError, match="at 3"):
        next(outcomes)
    assert list(outcomes) == []


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
@pytest.mark.parametrize("limits", [IN_TURN, Limits()])
def test_interruption_goes_through(stage: str, limits: Limits) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(range(9), stages(**{stage: interrupted}), limits))


def test_values_are_released_when_they_are_no_longer_needed() -> None:
    alive = 0
    most = 0
    lock = threading.Lock()

    class Value:
        def __init__(self) -> None:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    valued = stages(
        read=lambda item: Value(),
        compute=lambda values: [Value() for _ in values],
        write=lambda *_: nap(0.001),
    )
    for outcome in run(range(30), valued, Limits(count=3)):
        assert outcome.error is None
    assert alive == 0
    # three ahead, one being computed with its value, three behind with two values each
    assert most <= 3 + 2 + 2 * 3


def test_many_items_are_skipped() -> None:
    outcomes = run(range(3000), stages(read=Skip), Limits(workers=2))
    assert [outcome.result for outcome in outcomes] == list(range(3000))


@pytest.mark.parametrize("value", [3, 9])
def test_an_error_outside_of_the_stages_ends_the_run(value: int) -> None:
    def nbytes(thing: int) -> int:
        if thing == value:  # 3 is read, 9 is computed from it
            raise TypeError("no size")
        return 1

    with pytest.raises(TypeError, match="no size"):
        list(run(range(9), stages(nbytes=nbytes)))


def test_closing_ends_the_threads_and_drops_queued_writes() -> None:
    written: list[int] = []
    writing, closing = threading.Event(), threading.Event()

    def write(item: int, *_: int) -> int:
        if item == 1:
            writing.set()
            assert closing.wait(PATIENCE_S)
        written.append(item)
        return item

    def compute(numbers: list[int]) -> list[int]:
        if numbers[0] == 3:
            assert writing.wait(PATIENCE_S)
        return numbers

    outcomes = run(range(1000), stages(compute=compute, write=write))
    assert next(outcomes).item == 0
    assert written[0] == 0
    # closing waits for the write in progress
    threading.Timer(0.05, closing.set).start()
    outcomes.close()
    assert len(written) < 1000
    count = len(written)
    assert written == list(range(count))
    assert list(outcomes) == []


def test_a_run_that_is_not_begun_has_no_threads() -> None:
    run(range(9), stages()).close()


def test_usage_adds_up() -> None:
    for limits in (IN_TURN, Limits(), Limits(workers=2)):
        usage = Usage()
        assert usage.waiting == 0
        slow = stages(
            read=lambda item: nap(0.002) or item,
            compute=lambda numbers: nap(0.001) or numbers,
            write=lambda *_: nap(0.002),
        )
        for _ in run(range(5), slow, limits, usage):
            assert usage.elapsed_s > 0
        assert usage.computing_s > 0
        # on a busy machine everything may have been read ahead
        assert usage.input_s > 0 or limits is not IN_TURN
        assert usage.output_s > 0
        spent_s = usage.computing_s + usage.input_s + usage.output_s
        assert spent_s <= usage.elapsed_s * (1 + 1e-9)
        assert 0 < usage.waiting < 1


def test_elapsed_is_the_time_in_stages() -> None:
    slow = stages(compute=lambda numbers: nap(0.01) or numbers, group=lambda n: (0, 2))
    for limits in (IN_TURN, Limits(count=2)):
        usage = Usage()
        outcomes = list(run(range(2), slow, limits, usage))
        assert sum(outcome.elapsed_s for outcome in outcomes) >= usage.computing_s
