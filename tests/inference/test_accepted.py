"""Which sizes a network accepts, and padding to them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import GlocalError
from glocal.inference.accepted import Accepted, Law, accepted_sizes
from glocal.ops.windows import Size


class Counting:
    """The output size of a network that takes multiples, and the sizes that were tried."""

    def __init__(
        self, rows: int, columns: int, law: Law | None = None, *, square: bool = False
    ) -> None:
        self.multiple, self.law, self.square = (rows, columns), law or Law(), square
        self.tried: list[Size] = []

    def __call__(self, size: Size) -> Size:
        self.tried.append(size)
        if any(n % m for n, m in zip(size, self.multiple, strict=True)):
            raise RuntimeError("multiples only")
        if self.square and size[0] != size[1]:
            raise RuntimeError("squares only")
        return self.law.output(size)


sides = st.integers(1, 64)


@given(sides, sides, st.integers(1, 8), st.integers(1, 8))
def test_the_multiples_are_found_below_the_training_size(
    rows: int, columns: int, times: int, other: int
) -> None:
    network = Counting(rows, columns)
    found = next(accepted_sizes(network, (rows * times, columns * other)))
    assert found.multiple == (rows, columns)
    assert not found.square
    assert len(network.tried) < 40


@given(sides, st.integers(1, 8))
def test_networks_of_squares(side: int, times: int) -> None:
    found = next(accepted_sizes(Counting(side, side, square=True), (side * times, side * times)))
    assert found.square
    assert found.multiple == (side, side)


@pytest.mark.parametrize("multiple", [2, 3, 5, 7, 8, 9, 10, 12, 14, 16, 24, 28, 32, 40, 64, 128])
def test_multiples_without_a_training_size(multiple: int) -> None:
    found = next(accepted_sizes(Counting(multiple, multiple), None))
    assert found.multiple == (multiple, multiple)


def test_a_network_that_runs_nowhere_accepts_nothing() -> None:
    assert list(accepted_sizes(Counting(1000, 1000), None)) == []
    assert list(accepted_sizes(Counting(7, 7), (64, 64))) == []


@pytest.mark.parametrize("lost", [(2, 2), (12, 8), (0, 6)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_convolutions_without_padding(scale: int, lost: Size) -> None:
    law = Law(scale, lost)
    found = next(accepted_sizes(Counting(4, 4, law), (48, 32)))
    assert found.law == law
    size = (37, 50)
    padding = found.padding(size)
    padded = padding.size(size)
    assert all(n % 4 == 0 for n in padded)
    top, left = (before * scale - n // 2 for before, n in zip(padding.before, lost, strict=True))
    output = law.output(padded)
    assert top >= 0
    assert left >= 0
    assert output[0] >= top + 37 * scale
    assert output[1] >= left + 50 * scale


def test_uneven_losses_are_refused() -> None:
    with pytest.raises(GlocalError, match="lacks 1 rows and 2 columns"):
        list(accepted_sizes(Counting(1, 1, Law(1, (1, 2))), (32, 32)))


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.booleans(),
)
def test_padded_sizes_are_accepted(size: Size, multiple: Size, least: Size, square: bool) -> None:
    if square:
        multiple = multiple[0], multiple[0]
    accepted = Accepted(multiple, least, square)
    padding = accepted.padding(size)
    padded = padding.size(size)
    assert padding(torch.zeros(1, 1, *size)).shape[-2:] == padded
    assert all(n % m == 0 for n, m in zip(padded, multiple, strict=True))
    assert all(n >= m for n, m in zip(padded, least, strict=True))
    assert not square or padded[0] == padded[1]


def test_padding_reflects_at_every_border() -> None:
    accepted = Accepted(law=Law(1, (4, 2)))
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    padded = accepted.padding((3, 4))(x)
    torch.testing.assert_close(padded, torch.nn.functional.pad(x, (1, 1, 2, 2), mode="reflect"))
