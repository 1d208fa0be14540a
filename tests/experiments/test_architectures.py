"""Networks of spandrel, as in docs/architectures.md: a few that are quick, converted and compared.

The page is made by experiments/architectures/run.py, whose networks these are.
"""

import importlib.util
import json
import sys
from pathlib import Path

import oracles
import pytest
import torch

import glocal

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "architectures"
TRAIN = 64

# Fully converted; between them average and deviation pools, group norm, transposed attention.
CONVERTED = ("KBNet_s", "M3SNet", "NAFNet", "RCAN", "RealPLKSR", "Restormer")


def load(name):
    """A module of the experiment, which is no package."""
    full = f"architectures_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, EXPERIMENT / f"{name}.py")
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full]


CASES = {case.name: case for case in load("cases").CASES}


def test_every_architecture_has_a_network(spandrel):
    import spandrel_extra_arches

    registries = (*spandrel.MAIN_REGISTRY, *spandrel_extra_arches.EXTRA_REGISTRY)
    known = {support.architecture.id for support in registries}
    assert {case.architecture for case in CASES.values()} == known


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("name", CONVERTED)
def test_converted_networks_equal_the_original_while_the_window_covers_the_map(spandrel, name):
    network = oracles.randomise(CASES[name].build()).double()
    assert glocal.scan(network, TRAIN).with_status("local")
    local = glocal.localize(network, TRAIN)  # raises if anything stays global
    x = oracles.ramp_noise(1, 3, TRAIN, TRAIN, seed=1)
    with torch.no_grad():
        wanted = network(x.clone())
        assert (local(x.clone()) - wanted).abs().max() <= 1e-9 * wanted.abs().max()
        x = oracles.ramp_noise(1, 3, 3 * TRAIN, TRAIN, seed=1)
        whole = network(x.clone())
        assert (local(x.clone()) - whole).abs().max() > 1e-6 * whole.abs().max()


def test_the_page_is_made_of_the_results(tmp_path):
    results = json.loads((EXPERIMENT / "results.json").read_text())
    assert {record["name"] for record in results["networks"]} == set(CASES)
    page = tmp_path / "architectures.md"
    load("table").write_table(results, page)
    assert (ROOT / "docs" / "architectures.md").read_text() == page.read_text()
