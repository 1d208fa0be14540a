"""Pickles with objects of unknown classes, whose code never runs."""

import argparse
import collections
import enum
import functools
import os
import pathlib

import numpy as np
import pytest
import torch
from torch import nn

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.pickles import Placeholder, read_pickle


class Dictionary(dict):
    """As Lightning's and mmengine's options."""

    def __setattr__(self, name, value):
        self[name] = value
        super().__setattr__(name, value)


class List(list):
    pass


class Slots:
    __slots__ = ("a",)

    def __init__(self):
        self.a = 1


class Kind(enum.Enum):
    A = 1


class Evil:
    """Writes a file when it is unpickled in the usual way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"import pathlib; pathlib.Path({str(self.path)!r}).touch()",)


class Blocked:
    def __reduce__(self):
        return os.system, ("true",)


def options():
    dictionary = Dictionary(a=1)
    dictionary.b = Dictionary(c=2)
    return {
        "namespace": argparse.Namespace(lr=1, path=pathlib.Path("a")),
        "dictionary": dictionary,
        "list": List([1, 2]),
        "scores": collections.defaultdict(list, {"psnr": [np.float32(30.5)]}),
        "array": np.random.RandomState(0).get_state(),
        "slots": Slots(),
        "enum": Kind.A,
        "partial": functools.partial(max, 1),
        "function": nn.functional.relu,
    }


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", options())
def test_objects_beside_weights_do_not_prevent_reading_them(name, is_zip, tmp_path):
    content = {"state_dict": {"w": torch.ones(2)}, "other": options()[name]}
    torch.save(content, tmp_path / "w.ckpt", _use_new_zipfile_serialization=is_zip)
    read = read_pickle(tmp_path / "w.ckpt")
    assert torch.equal(read["state_dict"]["w"], torch.ones(2))


def test_classes_derived_from_containers_become_plain_ones(tmp_path):
    torch.save(Dictionary(a=List([torch.ones(1)]), b=Dictionary(c=2)), tmp_path / "w.pth")
    read = read_pickle(tmp_path / "w.pth")
    assert type(read["a"]) is list
    assert read["b"] == {"c": 2}


def test_no_code_of_the_file_runs(tmp_path):
    torch.save({"w": torch.ones(1), "evil": Evil(tmp_path / "touched")}, tmp_path / "w.pth")
    read = read_pickle(tmp_path / "w.pth")
    assert isinstance(read["evil"], Placeholder)
    assert not (tmp_path / "touched").exists()


class Method:
    def __reduce__(self):
        return pathlib.Path.cwd, ()


def test_methods_are_refused(tmp_path):
    torch.save({"w": torch.ones(1), "method": Method()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="without running code"):
        read_pickle(tmp_path / "w.pth")


def test_modules_that_torch_blocks_are_refused(tmp_path):
    torch.save({"w": torch.ones(1), "evil": Blocked()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        read_pickle(tmp_path / "w.pth")
    message = str(caught.value)
    assert "has a Python object (posix.system)" in message
    assert "save its state_dict()" in message


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_network_itself_is_refused(is_zip, tmp_path):
    from glocal.networks import load

    path = tmp_path / "w.pth"
    torch.save(nn.Conv2d(1, 1, 1), path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match="save its state_dict") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.script(nn.Conv2d(1, 1, 1)).save(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="is a TorchScript archive") as caught:
        read_pickle(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
