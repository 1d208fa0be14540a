"""int, float and math.sqrt of a network's code keep symbolic numbers during a capture only."""

import builtins
import math

import torch
from torch import nn
from torch.export import Dim, export

from glocal.conversion.rewrite.symbolic_numbers import symbolic_numbers

HERE = globals()


class Sizes(nn.Module):
    def forward(self, x):
        b, c, h, w = map(int, x.shape)
        rows = int(h / 2)
        assert isinstance(rows, int | torch.SymInt)
        assert isinstance(int("3"), int)
        assert int == builtins.int  # noqa: E721
        return x.reshape(b, c, h * w).sum(2) / math.sqrt(w) / float(h) + 2 * rows


def test_sizes_stay_symbolic():
    net = Sizes()
    with symbolic_numbers(net), torch.no_grad():
        dynamic = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
        program = export(net, (torch.rand(2, 3, 8, 6),), dynamic_shapes=(dynamic,), strict=False)
    x = torch.rand(3, 3, 5, 7)
    torch.testing.assert_close(program.module()(x), net(x))


def test_the_names_are_put_back():
    division, index = torch.SymInt.__truediv__, torch.SymInt.__index__
    with symbolic_numbers(Sizes()):
        assert HERE["int"] is not builtins.int
        assert HERE["int"](2.5) == 2
    assert "int" not in HERE
    assert HERE["math"] is math
    assert (torch.SymInt.__truediv__, torch.SymInt.__index__) == (division, index)
