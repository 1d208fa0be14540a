"""Networks detected from the keys of a checkpoint.

More than 300 lines: tests mirror the modules, one file for each.
"""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

from glocal import networks
from glocal.errors import CheckpointError
from glocal.networks import load, load_checkpoint, loading
from glocal.networks.checkpoints.detect import ARCHITECTURES
from glocal.networks.checkpoints.files import read_checkpoint

SMALL = {
    "Baseline": {
        "img_channel": 3,
        "width": 4,
        "middle_blk_num": 1,
        "enc_blk_nums": [1, 2],
        "dec_blk_nums": [1, 1],
        "dw_expand": 1,
        "ffn_expand": 2,
    },
    "FFANet": {"gps": 3, "blocks": 1, "dim": 16},
    "HINet": {
        "in_chn": 3,
        "wf": 4,
        "depth": 3,
        "hin_position_left": 1,
        "hin_position_right": 2,
    },
    "MAXIM": {
        "features": 4,
        "depth": 1,
        "num_stages": 2,
        "num_groups": 1,
        "num_bottleneck_blocks": 1,
        "high_res_stages": 1,
        "block_size_hr": [4, 4],
        "block_size_lr": [2, 2],
        "grid_size_hr": [4, 4],
        "grid_size_lr": [2, 2],
    },
    "MPRNet": {
        "in_c": 3,
        "out_c": 3,
        "n_feat": 8,
        "scale_unetfeats": 4,
        "scale_orsnetfeats": 4,
        "num_cab": 1,
        "kernel_size": 3,
        "reduction": 4,
        "bias": False,
    },
    "NAFNet": {
        "img_channel": 3,
        "width": 4,
        "middle_blk_num": 1,
        "enc_blk_nums": [1, 2],
        "dec_blk_nums": [1, 1],
    },
    "Restormer": {
        "inp_channels": 3,
        "out_channels": 3,
        "dim": 8,
        "num_blocks": [1, 1, 1, 1],
        "num_refinement_blocks": 1,
        "heads": [1, 2, 4, 8],
        "ffn_expansion_factor": 2.66,
        "bias": False,
        "LayerNorm_type": "WithBias",
        "dual_pixel_task": False,
    },
}
NAMES = sorted(SMALL)


@pytest.fixture(autouse=True)
def without_spandrel(monkeypatch):
    """The networks are glocal's own; an import of spandrel takes seconds."""
    monkeypatch.setitem(sys.modules, "spandrel", None)


def build(name):
    """A small network whose every tensor matters to its output."""
    network = getattr(networks, name)(**SMALL[name]).eval()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.05 * torch.randn_like(tensor))
    return network


def prefixed(prefix, state_dict):
    return {prefix + key: tensor for key, tensor in state_dict.items()}


def same_output(a, b):
    x = torch.rand(1, 3, 13, 18)
    with torch.no_grad():
        return torch.equal(a(x), b(x))


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name, tmp_path):
    network = build(name)
    path = tmp_path / "some-weights.pth"
    torch.save({"params": network.state_dict()}, path)
    loaded = load_checkpoint(path)
    assert type(loaded.network) is type(network)
    assert loaded.architecture == name
    assert loaded.hyperparameters == SMALL[name]
    assert loaded.train_size == {"FFANet": (240, 240)}.get(name)
    assert loaded.task is None
    assert loaded.name == "some-weights"
    assert not loaded.network.training
    assert same_output(loaded.network, network)


@pytest.mark.parametrize("name", NAMES)
def test_each_state_dict_is_recognised_once(name):
    state_dict = build(name).state_dict()
    assert [a.name for a in ARCHITECTURES if a.recognises(state_dict)] == [name]


def test_architectures_are_listed_by_name():
    assert [a.name for a in ARCHITECTURES] == NAMES


def test_safetensors_header_is_believed(tmp_path):
    network = build("HINet")
    header = {
        "architecture": "HINet",
        "hyperparameters": json.dumps({**SMALL["HINet"], "relu_slope": 0.5}),
        "train_size": "64",
        "name": "my-hinet",
        "task": "deblurring",
    }
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path, metadata=header)
    loaded = load_checkpoint(path)
    assert loaded.network.down_path_1[0].relu_1.negative_slope == 0.5
    assert loaded.train_size == (64, 64)
    assert (loaded.name, loaded.task) == ("my-hinet", "deblurring")


