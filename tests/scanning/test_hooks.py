"""Hooks in a scan: what changes values is listed, and what records is left alone."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import glocal
from glocal.errors import ConversionError

SEEN = []


def gate(module, args, out):
    return out * out.mean((2, 3), keepdim=True)


def gate_input(module, args):
    return (args[0] * args[0].amax((2, 3), keepdim=True),)


def gate_in_place(module, args, out):
    out *= out.mean((2, 3), keepdim=True)


def record(module, args, out):
    SEEN.append(float(out.mean()))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    "register",
    [
        lambda conv: conv.register_forward_hook(gate),
        lambda conv: conv.register_forward_hook(gate_in_place),
        lambda conv: conv.register_forward_pre_hook(gate_input),
        lambda conv: conv.register_forward_hook(
            lambda m, args, kwargs, out: gate(m, args, out), with_kwargs=True
        ),
    ],
)
def test_a_statistic_in_a_hook_is_listed(register):
    net = Net().eval()
    register(net.conv)
    with pytest.raises(ConversionError, match=r"in 'conv' \(test_hooks.py:\d+\): .* forward hook"):
        glocal.localize(net, 16)


def test_a_statistic_in_a_hook_of_all_modules_is_listed():
    net = Net().eval()
    handle = register_module_forward_hook(
        lambda m, args, out: gate(m, args, out) if isinstance(m, nn.Conv2d) else None
    )
    try:
        with pytest.raises(ConversionError, match="forward hook"):
            glocal.localize(net, 16)
    finally:
        handle.remove()


class Recorder:
    def __init__(self):
        self.seen = []

    def hook(self, module, args, out):
        self.seen.append(out)


def test_hooks_that_record_are_harmless_and_record_nothing_of_a_scan():
    net, kept, recorder = Net().eval(), [], Recorder()
    count = torch.zeros(())
    net.conv.register_forward_hook(lambda m, args, out: kept.append(out))
    net.conv.register_forward_hook(recorder.hook)
    net.conv.register_forward_hook(record)
    net.norm.register_forward_hook(lambda m, args, out: count.add_(1) and None)
    SEEN.clear()
    local = glocal.localize(net, 16)
    assert (kept, recorder.seen, SEEN, float(count)) == ([], [], [], 0)
    with torch.no_grad():
        local(torch.rand(1, 3, 16, 16))
    assert len(kept) == len(recorder.seen) == len(SEEN) == 1


def test_a_block_with_a_changing_hook_inside_is_not_rewritten():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.conv.register_forward_hook(lambda m, args, out: out + 1)

        def forward(self, x):
            return self.conv(x) * x.std((2, 3), keepdim=True)

    with pytest.raises(ConversionError, match="a forward hook of 'conv' changes values"):
        glocal.localize(Block().eval(), 16)


def test_values_that_leave_torch_are_listed():
    class InNumpy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            x = self.conv(x)
            mean = x.detach().numpy().mean((2, 3), keepdims=True)
            return x * torch.from_numpy(mean)

    (row,) = glocal.scan(InNumpy().eval(), 16).rows
    assert (row.operation, row.status) == ("numpy", "global")
    assert row.line.startswith("test_hooks.py:")
