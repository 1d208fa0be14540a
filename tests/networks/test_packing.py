"""Networks as files that say all that is needed to load and convert them."""

import json
import sys

import oracles
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import glocal
from glocal import networks
from glocal.errors import ArgumentError, CheckpointError
from glocal.networks.checkpoints.files import read_metadata
from glocal.networks.loading import LoadedNetwork
from glocal.networks.packing import packed


@pytest.fixture
def loaded(tmp_path):
    network = oracles.randomise(networks.NAFNet(3, 4, 1, [1], [1]), seed=1)
    about = {"train_size": "32", "licence": "MIT", "licence_text": "Permission is", "by": "me"}
    save_file(network.state_dict(), tmp_path / "tiny.safetensors", about)
    return networks.load_checkpoint(tmp_path / "tiny.safetensors")


def written(tmp_path, found):
    """The folder of a packed network."""
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(found.content)
    return folder


def test_the_file_states_network_sizes_and_licence(loaded, tmp_path):
    folder = written(tmp_path, packed(loaded, train_size=(32, 48), window=(40, 56), task="haze"))
    stated = read_metadata(folder / "model.safetensors")
    assert json.loads(stated.pop("hyperparameters"))["width"] == 4
    assert stated == {
        "architecture": "NAFNet",
        "train_size": "32x48",
        "window": "40x56",
        "licence": "MIT",
        "licence_text": "Permission is",
        "name": "tiny",
        "task": "haze",
        "by": "me",
        "format": "pt",
    }


def test_the_folder_loads_and_converts_without_a_number(loaded, tmp_path):
    folder = written(tmp_path, packed(loaded, train_size=(32, 48), window=(40, 56)))
    network = glocal.load(folder)
    assert (network.glocal_train_size, network.glocal_window) == ((32, 48), (40, 56))
    plan = glocal.plan_of(glocal.localize(network))
    assert (plan.train_size, plan.window) == ((32, 48), (40, 56))
    for key, tensor in loaded.network.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor)


def test_the_default_window_is_that_of_localize(loaded):
    assert packed(loaded, train_size=(32, 32)).metadata["window"] == "48x48"
    loaded.network.glocal_window = (40, 40)
    assert packed(loaded, train_size=(32, 32)).metadata["window"] == "40x40"
    assert packed(loaded, train_size=(64, 64)).metadata["window"] == "96x96"  # of other crops


def test_another_licence_drops_the_text_of_the_stated_one(loaded):
    found = packed(loaded, train_size=(32, 32), licence="CC0-1.0")
    assert found.metadata["licence"] == "CC0-1.0"
    assert "licence_text" not in found.metadata


def test_half_has_half_the_bytes(loaded):
    whole, half = (packed(loaded, train_size=(32, 32), half=half) for half in (False, True))
    tensors = 4 * whole.parameters
    assert tensors < len(whole.content) < tensors + 8192
    assert abs(len(whole.content) - len(half.content) - tensors // 2) < 64  # the header differs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"licence": "MIT\nand more"}, "licence must be one line"),
        ({"name": "x" * 300}, "name must be one line of at most 200"),
    ],
)
def test_texts_are_one_line(loaded, options, message):
    with pytest.raises(ArgumentError, match=message):
        packed(loaded, train_size=(32, 32), **options)


def test_a_licence_is_needed(tmp_path):
    network = networks.NAFNet(3, 4, 1, [1], [1])
    loaded = LoadedNetwork(network, "NAFNet", {}, None, "tiny", None)
    with pytest.raises(ArgumentError, match="give --licence, such as MIT"):
        packed(loaded, train_size=(32, 32))


def test_a_network_that_does_not_load_back_is_refused():
    """The metadata of a checkpoint state what the weights are not."""
    network = oracles.randomise(networks.NAFNet(3, 4, 1, [1], [1]), seed=1)
    wrong = LoadedNetwork(network, "HINet", {}, None, "tiny", None)
    with pytest.raises(CheckpointError, match="tiny: would not load back: HINet cannot"):
        packed(wrong, train_size=(32, 32), licence="MIT")


def make():
    """A network that nobody knows."""
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3, affine=True))


def test_the_function_of_an_unknown_network_is_kept(tmp_path, monkeypatch):
    torch.save(make().state_dict(), tmp_path / "own.pth")
    function = f"{__name__.rpartition('.')[2]}:make"
    monkeypatch.setitem(sys.modules, function.partition(":")[0], sys.modules[__name__])
    loaded = networks.load_checkpoint(tmp_path / "own.pth", arch=function)
    found = packed(loaded, train_size=(16, 16), licence="MIT", arch=function)
    assert found.factory == function
    folder = written(tmp_path, found)
    assert networks.load_checkpoint(folder, arch=function).train_size == (16, 16)
    with pytest.raises(CheckpointError, match="unknown architecture 'Sequential'"):
        glocal.load(folder)


def test_a_network_of_spandrel_loads_back(spandrel, tmp_path):
    from spandrel.architectures.MixDehazeNet import MixDehazeNet

    network = MixDehazeNet(embed_dims=[8, 8, 8, 8, 8], depths=[1, 1, 1, 1, 1])
    torch.save(oracles.randomise(network, seed=3).state_dict(), tmp_path / "haze.pth")
    loaded = networks.load_checkpoint(tmp_path / "haze.pth")
    folder = written(tmp_path, packed(loaded, train_size=(256, 256), licence="MIT"))
    again = networks.load_checkpoint(folder)
    assert again.architecture == "MixDehazeNet"
    assert again.train_size == (256, 256)
    image = torch.rand(1, 3, 33, 47)
    with torch.no_grad():
        assert torch.equal(again.network(image), loaded.network(image))
