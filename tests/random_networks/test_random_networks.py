"""Random networks convert rightly or are refused with glocal's own error."""

import itertools

import pytest
import torch

from random_networks.judge import check_reference, image
from random_networks.known import KNOWN_WRONG
from random_networks.networks import SPELLINGS, draw_network, network_of
from random_networks.tables import run_seed, run_spelling

SEEDS = [
    seed
    for seed in itertools.islice(itertools.count(), 400)
    if not KNOWN_WRONG.keys() & set(draw_network(seed).spellings)
]
"""Seeds whose networks are made of spellings that are not known to be wrong."""

ALL = range(500)

REPRODUCE = "python tests/random_networks/run.py --seed"


def check(seed: int) -> None:
    result = run_seed(seed)
    assert result.outcome.verdict in ("right", "refused"), (
        f"{result.line()}\n{result.outcome.trace}\n{REPRODUCE} {seed}"
    )


@pytest.mark.parametrize("seed", SEEDS[:40])
def test_a_random_network_is_right_or_refused(seed):
    check(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", ALL)
def test_one_of_many_random_networks_is_right_or_refused(seed):
    check(seed)


def test_the_grammar_has_at_least_fifty_spellings():
    assert len(SPELLINGS) >= 50
    assert KNOWN_WRONG.keys() <= SPELLINGS.keys()


def test_a_seed_always_makes_the_same_network():
    one, two = draw_network(3), draw_network(3)
    assert one.spellings == two.spellings
    assert str(one.net) == str(two.net)
    x = image((20, 24), 0)
    assert torch.equal(one.net(x), two.net(x))


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_slow_form_is_the_block_where_one_window_covers_the_map(name):
    check_reference(network_of(name), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN_WRONG)
def test_spellings_known_to_be_wrong_are_still_wrong(name):
    assert run_spelling(name).outcome.verdict in ("wrong", "crash"), (
        f"{name!r} is right now: take it out of KNOWN_WRONG"
    )
