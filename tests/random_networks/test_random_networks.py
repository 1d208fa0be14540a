"""Random networks convert rightly, or are refused with an error of glocal's own."""

import copy
import os
from pathlib import Path

import pytest
import torch

import glocal
from random_networks.judge import check_reference, image, judge
from random_networks.networks import SPELLINGS, draw_network, network_of
from random_networks.tables import run_all, run_seed, summary, table

REPRODUCE = "python tests/random_networks/run.py --seed"

COUNTS = Path(__file__).parents[2] / ".cache" / "random-networks.md"
"""The counts of the last long run, which git ignores."""


@pytest.mark.parametrize("seed", range(40))
def test_a_random_network_is_right_or_refused(seed):
    result = run_seed(seed)
    assert result.outcome.verdict in ("right", "refused"), (
        f"{result.line()}\n{result.outcome.trace}\n{REPRODUCE} {seed}"
    )


@pytest.mark.long
def test_five_hundred_random_networks_are_right_or_refused():
    results = list(run_all(run_seed, range(500), jobs=os.cpu_count() or 1))
    failed = [r for r in results if r.outcome.verdict in ("wrong", "crash")]
    COUNTS.parent.mkdir(exist_ok=True)
    lines = "\n".join(r.line() for r in results if r.outcome.verdict != "right")
    COUNTS.write_text(f"{table(results)}\n\n{lines}\n\n{summary(results)}\n")
    assert not failed, "\n".join(f"{r.line()}\n{REPRODUCE} {r.name}" for r in failed)


def test_the_grammar_has_at_least_fifty_spellings():
    assert len(SPELLINGS) >= 50


def test_a_seed_always_makes_the_same_network():
    one, two = draw_network(3), draw_network(3)
    assert one.spellings == two.spellings
    assert str(one.net) == str(two.net)
    x = image((20, 24), 0)
    assert torch.equal(one.net(x.clone()), two.net(x.clone()))


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_slow_form_is_the_block_where_one_window_covers_the_map(name):
    check_reference(network_of(name), seed=0)


@pytest.mark.parametrize("name", ["mean", "amax", "min-max", "GCNet", "rolled map"])
def test_a_network_that_stays_global_is_judged_wrong(name, monkeypatch):
    monkeypatch.setattr(glocal, "localize", lambda net, *_, **__: copy.deepcopy(net))
    assert judge(network_of(name)).verdict == "wrong"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(glocal.ConversionError, "refused"), (glocal.ScanError, "refused"), (RuntimeError, "crash")],
)
def test_errors_of_glocal_are_refusals_and_others_are_crashes(error, verdict, monkeypatch):
    def raise_it(*_, **__):
        raise error("as it is")

    monkeypatch.setattr(glocal, "localize", raise_it)
    outcome = judge(network_of("mean"))
    assert outcome.verdict == verdict
    assert "as it is" in outcome.detail
