"""Networks that the user's Python functions build, with and without a checkpoint."""

import sys

import pytest
import torch
from torch import nn

from glocal import networks
from glocal.errors import ArgumentError, CheckpointError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A folder with a module, whose name is returned."""
    code = (
        "from torch import nn\n"
        "network = nn.Conv2d(3, 3, 1)\n"
        "class Own(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))\n"
        "class Builders:\n"
        "    @staticmethod\n"
        "    def small(): return nn.Conv2d(3, 3, 1)\n"
        "def number(): return 3\n"
        "def needs(width): return nn.Conv2d(3, width, 1)\n"
        "def late():\n"
        "    import my_late_module\n"
        "    return my_late_module.network\n"
    )
    (tmp_path / "my_module.py").write_text(code)
    (tmp_path / "my_late_module.py").write_text("from my_module import network\n")
    monkeypatch.chdir(tmp_path)
    yield "my_module"
    for name in ("my_module", "my_late_module"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("attribute", ["network", "Builders.small", "late"])
def test_a_factory_or_a_network_is_a_model(module, attribute):
    path = list(sys.path)
    loaded = networks.load_checkpoint(f"{module}:{attribute}")
    assert isinstance(loaded.network, nn.Conv2d)
    assert not loaded.network.training
    assert (loaded.name, loaded.architecture) == (f"{module}:{attribute}", "Conv2d")
    assert sys.path == path


@pytest.mark.parametrize(
    ("attribute", "error", "message"),
    [
        ("number", ArgumentError, "returned int; a factory must return a torch.nn.Module"),
        ("needs", ArgumentError, "without arguments failed: TypeError: .*'width'$"),
        ("nonesuch", CheckpointError, "cannot be imported .*nonesuch"),
    ],
)
def test_what_is_no_factory_is_an_error_in_one_line(module, attribute, error, message):
    with pytest.raises(error, match=message) as caught:
        networks.load(f"{module}:{attribute}")
    assert "\n" not in str(caught.value)


def saved(folder):
    """A checkpoint of `Own`, as Lightning saves it."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    state = {f"net.{key}": tensor for key, tensor in network.state_dict().items()}
    counters = {"net.total_ops": torch.zeros(1), "step_counter": torch.tensor(1)}
    torch.save({"state_dict": state | counters}, folder / "own.ckpt")
    return folder / "own.ckpt", network.eval()


def test_weights_are_loaded_into_a_network_of_ones_own(module, tmp_path):
    path, network = saved(tmp_path)
    before = torch.get_rng_state()
    loaded = networks.load_checkpoint(path, arch=f"{module}:Own")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(loaded.network(x), network(x))
    assert (loaded.architecture, loaded.name, loaded.entry) == ("Own", "own", "state_dict.net")


def test_the_network_may_come_from_a_function(tmp_path):
    path, network = saved(tmp_path)

    def build():
        made = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        made.glocal_train_size = 48
        return made

    loaded = networks.load_checkpoint(path, arch=build)
    assert loaded.train_size == (48, 48)
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(loaded.network(x), network(x))


def test_weights_that_do_not_fit_it_exactly_are_an_error(module, tmp_path):
    path, _ = saved(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        networks.load(path, arch=f"{module}:network")
    message = str(caught.value)
    assert "do not fit my_module:network" in message
    assert len(message.splitlines()) == 2
    assert "missing: weight, bias; unexpected: 0.weight" in message


def test_a_factory_has_no_checkpoint_to_choose_from(module):
    with pytest.raises(ArgumentError, match="entry and arch are for checkpoints"):
        networks.load(f"{module}:Own", entry="params")
