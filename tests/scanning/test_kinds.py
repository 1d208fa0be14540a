"""The decision table, row by row and over all combinations of facts."""

import itertools
from collections import Counter
from typing import get_args

import pytest

from glocal.scanning.kinds import BOTH, REASONS, TABLE, Facts, Kind, classify

NONE, H, W = frozenset(), frozenset("H"), frozenset("W")
AXES = (NONE, H, W, BOTH)


def combinations():
    """All combinations of facts that a call can have."""
    flags = (False, True)
    for reads, returns, mixes, grid, reduced, operands in itertools.product(
        AXES, AXES, AXES, flags, AXES, (1, 2)
    ):
        for from_input, (selects, fourier, known) in itertools.product(
            flags,
            # aten knows the operations that select and the Fourier transforms
            [(0, 0, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)],
        ):
            yield Facts(
                reads, returns, mixes, grid, reduced, operands,
                from_input, bool(selects), bool(fourier), bool(known),
            )  # fmt: skip


# code: (its facts, the row that decides, verdict)
EXAMPLES = {
    "torch.arange(h) * torch.arange(w)": (
        Facts(reads=BOTH, mixes=BOTH, from_input=False),
        "computed from sizes alone: a mask, a position",
        None,
    ),
    "mean(2) of x.mean(3)": (
        Facts(reads=H, mixes=H, reduced=W),
        "reduces the axis that a reduction left",
        "second half",
    ),
    "mean(2) of x": (Facts(reads=BOTH, returns=W, mixes=H), "mixes one axis", "axis"),
    "softmax(2) of x.mean(3)": (
        Facts(reads=H, returns=H, mixes=H, reduced=W),
        "mixes one axis",
        "axis",
    ),
    "mean(2) of x.mean(2, keepdim=True)": (
        Facts(reads=W, returns=W, reduced=H),
        "anything else",
        None,
    ),
    "x.flatten(2).topk(4)": (
        Facts(reads=BOTH, mixes=BOTH, selects=True),
        "global, and selects values",
        "selection",
    ),
    "x.flatten(2).sort(-1)": (
        Facts(reads=BOTH, returns=BOTH, mixes=BOTH, selects=True),
        "global, and selects values",
        "selection",
    ),
    "x[:, :, 0, 0]": (Facts(reads=BOTH, selects=True), "global, and selects values", "selection"),
    "x[:, :, 0]": (
        Facts(reads=BOTH, returns=W, selects=True),
        "global, and selects values",
        "selection",
    ),
    "x[:, :, ::2]": (Facts(reads=BOTH, returns=BOTH, selects=True), "anything else", None),
    "torch.fft.fft2(x)": (
        Facts(reads=BOTH, returns=BOTH, mixes=BOTH, fourier=True),
        "Fourier transform that returns a map",
        "fourier",
    ),
    "F.instance_norm(x)": (
        Facts(reads=BOTH, returns=BOTH, mixes=BOTH),
        "mixes both axes, returns a map",
        "mixing",
    ),
    "x.mean((2, 3))": (
        Facts(reads=BOTH, mixes=BOTH),
        "mixes both axes, returns no map",
        "statistic",
    ),
    "linear over the cells of a grid": (
        Facts(reads=BOTH, returns=BOTH, mixes_grid=True),
        "mixes the cells of a growing grid",
        "grid",
    ),
    "attention along rows of a grid": (
        Facts(reads=BOTH, returns=BOTH, mixes=H, mixes_grid=True),
        "mixes the cells of a growing grid",
        "grid",
    ),
    "F.adaptive_avg_pool2d(x, 7)": (Facts(reads=BOTH), "loses the map", "statistic"),
    "F.avg_pool2d(x, (1, w))": (Facts(reads=BOTH, returns=H), "loses one axis", "axis"),
    "a row and a column that are multiplied": (
        Facts(reads=BOTH, returns=H, operands=2),
        "anything else",
        None,
    ),
    "an operator of the user's own": (
        Facts(reads=BOTH, returns=BOTH, known=False),
        "unknown, and reads a map",
        "unknown",
    ),
    "an operator of the user's own on weights": (Facts(known=False), "anything else", None),
    "F.conv2d(x, weight)": (Facts(reads=BOTH, returns=BOTH, operands=2), "anything else", None),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_is_decided_by_its_row(code):
    facts, when, verdict = EXAMPLES[code]
    assert next(case.when for case in TABLE if case.holds(facts)) == when
    assert classify(facts) == verdict


def test_every_row_has_an_example():
    assert {when for _, when, _ in EXAMPLES.values()} == {case.when for case in TABLE}


def test_every_row_decides_something_and_the_last_row_takes_the_rest():
    decided = Counter(
        next(row for row, case in enumerate(TABLE) if case.holds(facts)) for facts in combinations()
    )
    assert sorted(decided) == list(range(len(TABLE)))


def test_every_kind_is_in_the_table_and_has_a_reason():
    kinds = set(get_args(Kind))
    assert {case.verdict for case in TABLE} == kinds | {"second half", None}
    assert set(REASONS) == kinds


def test_what_mixes_the_whole_map_is_never_local():
    for facts in combinations():
        if facts.from_input and facts.mixes == BOTH:
            assert classify(facts) in ("statistic", "mixing", "selection", "fourier")


def test_what_mixes_nothing_and_returns_what_it_reads_is_local():
    for facts in combinations():
        mixes = facts.mixes or facts.mixes_grid
        if facts.known and not mixes and facts.reads <= facts.returns:
            assert classify(facts) is None


def test_height_and_width_are_alike():
    """Swapping the axes changes no verdict."""
    swap = {NONE: NONE, H: W, W: H, BOTH: BOTH}
    for facts in combinations():
        values = vars(facts)
        swapped = {k: swap[v] if isinstance(v, frozenset) else v for k, v in values.items()}
        assert classify(facts) == classify(Facts(**swapped))
