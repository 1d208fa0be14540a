"""Every architecture of spandrel, saved in six of the ways of training code, and loaded back."""

import argparse
import dataclasses
import functools
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from glocal import networks
from glocal.networks.checkpoints.external import Fitted

CASES_FILE = Path(__file__).parents[3] / "experiments" / "architectures" / "cases.py"
PLENTY = 4096


def cases():
    """The networks of the table of architectures, where needed as large as spandrel wants them."""
    spec = importlib.util.spec_from_file_location("spandrel_cases", CASES_FILE)
    sys.modules["spandrel_cases"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    detected = {
        "FBCNN": {"nc": [16, 32, 64, 512], "nb": 4},
        "GFPGAN": {"channel_multiplier": 2, "narrow": 1, "num_style_feat": 512},
    }
    return [
        dataclasses.replace(case, arguments=detected.get(case.name, case.arguments))
        for case in module.CASES
    ]


@pytest.fixture
def weights_of_the_file(monkeypatch):
    """Networks take the tensors of a file as they are, without random ones before and copies.

    Also those that repeat one number, which are refused otherwise.
    """
    monkeypatch.setattr("glocal.networks.checkpoints.precision._MOST_REPEATED", float("inf"))

    def unchanged(tensor, *args, **kwargs):
        return tensor

    for name in vars(nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(nn.init, name, unchanged)
    assigned = functools.partialmethod(nn.Module.load_state_dict, assign=True)
    monkeypatch.setattr(nn.Module, "load_state_dict", assigned)


def build_once(spandrel, identifier, monkeypatch):
    """Let spandrel build a network for the first file only; the others are loaded strictly."""
    import spandrel_extra_arches

    supports = (*spandrel.MAIN_REGISTRY, *spandrel_extra_arches.EXTRA_REGISTRY)
    architecture = next(s.architecture for s in supports if s.architecture.id == identifier)
    build, built = architecture.load, []

    def load(state_dict):
        if not built:
            built.append(build(state_dict))
        built[0].model.load_state_dict(state_dict)
        return built[0]

    monkeypatch.setattr(architecture, "load", load)


def small_numbers(network):
    """A state dict of values that bfloat16 holds; a large tensor has one, which is stored once."""
    values = {}  # of tensors, some of which have several names
    for i, tensor in enumerate(network.parameters()):
        if tensor.numel() > PLENTY:
            values[id(tensor)] = torch.tensor(float(i % 16)).expand(tensor.shape)
        else:
            numbers = torch.arange(tensor.numel()) % 13 + i % 3
            values[id(tensor)] = numbers.reshape(tensor.shape).float()
    # sizes are read from the values of buffers
    return {
        key: values[id(tensor)]
        if id(tensor) in values
        else as_bfloat16(tensor.detach()).to(tensor.dtype)
        for key, tensor in network.state_dict(keep_vars=True).items()
    }


def prefixed(prefix, state_dict):
    return {prefix + key: tensor for key, tensor in state_dict.items()}


def other(state_dict):
    return {
        key: tensor + 1 if tensor.numel() <= PLENTY else tensor
        for key, tensor in state_dict.items()
    }


def as_bfloat16(tensor):
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


def in_two_bytes(tensor):
    """A contiguous copy in bfloat16 of a tensor of `small_numbers`."""
    if not is_one_number(tensor):
        return as_bfloat16(tensor).clone().contiguous()
    return torch.full(tensor.shape, first(tensor).item(), dtype=torch.bfloat16)


def is_one_number(tensor):
    return tensor.numel() > PLENTY and not any(tensor.stride())


def first(tensor):
    return tensor.as_strided((1,), (1,), 0)


def equal(loaded, wanted):
    if is_one_number(wanted):  # the file has no other
        return loaded.shape == wanted.shape and torch.equal(first(loaded), first(wanted))
    return torch.equal(loaded, wanted)


def nested(state, folder):
    content = {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}
    torch.save(content, folder / "w.pth")
    return folder / "w.pth"


def averaged(state, folder):
    torch.save({"params": other(state), "params_ema": state}, folder / "w.pth")
    return folder / "w.pth"


def lightning(state, folder):
    weights = prefixed("model.net.", state) | {"perceptual_loss.vgg.0.weight": torch.ones(2, 2)}
    options = argparse.Namespace(lr=1e-4)
    torch.save({"state_dict": weights, "hyper_parameters": options}, folder / "w.ckpt")
    return folder / "w.ckpt"


def mmagic(state, folder):
    weights = prefixed("generator.", other(state)) | prefixed("generator_ema.", state)
    weights["step_counter"] = torch.tensor(7)
    torch.save({"meta": {}, "state_dict": weights}, folder / "w.pth")
    return folder / "w.pth"


def profiled(state, folder):
    counters = {"module._orig_mod.total_ops": torch.zeros(1), "n_averaged": torch.tensor(2)}
    torch.save(prefixed("module._orig_mod.", state) | counters, folder / "w.bin")
    return folder / "w.bin"


def sharded(state, folder):
    keys = list(state)
    shards = {"w-00001-of-00002": keys[::2], "w-00002-of-00002": keys[1::2]}
    for name, inside in shards.items():
        tensors = {key: in_two_bytes(state[key]) for key in inside}
        save_file(tensors, folder / f"{name}.safetensors")
    index = {key: f"{name}.safetensors" for name, inside in shards.items() for key in inside}
    (folder / "w.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_architecture_loads_from_six_kinds_of_files(
    case, spandrel, weights_of_the_file, monkeypatch, tmp_path
):
    build_once(spandrel, case.architecture, monkeypatch)
    state = small_numbers(case.build())
    for way in (nested, averaged, lightning, mmagic, profiled, sharded):
        folder = tmp_path / way.__name__
        folder.mkdir()
        network = networks.load(way(state, folder))
        if isinstance(network, Fitted):
            network = network.network
        loaded = network.state_dict()
        assert loaded.keys() == state.keys()
        assert [key for key in state if not equal(loaded[key], state[key])] == []
