"""Copies that share parameters, hooks, and replacement of modules."""

import pytest
import torch
from torch import nn

from glocal.scanning.modules import clone, drop_hooks, replace, take_over
from glocal.scanning.sandbox import isolated_copy, keep_random_state, track_modules


class Block(nn.Module):
    """A module with an attribute that its forward may read."""

    def __init__(self, attribute=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.attribute = attribute

    def forward(self, x):
        return self.conv(x)


def test_a_clone_shares_parameters_and_buffers_but_no_modules():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    copy = clone(net)
    for key, value in copy.state_dict(keep_vars=True).items():
        assert value is net.state_dict(keep_vars=True)[key]
    assert not set(copy.modules()) & set(net.modules())


def test_a_clone_keeps_shared_modules_shared():
    shared = nn.Conv2d(3, 3, 1)
    copy = clone(nn.Sequential(shared, shared))
    assert copy[0] is copy[1]


def test_hooks_of_a_clone_record_for_the_user_until_they_are_dropped():
    class Recorder:
        def __init__(self):
            self.calls = 0

        def hook(self, *_):
            self.calls += 1

    net, recorder = Block(), Recorder()
    net.conv.register_forward_hook(recorder.hook)
    copy, x = clone(net), torch.zeros(1, 3, 2, 2)
    copy(x)
    assert recorder.calls == 1
    drop_hooks(copy)(x)
    assert recorder.calls == 1
    net(x)
    assert recorder.calls == 2


def test_an_isolated_copy_shares_parameters_and_has_buffers_of_its_own():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    copy = isolated_copy(net)
    assert copy.training
    assert copy[0].weight is net[0].weight
    copy[1].running_mean.add_(1)
    assert net[1].running_mean.tolist() == [0, 0, 0]


def test_tracked_modules_are_a_stack():
    net, paths, calls = nn.Sequential(Block()), [], []

    def on_call(path, args, kwargs):
        calls.append((path, list(paths), len(args), kwargs))

    track_modules(net, paths, on_call)
    net(torch.zeros(1, 3, 2, 2))
    assert calls == [
        ("", [""], 1, {}),
        ("0", ["", "0"], 1, {}),
        ("0.conv", ["", "0", "0.conv"], 1, {}),
    ]
    assert paths == []


def test_a_module_that_fails_leaves_the_stack():
    net, paths = nn.Sequential(Block()), []
    track_modules(net, paths)
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 7, 2, 2))
    assert paths == []


def test_the_random_state_is_restored():
    state = torch.random.get_rng_state()
    with keep_random_state():
        torch.rand(3)
    assert torch.random.get_rng_state().equal(state)


def test_replace_replaces_a_shared_module_at_all_its_paths():
    shared, new = nn.ReLU(), nn.GELU()
    net = nn.Sequential(shared, nn.Sequential(shared))
    assert replace(net, shared, new) is net
    assert net[0] is new
    assert net[1][0] is new
    assert replace(net, net, new) is new


def test_a_replacement_takes_over_hooks_and_mode():
    old, new, calls = nn.ReLU().eval(), nn.GELU(), []
    old.register_forward_hook(lambda *_: calls.append(1))
    assert take_over(new, old) is new
    new(torch.zeros(1))
    assert calls == [1]
    assert not new.training
