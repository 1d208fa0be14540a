"""Networks that take another path at other sizes: guarded, or refused, never another network."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from versions import needs_torch_2_7

import glocal
from glocal.errors import GlocalWarning
from glocal.scanning.example import scan_network


class Net(nn.Module):
    """Layers around a block that is rewritten."""

    def __init__(self, statistic):
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.statistic = statistic

    def forward(self, x):
        x = self.head(x)
        return self.tail(x * self.statistic(x, *x.shape[2:]))


def large(x, h, w):
    y = F.avg_pool2d(x, 2) if min(h, w) > 100 else x
    return y.std((2, 3), keepdim=True)


def pyramid(x, h, w):
    while min(x.shape[2:]) > 40:
        x = F.avg_pool2d(x, 2)
    return x.std((2, 3), keepdim=True)


def square(x, h, w):
    y = torch.cat([x, x.transpose(2, 3)])[:1] if h == w else x
    return y.mean((2, 3), keepdim=True)


def padded(x, h, w):
    return F.pad(x, (0, -w % 32, 0, -h % 32)).mean((2, 3), keepdim=True)


def odd(x, h, w):
    y = x[..., :-1] if w % 2 else x
    return y.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("statistic", [large, pyramid, square, padded, odd])
def test_the_result_is_that_of_the_original_where_windows_cover_the_map(statistic):
    torch.manual_seed(0)
    net = Net(statistic).double().eval()
    local = glocal.localize(net, 32, window=1024)
    for size in ((32, 32), (32, 96), (40, 44), (128, 160), (37, 61)):
        x = torch.rand(1, 3, *size).double()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", GlocalWarning)
            assert torch.allclose(local(x), net(x), rtol=0, atol=1e-9)


@needs_torch_2_7("min() of two sizes becomes a branch on which is smaller")
def test_another_path_is_taken_loudly():
    local = glocal.localize(Net(large).eval(), 32)
    with torch.no_grad():
        local(torch.zeros(1, 3, 64, 200))
        with pytest.warns(GlocalWarning, match="'the network' runs global here"):
            local(torch.zeros(1, 3, 128, 128))


def test_a_path_for_squares_does_not_prevent_a_scan():
    (row,) = glocal.scan(Net(square).eval(), 32).rows
    assert (row.status, row.feature) == ("local", (32, 32))


def test_global_operations_of_another_path_are_listed():
    def only_large(x, h, w):
        return x.amax((2, 3), keepdim=True) if min(h, w) > 100 else x.mean(1, keepdim=True)

    (row,) = glocal.scan(Net(only_large).eval(), 32).rows
    assert (row.operation, row.status) == ("amax", "global")
    assert "but not at the size of the scan" in row.how


def test_other_paths_are_known_by_module():
    class Block(nn.Module):
        def forward(self, x):
            return x.relu() if min(x.shape[2:]) > 100 else x.sigmoid()

    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Block()))
    found = scan_network(net, (32, 32), None)
    assert list(found.other_paths) == ["1.0"]
    assert found.other_path("1") == found.other_paths["1.0"]
    assert found.other_path("0") is None


def test_blocks_of_one_kind_are_compared_once_and_other_blocks_too():
    class Block(nn.Module):
        def __init__(self, threshold):
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(3, 3, 1))
            self.threshold = threshold

        def forward(self, x):
            return self.conv(x) if min(x.shape[2:]) > self.threshold else self.conv(x) + 1

    net = nn.Sequential(Block(0), Block(0), Block(100), Block(0))
    assert list(scan_network(net, (32, 32), None).other_paths) == ["2"]
