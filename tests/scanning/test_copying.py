"""Copies of modules with values that `copy.deepcopy` refuses."""

import logging
import threading

import pytest
import torch
from torch import nn

from glocal.scanning.copying import deep_copy, own_tensors
from glocal.scanning.modules import clone


class Holder(nn.Module):
    """A module that stores a value."""

    def __init__(self, value):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.value = value


class Cache:
    """An object with a lock and a list."""

    def __init__(self):
        self.lock, self.items = threading.Lock(), []


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        lambda: (n for n in range(3)),
        lambda: open(__file__),  # noqa: SIM115
        lambda: logging.getLogger("glocal.test"),
    ],
    ids=["lock", "generator", "file", "logger"],
)
def test_what_cannot_be_copied_is_shared(make):
    value = make()
    assert clone(Holder(value)).value is value
    inside = clone(Holder({"value": [value]}))
    assert inside.value["value"][0] is value
    if hasattr(value, "close"):
        value.close()


def test_an_object_with_a_lock_is_copied_around_the_lock():
    holder = Holder(Cache())
    copy = clone(holder)
    copy.value.items.append(1)
    assert holder.value.items == []
    assert copy.value.lock is holder.value.lock


def test_tensors_of_autograd_are_shared_by_a_clone_and_detached_in_an_own_copy():
    holder = Holder([torch.ones(2, requires_grad=True) * 2])
    assert clone(holder).value[0] is holder.value[0]
    own = own_tensors(holder)
    assert own.value[0] is not holder.value[0]
    assert own.value[0].is_leaf
    assert own.conv.weight is not holder.conv.weight
    assert isinstance(own.conv.weight, nn.Parameter)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_style_weight_norm_after_a_call_has_a_clone():
    net = nn.utils.weight_norm(nn.Linear(2, 2))
    net(torch.zeros(1, 2))
    copy = clone(net)
    assert copy.weight_g is net.weight_g
    assert copy(torch.ones(1, 2)).equal(net(torch.ones(1, 2)))


def test_tied_tensors_stay_tied_in_an_own_copy():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    own = own_tensors(net)
    assert own[1].weight is own[0].weight


def test_containers_that_contain_themselves_and_modules_in_lists():
    value = [nn.ReLU()]
    value.append(value)
    holder = Holder(value)
    copy = deep_copy(holder, {})
    assert copy.value[1] is copy.value
    assert copy.value[0] is not holder.value[0]
