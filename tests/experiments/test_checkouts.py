"""Loader and run of the official networks, on a tiny checkout made here and on those present.

Set GLOCAL_CHECKOUTS to a folder of checkouts (owner/name or owner+name) to run every recipe of
experiments/architectures/official.py on it.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "architectures"
RESULTS = json.loads((EXPERIMENT / "results.json").read_text())["official"]
CHECKOUTS = os.environ.get("GLOCAL_CHECKOUTS", "")

NETWORK = """
import cv2
import torch
from timm.models.layers import DropPath, to_2tuple
from parts.blocks import Gate
from torch import nn


class Net(nn.Module):
    def __init__(self, options, width):
        super().__init__()
        self.head = nn.Conv2d(3, width, to_2tuple(3), padding=1)
        self.gate = Gate(width).cuda()
        self.drop = DropPath(options.drop)
        self.tail = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        return x + self.tail(self.drop(self.gate(self.head(x))))


class LocalNet(Net):
    def __init__(self, options, width, train_size):
        super().__init__(options, width)
        self.gate.pool = Near(int(train_size[-1] * 1.5))


class Near(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        window = [min(n, self.size) for n in x.shape[2:]]
        means = nn.functional.avg_pool2d(x, window, 1)
        h, w = (n - k for n, k in zip(x.shape[2:], means.shape[2:]))
        sides = (w // 2, (w + 1) // 2, h // 2, (h + 1) // 2)
        return nn.functional.pad(means, sides, mode="replicate")
"""

BLOCKS = """
from torch import nn


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x * self.mix(self.pool(x)).sigmoid()
"""

MEASURE = """
import json, sys
from functools import partial
from pathlib import Path
from measure import measure
from official import Recipe

folder = Path(sys.argv[1])
recipe = Recipe(
    "Net", "denoising", "an-author/project", "parts/net.py", "Net", 16, root="code",
    options={"drop": 0.1}, arguments={"width": 4}, local="LocalNet",
)
network = recipe.build(folder)
print(json.dumps(measure(recipe, network, str(folder), partial(recipe.build_local, folder))))
"""


def load(name):
    """A module of the experiment, which is no package and imports none of the others."""
    spec = importlib.util.spec_from_file_location(f"official_{name}", EXPERIMENT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python(code, *arguments):
    """Run code of the experiment in its own process; its standard output."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(EXPERIMENT), str(ROOT / "src")])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_recipe_is_built_converted_and_compared_with_the_authors_local_version(tmp_path):
    parts = tmp_path / "an-author" / "project" / "code" / "parts"
    parts.mkdir(parents=True)
    (parts / "__init__.py").write_text("raise RuntimeError('the whole project')")
    (parts / "net.py").write_text(NETWORK)
    (parts / "blocks.py").write_text(BLOCKS)
    record = json.loads(python(MEASURE, tmp_path))
    assert record["stage"] == "done", record
    assert record["equal"]
    assert record["dtype"] == "float64"
    assert [(row["path"], row["status"]) for row in record["rows"]] == [("gate.pool", "local")]
    assert record["rows"][0]["line"].startswith("blocks.py:")
    assert record["their_local"] < 1e-9
    assert record["effect"] > 1e-4


def test_a_checkout_has_either_of_two_names_and_a_commit_if_git_knows_it(tmp_path):
    checkouts = load("checkouts")
    assert checkouts.folder_of(tmp_path, "owner/name") is None
    folder = tmp_path / "owner+name"
    folder.mkdir()
    assert checkouts.folder_of(tmp_path, "owner/name") == folder
    assert checkouts.commit_of(folder) == ""
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert checkouts.folder_of(tmp_path, "owner/name") == tmp_path / "owner" / "name"


def test_a_package_that_is_absent_raises_once_it_is_used():
    checkouts = load("checkouts")
    module = checkouts.StandIns().create_module(checkouts.StandIns().find_spec("cv2.sub"))
    class_ = module.Reader
    with pytest.raises(ImportError, match=r"cv2\.sub\.Reader is not installed"):
        class_("a.png")
    assert module.DropPath is checkouts.DropPath
    assert checkouts.StandIns().find_spec("another") is None


def test_the_wavelet_transform_keeps_the_norm_and_is_inverted():
    checkouts = load("checkouts")
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    low, (high,) = bands = checkouts.DWTForward()(x)
    assert low.shape == (2, 3, 4, 3)
    assert high.shape == (2, 3, 3, 4, 3)
    assert torch.allclose(checkouts.DWTInverse()(bands), x)
    assert torch.isclose(low.square().sum() + high.square().sum(), x.square().sum())


def test_every_record_has_a_recipe_and_its_commit(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENT)
    recipes = importlib.import_module("official").RECIPES
    names = [recipe.name for recipe in recipes]
    assert len(set(names)) == len(names)
    assert len({recipe.repository for recipe in recipes}) >= 45
    assert {record["name"] for record in RESULTS} <= set(names)
    assert all(len(record["commit"]) == 12 for record in RESULTS)


def recorded(name):
    return next(record for record in RESULTS if record["name"] == name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [record["name"] for record in RESULTS])
def test_a_network_that_is_present_converts_as_recorded(name):
    if not CHECKOUTS:
        pytest.skip("GLOCAL_CHECKOUTS names no folder of checkouts")
    old = recorded(name)
    folders = (Path(CHECKOUTS, old["repository"].replace("/", sign)) for sign in "/+")
    if not any(folder.is_dir() for folder in folders):
        pytest.skip(f"no checkout of {old['repository']}")
    if old["stage"] != "done":
        pytest.skip(f"recorded with an error: {old['error'][:80]}")
    code = "import sys, run; sys.argv[0] = run.__file__; run.main()"
    printed = python(code, "--one", "official", name, "--checkouts", CHECKOUTS)
    new = json.loads(printed.splitlines()[-1])
    assert new["stage"] == "done", new
    left = [sum(row["status"] == "global" for row in record["rows"]) for record in (new, old)]
    assert left[0] <= left[1]
    assert new.get("equal", True)
    if "equal" in new:
        assert new.get("their_local", 0) <= 1e-9
