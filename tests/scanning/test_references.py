"""Modules that a network calls through other references than its registered children."""

import collections
import functools
import types

import pytest
import torch
from torch import nn

import glocal
from glocal.errors import ConversionError, ScanError
from glocal.scanning.modules import clone, replace


class Base(nn.Module):
    """A convolution and an instance norm, which `setup` stores and `forward` calls."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)
        self.setup()

    def forward(self, x):
        return self.call(self.conv(x))


class Listed(Base):
    def setup(self):
        self.stored = [self.norm]

    def call(self, x):
        return self.stored[0](x)


class Nested(Base):
    def setup(self):
        self.stored = ({"a": (self.norm,)},)

    def call(self, x):
        return self.stored[0]["a"][0](x)


class Named(Base):
    def setup(self):
        self.stored = collections.namedtuple("Layers", "first")(self.norm)

    def call(self, x):
        return self.stored.first(x)


class InSet(Base):
    def setup(self):
        self.stored = {self.norm}

    def call(self, x):
        (norm,) = self.stored
        return norm(x)


class AsKey(InSet):
    def setup(self):
        self.stored = {self.norm: "first"}


class BoundMethod(Base):
    def setup(self):
        self.stored = self.norm.forward

    def call(self, x):
        return self.stored(x)


class BoundCall(BoundMethod):
    def setup(self):
        self.stored = self.norm.__call__


class Partial(BoundMethod):
    def setup(self):
        self.stored = functools.partial(torch.nn.Module.__call__, self.norm)


class Closure(BoundMethod):
    def setup(self):
        self.stored = lambda x: self.norm(x)


class Default(BoundMethod):
    def setup(self):
        self.stored = lambda x, norm=self.norm: norm(x)


class Helper:
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


class InObject(BoundMethod):
    def setup(self):
        self.stored = Helper(self.norm)


class Wrapped(Base):
    def setup(self):
        original = self.norm.forward

        @functools.wraps(original)
        def forward(x):
            return 2 * original(x)

        self.norm.forward = forward

    def call(self, x):
        return self.norm(x)


class Patched(Wrapped):
    def setup(self):
        def forward(self, x):
            return nn.InstanceNorm2d.forward(self, x).abs()

        self.norm.forward = types.MethodType(forward, self.norm)


class WholeForward(Wrapped):
    def setup(self):
        original = self.forward
        self.forward = lambda x: original(x)


class Compiled(Wrapped):
    def setup(self):
        self.norm = torch.compile(self.norm, backend="eager")


NETWORKS = [
    Listed, Nested, Named, InSet, AsKey, BoundMethod, BoundCall, Partial, Closure, Default,
    InObject, Wrapped, Patched, WholeForward,
    # torch 2.6 runs local operations outside the compiled graph
    pytest.param(Compiled, marks=pytest.mark.filterwarnings("ignore:Graph break:UserWarning")),
]  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_a_stored_module_becomes_local(network):
    torch.manual_seed(0)
    net = network().double().eval()
    small, large = (torch.rand(1, 3, *size).double() for size in ((24, 24), (24, 90)))
    changed = large.clone()
    changed[..., :20] *= 2
    with torch.no_grad():
        before = net(large)
        local = glocal.localize(net, 16, window=24)
        assert torch.allclose(local(small), net(small), rtol=0, atol=1e-12)
        far = (local(large) - local(changed))[..., 60:]
        assert far.abs().max() < 1e-9
        assert torch.equal(net(large), before)  # the original is as it was


def test_a_stored_method_that_a_replacement_lacks_is_refused_by_name():
    net = Base.__new__(Base)
    nn.Module.__init__(net)
    net.norm = nn.InstanceNorm2d(4)
    net.stored = net.norm.extra_repr
    with pytest.raises(ConversionError, match=r"attribute 'stored' .* stores the method 'extra_re"):
        replace(net, net.norm, nn.ReLU())
    assert isinstance(net.norm, nn.InstanceNorm2d)


def test_a_block_that_is_also_called_in_parts_is_not_replaced_in_silence():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(4, 4)

        def forward(self, x):
            return x * self.fc(self.pool(x).flatten(1))[..., None, None].sigmoid()

    class Net(Base):
        def setup(self):
            self.gate = Gate()

        def call(self, x):
            gate = self.gate.fc(self.gate.pool(x).flatten(1))
            return self.gate(x) * gate[..., None, None]

    torch.manual_seed(0)
    net = Net().double().eval()
    x = torch.rand(1, 3, 12, 100).double()
    y = x.clone()
    y[..., :10] *= 3
    try:
        local = glocal.localize(net, 16)
    except (ConversionError, ScanError):
        return
    with torch.no_grad():
        assert (local(x) - local(y))[..., 70:].abs().max() < 1e-9


def test_a_clone_refers_to_its_own_modules():
    net = Closure()
    copied = clone(net)
    (cell,) = copied.stored.__closure__
    assert cell.cell_contents is copied
    assert net.stored.__closure__[0].cell_contents is net


def test_a_clone_shares_what_refers_to_no_module():
    seen = []
    net = Base.__new__(Base)
    nn.Module.__init__(net)
    net.record = lambda x: seen.append(x)
    assert clone(net).record is net.record


def test_a_replaced_module_cannot_run_in_silence():
    net = nn.Sequential(nn.ReLU())
    old = net[0]
    replace(net, old, nn.GELU())
    with pytest.raises(ConversionError, match="calls the original ReLU"):
        old(torch.zeros(1))
