"""Functions of a map as people write them: made local, or left global with a reason."""

import oracles
import pytest
import torch
import versions
from hand_written import GLOBAL, REFUSED, Net, classifier, fourier, top_k
from oracles.idioms import by_windows
from torch import nn

import glocal


@pytest.mark.slow
@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_operations_without_a_local_form_have_a_reason_and_raise(function):
    net = Net(function)
    plan = glocal.scan(net, 64)
    assert plan.rows
    assert all(row.status == "global" and row.how for row in plan.rows)
    with pytest.raises(glocal.ConversionError, match=r"(?s)cannot be made local: .*allow_global"):
        glocal.localize(net, 64)
    kept = glocal.localize(net, 64, allow_global=True)
    x = torch.randn(2, 3, 128, 64)
    assert torch.equal(kept(x), net(x))


@pytest.mark.parametrize(
    "function", [f for f in GLOBAL if f not in REFUSED], ids=lambda f: f.__name__
)
def test_other_operations_are_rewritten(function):
    if function is fourier and versions.torch_2_6:
        pytest.skip("torch 2.6 cannot capture it")
    net = Net(function).double().eval()
    local = glocal.localize(net, 64, window=24)
    assert {row.status for row in glocal.plan_of(local).rows} == {"local"}
    small, large = (0.05 * torch.randn(2, 3, *size).double() for size in ((24, 24), (72, 64)))
    with torch.no_grad():
        torch.testing.assert_close(local(small), net(small), rtol=1e-9, atol=1e-12)
        assert not torch.allclose(local(large), net(large), rtol=1e-5, atol=1e-9)


def test_each_kind_has_its_reason():
    how = {f: glocal.scan(Net(f), 64).rows[0].how for f in REFUSED}
    assert "selects" in how[top_k]
    assert "is returned by the block" in how[classifier]


class _Centred(nn.Module):
    """A hand-written norm, which is a module of its own."""

    def forward(self, x):
        x = x - x.mean((2, 3), keepdim=True)
        return x / (x.std((2, 3), keepdim=True) + 1e-3)


class _NormThenGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = _Centred()

    def gate(self, y):
        return y * y.relu().mean((2, 3), keepdim=True)

    def forward(self, x):
        return self.gate(self.norm(x))


def test_what_follows_a_module_reduces_its_local_result():
    net, window = _NormThenGate().double(), (9, 11)
    local = glocal.localize(net, 16, window=window, example=torch.rand(1, 3, 16, 16).double())
    x = oracles.ramp_noise(1, 3, 20, 24).double()
    with torch.no_grad():
        normed = by_windows(net.norm, x, window)
        wanted = by_windows(net.gate, normed, window)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-9)