@pytest.mark.parametrize("text", ["96x128", "[96, 128]", "(96, 128)", "96,128"])
def test_train_size_may_be_two_numbers(text, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(build("NAFNet").state_dict(), path, metadata={"train_size": text})
    assert load_checkpoint(path).train_size == (96, 128)


def test_safetensors_without_header_is_detected(tmp_path):
    network = build("Restormer")
    save_file(prefixed("module.", network.state_dict()), tmp_path / "w.safetensors")
    assert same_output(load(tmp_path / "w.safetensors"), network)


def test_tensors_that_safetensors_stores_once_are_shared_again(tmp_path):
    # MPRNet's activations share one weight, of which save_model keeps one name.
    network = build("MPRNet")
    save_model(network, tmp_path / "w.safetensors")
    found, _ = read_checkpoint(tmp_path / "w.safetensors")
    assert len(found) < len(network.state_dict())
    assert same_output(load(tmp_path / "w.safetensors"), network)


def test_half_precision_weights_load_in_float32(tmp_path):
    network = build("NAFNet").half()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    assert same_output(load(tmp_path / "w.pt"), network.float())


def test_loading_draws_no_random_numbers(tmp_path):
    torch.save(build("NAFNet").state_dict(), tmp_path / "w.pt")
    before = torch.get_rng_state()
    load(tmp_path / "w.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_embedded_models(tmp_path, monkeypatch):
    network = build("NAFNet")
    save_file(
        network.state_dict(),
        tmp_path / "sharp.safetensors",
        metadata={"train_size": "64", "task": "sharpening"},
    )
    (tmp_path / "sharp.md").write_text("a model card")
    monkeypatch.setattr(loading, "_weights_folder", lambda: tmp_path)
    assert networks.embedded_models() == {"sharp": {"train_size": "64", "task": "sharpening"}}
    assert same_output(networks.load("sharp"), network)
    loaded = networks.load_checkpoint("sharp")
    assert (loaded.name, loaded.train_size, loaded.task) == ("sharp", (64, 64), "sharpening")


def test_no_embedded_models(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_weights_folder", lambda: tmp_path / "nowhere")
    assert networks.embedded_models() == {}


def test_public_names_are_sorted_and_there():
    assert [name for name in networks.__all__ if not hasattr(networks, name)] == []
    constants = [name for name in networks.__all__ if name.isupper()]
    classes = [n for n in networks.__all__ if n[0].isupper() and not n.isupper()]
    functions = [name for name in networks.__all__ if name.islower()]
    assert networks.__all__ == sorted(constants) + sorted(classes) + sorted(functions)


@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
def test_numbers_of_numpy_are_read(core, tmp_path):
    """FFA-Net's training code keeps its scores beside the weights, in a file .pk."""
    path = tmp_path / "its_train_ffa.pk"
    weights = {f"module.{key}": value for key, value in build("FFANet").state_dict().items()}
    scores = {"max_psnr": np.mean([35.5]), "step": np.int64(3), "ssims": [np.float32(0.98)]}
    torch.save({**scores, "model": weights}, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    path.write_bytes(written.replace(b"cnumpy._core.", b"c" + core + b"."))
    assert load_checkpoint(path).architecture == "FFANet"


# --- what goes wrong -------------------------------------------------------------------------


def error_of(source):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(source)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


def test_unknown_name(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_weights_folder", lambda: tmp_path)
    first, second = error_of("nonesuch").splitlines()
    assert first == "nonesuch: neither a file nor a model (models: none)"
    assert second.startswith("`glocal models get NAME` fetches maxim-deblurring, ")
    save_file({"a": torch.ones(1)}, tmp_path / "sharp.safetensors")
    assert error_of("nonesuch").splitlines()[0].endswith("(models: sharp)")


def test_nothing_in_common(tmp_path):
    save_file({f"layer{i}.w": torch.ones(1) for i in range(5)}, tmp_path / "w.safetensors")
    message = error_of(tmp_path / "w.safetensors")
    assert f"matches no known network ({', '.join(NAMES)});" in message
    assert "its keys are layer0.w, layer1.w, layer2.w and 2 more" in message


@pytest.mark.parametrize("name", NAMES)
def test_closest_network_is_named(name, tmp_path):
    state_dict = build(name).state_dict()
    state_dict["prompt1.weight"] = state_dict["prompt2.weight"] = torch.ones(1)
    state_dict["prompt3.weight"] = torch.ones(1)
    torch.save(state_dict, tmp_path / "w.pth")
    first, second = error_of(tmp_path / "w.pth").splitlines()
    assert f"closest is {name}, with 9" in first
    assert second == "unexpected: prompt1.weight, prompt2.weight, prompt3.weight"


def test_missing_keys_are_named(tmp_path):
    state_dict = build("NAFNet").state_dict()
    del state_dict["ending.bias"]
    torch.save(state_dict, tmp_path / "w.pth")
    assert error_of(tmp_path / "w.pth").endswith("\nmissing: ending.bias")


def test_missing_landmark_is_named(tmp_path):
    # Without this key the file is not even recognised.
    state_dict = build("NAFNet").state_dict()
    del state_dict["intro.weight"]
    torch.save(state_dict, tmp_path / "w.pth")
    message = error_of(tmp_path / "w.pth")
    assert "closest is NAFNet" in message
    assert "missing: intro.weight" in message
    assert "different shape" not in message


def test_other_shapes_are_named(tmp_path):
    state_dict = build("NAFNet").state_dict()
    state_dict["ending.bias"] = torch.ones(5)
    torch.save(state_dict, tmp_path / "w.pth")
    assert error_of(tmp_path / "w.pth").endswith("\ndifferent shape: ending.bias")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"architecture": "UNet"},
            "unknown architecture 'UNet' in the metadata; known are Baseline",
        ),
        ({"architecture": "HINet"}, "the weights do not fit HINet, with 0% of the keys"),
        ({"hyperparameters": "width=4"}, "the hyperparameters in the metadata: is no JSON"),
        ({"hyperparameters": "[4]"}, "in the metadata: expected an object, got a list of 1"),
        ({"hyperparameters": '{"breadth": 4}'}, "in the metadata: NAFNet has no breadth"),
        (
            {"hyperparameters": json.dumps(SMALL["NAFNet"] | {"width": 8})},
            "different shape: intro.weight",
        ),
        ({"train_size": "large"}, "one or two integers from 1 to 65536, got 'large'"),
    ],
)
def test_wrong_metadata(header, message, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(build("NAFNet").state_dict(), path, metadata=header)
    assert message in error_of(path)
