"""Modules that compute the same have equal fingerprints; all others have not."""

import functools
import threading

import numpy as np
import pytest
import torch
from torch import nn

from glocal.scanning.fingerprint import fingerprint, value_key


class Block(nn.Module):
    """A module with an attribute that its forward may read."""

    def __init__(self, attribute=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.attribute = attribute


class Options:
    """A plain object whose text does not show its values."""

    def __init__(self, how):
        self.how = how

    def __repr__(self):
        return "Options()"


def closure(n):
    return lambda x: x + n


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ([1.0, 2.0], [1.0, 2.0000001]),
        ("a", "b"),
        ([torch.tensor(0.123451)], [torch.tensor(0.123452)]),
        ([torch.zeros(2000)], [torch.zeros(2000).index_fill(0, torch.tensor(1000), 1.0)]),
        (np.arange(2000), np.arange(2000) + (np.arange(2000) == 1000)),
        (np.array([1 / 3]), np.array([1 / 3 + 1e-12])),
        (closure(1), closure(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules_with_different_attributes_have_different_fingerprints(one, other):
    assert fingerprint(Block(one)) != fingerprint(Block(other))


@pytest.mark.parametrize(
    "make", [lambda: 1, lambda: [1.5, "a"], lambda: np.arange(2000), lambda: {"k": (1, 2)}]
)
def test_modules_with_equal_attributes_have_equal_fingerprints(make):
    assert fingerprint(Block(make())) == fingerprint(Block(make()))


def test_fingerprints_ignore_values_of_parameters_but_not_shapes_or_mode():
    assert fingerprint(Block()) == fingerprint(Block())
    assert fingerprint(nn.Linear(2, 3)) != fingerprint(nn.Linear(3, 2))
    assert fingerprint(Block()) != fingerprint(Block().double())
    assert fingerprint(Block().train()) != fingerprint(Block().eval())


def shifted(n):
    def shift(x, by=n):
        return x + by

    return shift


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Options("mul"), Options("add")),
        ([Options([1])], [Options([2])]),
        (1, True),
        (0.0, -0.0),
        (shifted(1), shifted(2)),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (Options(1).__repr__, Options(2).__repr__),
        (threading.Lock(), threading.Lock()),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (torch.ones(2), torch.ones(2).double()),
        (nn.Linear(2, 2), nn.Linear(2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_may_differ_have_different_keys(one, other):
    assert value_key(one) != value_key(other)
    assert fingerprint(Block(one)) != fingerprint(Block(other))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Options({"how": [1, 2.5, None]}),
        lambda: shifted(3),
        lambda: functools.partial(max, 1),
        lambda: torch.arange(4),
        lambda: Options(float("nan")),
        lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
        lambda: {1, 2, "a"},
    ],
)
def test_values_of_equal_parts_have_equal_keys(make):
    assert fingerprint(Block(make())) == fingerprint(Block(make()))


def test_a_value_may_contain_itself():
    def loop():
        value = []
        value.append(value)
        return value

    assert fingerprint(Block(loop())) == fingerprint(Block(loop()))


def test_fingerprints_distinguish_tied_parameters_and_shared_modules():
    def pair(shared):
        one = nn.Linear(2, 2)
        return nn.Sequential(one, one if shared else nn.Linear(2, 2))

    def tied(shared):
        net = pair(False)
        if shared:
            net[1].weight = net[0].weight
        return net

    assert fingerprint(pair(True)) == fingerprint(pair(True))
    assert fingerprint(pair(True)) != fingerprint(pair(False))
    assert fingerprint(tied(True)) == fingerprint(tied(True))
    assert fingerprint(tied(True)) != fingerprint(tied(False))
