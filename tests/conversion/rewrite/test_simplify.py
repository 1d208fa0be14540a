"""Products with full tensors, and writes to whole tensors, in captured graphs."""

import pytest
import torch
from torch import nn

from glocal.conversion.rewrite.functional import decomposed
from glocal.conversion.rewrite.nodes import operation
from glocal.conversion.rewrite.simplify import simplify
from glocal.scanning.trace import quiet


class Mean(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        return (x.reshape(b, c, h * w) * torch.full((b, 1, h * w), 1 / (h * w))).sum(2)


class Ones(nn.Module):
    """The product is wider than its factors."""

    def forward(self, x):
        return x.mean((2, 3), keepdim=True) * torch.full(x.shape, 2.0)


class Wholes(nn.Module):
    """A full tensor of integers: the product has another type."""

    def forward(self, x):
        return (x > 0) * torch.full((1, 1, 1, 1), 3)


class Written(nn.Module):
    """Only a part is full."""

    def forward(self, x):
        weights = torch.full(x.shape, 2.0)
        weights[..., 0].zero_()
        return x * weights


class View(nn.Module):
    def forward(self, x):
        s = x.mean((2, 3))
        s[:, :, None, None].sigmoid_()
        return s


class Part(nn.Module):
    def forward(self, x):
        s = x.mean((2, 3))
        s[:, 1:].sigmoid_()
        return s


def graph_of(module):
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    with quiet():  # torch's own warnings
        given = (torch.rand(2, 3, 6, 8),)
        program = torch.export.export(module, given, dynamic_shapes=(dynamic,), strict=False)
        return decomposed(program).graph_module


@pytest.mark.parametrize(
    ("module", "gone"),
    [
        (Mean, ["full"]), (Ones, []), (Wholes, []), (Written, []), (View, ["slice_scatter"]),
        (Part, []),
    ],
)  # fmt: skip
def test_simple_forms_compute_the_same(module, gone):
    made = graph_of(module())
    before = {operation(node) for node in made.graph.nodes}
    simplify(made.graph)
    made.recompile()
    after = {operation(node) for node in made.graph.nodes}
    assert before - after >= set(gone)
    assert gone or before == after
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(made(x.clone())[0], module()(x.clone()))
