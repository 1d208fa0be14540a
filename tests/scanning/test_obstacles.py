"""What prevents a map in place of a statistic, in code that users write, and owners."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glocal.scanning.discover import scan_trace
from glocal.scanning.obstacles import owner


class Net(nn.Module):
    """A convolution, a pool, and a function of the pooled values and the map."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.function = function
        self.pixelwise = nn.Conv2d(8, 8, 1)
        self.padded = nn.Conv2d(8, 8, 1, padding=1)
        self.strided = nn.Conv2d(8, 8, 1, stride=2)
        self.wide = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.slope = nn.PReLU()

    def forward(self, x):
        x = self.conv(x)
        return self.function(self, x, x.mean((2, 3), keepdim=True))


def found(function):
    """The last operation over the map of 32x32 pixels."""

    def images(size, device):
        return (torch.zeros(1, 3, *size, device=device),)

    operations = scan_trace(Net(function).eval(), images, (32, 32)).operations
    return [operation for operation in operations if operation.feature == (32, 32)][-1]


def gate(net, x, s):
    return x * s.sigmoid()


def convolved(net, x, s):
    return x * net.pixelwise(net.slope(net.pixelwise(s).relu()))


def expanded(net, x, s):
    return x + s.expand_as(x)


def chunked(net, x, s):
    scale, shift = torch.cat([s, s * 2], 1).chunk(2, 1)
    return x * scale + shift


def summed(net, x, s):
    return x * s.sum(1, keepdim=True)


def detached(net, x, s):
    return x * s.detach().clone().float()


@pytest.mark.parametrize("function", [gate, convolved, expanded, chunked, summed, detached])
def test_code_that_accepts_a_map(function):
    assert found(function).obstacle is None


def flattened(net, x, s):
    return x * F.softmax(s.flatten(1), 1)[..., None, None]


def padded(net, x, s):
    return x * net.padded(s)[..., 1:2, 1:2]


def strided(net, x, s):
    return x * net.strided(s)


def wide(net, x, s):
    return x * net.wide(s)


def as_weights(net, x, s):
    return F.conv2d(x, s.expand(8, 8, 1, 1))


def computed_weights(net, x, s):
    return x * F.conv2d(s, net.pixelwise.weight * 2)


def normed(net, x, s):
    return x * net.norm(s)


def repeated(net, x, s):
    return x + s.repeat(1, 1, *x.shape[2:])


def of_smaller_map(net, x, s):
    return F.avg_pool2d(x, 2) * s


def of_two_maps(net, x, s):
    other = F.avg_pool2d(x, 2).mean((2, 3), keepdim=True)
    return x * torch.cat([s.narrow(1, 0, 4), other.narrow(1, 0, 4)], 1)


def shuffled(net, x, s):
    return x * s.flip(1)


def alone(net, x, s):
    return x


OBSTACLES = {
    flattened: "flatten (test_obstacles.py:NN) reshapes the statistic to (1, 8)",
    padded: "conv2d (test_obstacles.py:NN) reshapes the statistic to (1, 8, 3, 3)",
    strided: "convolves the statistic with padding or stride",
    wide: "convolves the statistic with a kernel that is not 1x1",
    computed_weights: "conv2d (test_obstacles.py:NN) convolves with weights that are computed",
    normed: "also returns values of the shape",
    repeated: "repeat (test_obstacles.py:NN) combines the statistic with a map, but not",
    of_smaller_map: "mul (test_obstacles.py:NN) combines the statistic with a map of another size",
    of_two_maps: "cat (test_obstacles.py:NN) combines the statistic with that of a map of another",
    shuffled: "flip (test_obstacles.py:NN) is not known to accept a map in place of the statistic",
    as_weights: "conv2d (test_obstacles.py:NN) combines the statistic with a map, but not",
    alone: "no later operation combines the statistic with a map",
}


@pytest.mark.parametrize("function", OBSTACLES, ids=lambda f: f.__name__)
def test_an_obstacle_names_the_code_that_causes_it(function):
    text = re.sub(r"(test_obstacles\.py:)\d+", r"\1NN", found(function).obstacle or "")
    assert OBSTACLES[function] in text


def test_a_statistic_without_keepdim():
    shape = found(lambda net, x, s: x * x.amax((2, 3))[..., None, None]).obstacle
    assert shape == "the statistic has the shape (1, 8) instead of (b, c, 1, 1)"


def test_a_statistic_that_the_network_returns():
    assert found(lambda net, x, s: (x * s, s)).obstacle == "the network returns the statistic"


def test_an_operation_that_computes_no_statistic():
    normed = found(lambda net, x, s: F.instance_norm(x)).obstacle
    assert normed == "it does not reduce the map to one value per channel"


def test_owner_is_the_smallest_module_around_the_operation_and_its_uses():
    assert owner(["a.b.pool"]) == "a.b.pool"
    assert owner(["a.b.pool", "a.b.gate.0", "a.b"]) == "a.b"
    assert owner(["a.b.pool", "a.bc"]) == "a"
    assert owner(["a.pool", "b"]) == ""
    assert owner([""]) == ""


def test_the_owner_of_a_gate_contains_its_convolutions_and_the_product():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.gate = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid())

        def forward(self, x):
            return x * self.gate(self.pool(x))

    def images(size, device):
        return (torch.zeros(1, 3, *size, device=device),)

    net = nn.Sequential(nn.Conv2d(3, 3, 1), Block(), nn.Conv2d(3, 3, 1))
    scan = scan_trace(net, images, (32, 32))
    (operation,) = scan.operations
    assert (operation.path, operation.owner) == ("1.pool", "1")
