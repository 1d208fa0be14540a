"""The role of every node of a captured block, before anything is emitted."""

import pytest
import torch
import torch.nn.functional as F
from captured import capture_function, nodes_of
from torch import nn

import glocal
from glocal.conversion.rewrite.arguments import TooSmallError
from glocal.conversion.rewrite.classify import classify
from glocal.conversion.rewrite.nodes import operation
from glocal.conversion.rewrite.terms import Plain, statistics_in
from glocal.errors import ConversionError


def no_statistic(m, x):
    return m.wide(x).relu()


def gate(m, x):
    return x * m.conv(x.mean((2, 3), keepdim=True)).sigmoid()


def vector_gate(m, x):
    return x * m.fc(x.mean((2, 3))).sigmoid()[..., None, None]


def one_axis_after_the_other(m, x):
    return x + x.amax(3).amax(2)[..., None, None]


def instance_norm(m, x):
    return F.instance_norm(m.conv(x))


def variance(m, x):
    centred = x - x.mean((2, 3), keepdim=True)
    return centred * (centred.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()


def gate_then_pool(m, x):
    y = m.wide(gate(m, x))
    return y + y.mean((2, 3), keepdim=True)


def two_results(m, x):
    values, _ = x.flatten(2).max(-1)
    return x - values[..., None, None]


def context(m, x):
    weights = m.score(x).flatten(2).softmax(-1).transpose(1, 2)
    return x + (x.flatten(2) @ weights)[..., None]


def weighted_mean(m, x):
    b, _, h, w = x.shape
    weights = m.score(x).flatten(2).softmax(-1).view(b, 1, h, w)
    return x + (x * weights).sum((2, 3), keepdim=True)


def exponentials(m, x):
    powers = (x - x.amax((2, 3), keepdim=True)).exp()
    return x * ((powers * x).sum((2, 3), keepdim=True) / powers.sum((2, 3), keepdim=True))


def expanded(m, x):
    return torch.cat([x, F.adaptive_avg_pool2d(x, 1).expand_as(x)], 1)


def attention(m, x):
    t = m.conv(x).flatten(2).transpose(1, 2)
    out = (t @ t.transpose(1, 2)).softmax(-1) @ t
    return x + out.transpose(1, 2).reshape(x.shape)


def density(m, x):
    return x / (x.shape[2] * x.shape[3]) * x.sum((2, 3), keepdim=True)


ROLES = {
    no_statistic: "conv2d Ordinary, relu Ordinary",
    gate: "mean MapReduction, conv2d OnStatistics, sigmoid OnStatistics, mul Combined",
    vector_gate: "mean MapReduction, linear OnStatistics, sigmoid OnStatistics, "
    "unsqueeze OnStatistics, unsqueeze OnStatistics, mul Combined",
    one_axis_after_the_other: "amax HalfReduction, amax MapReduction, unsqueeze OnStatistics, "
    "unsqueeze OnStatistics, add Combined",
    instance_norm: "conv2d Ordinary, instance_norm Norm",
    variance: "mean MapReduction, sub Combined, square Combined, mean MapReduction, "
    "add OnStatistics, rsqrt OnStatistics, mul Combined",
    gate_then_pool: "mean MapReduction, conv2d OnStatistics, sigmoid OnStatistics, "
    "mul Combined, conv2d Ordinary, mean MapReduction, add Combined",
    two_results: "view Ordinary, max MapReduction, getitem Alias, unsqueeze OnStatistics, "
    "unsqueeze OnStatistics, sub Combined",
    context: "conv2d Ordinary, view Ordinary, softmax PixelSoftmax, transpose ViewedSoftmax, "
    "view Ordinary, unsqueeze Ordinary, unsqueeze ViewedSoftmax, mul ScaledSoftmax, "
    "sum MapReduction, unsqueeze OnStatistics, add Combined",
    weighted_mean: "conv2d Ordinary, view Ordinary, softmax PixelSoftmax, view ViewedSoftmax, "
    "mul ScaledSoftmax, sum MapReduction, add Combined",
    exponentials: "amax MapReduction, sub Combined, exp Combined, mul Combined, "
    "sum MapReduction, sum MapReduction, div OnStatistics, mul Combined",
    expanded: "adaptive_avg_pool2d MapReduction, expand Alias, cat Ordinary",
    attention: "conv2d Ordinary, view Ordinary, transpose Ordinary, transpose Ordinary, "
    "matmul InWindows, softmax InWindows, matmul InWindows, transpose InWindows, view InWindows, "
    "add Ordinary",
    density: "div Combined, sum MapReduction, mul Combined",
}


def roles_of(block):
    roles = classify(block).roles
    ordered = [n for n in block.graph.nodes if n in roles]
    return [f"{operation(n)} {type(roles[n]).__name__}" for n in ordered]


@pytest.mark.parametrize("function", ROLES, ids=lambda f: f.__name__)
def test_roles(function):
    assert roles_of(capture_function(function)) == ROLES[function].split(", ")


LAW = {
    gate: True,
    instance_norm: True,
    variance: True,
    context: True,
    no_statistic: False,  # a 3x3 convolution sees neighbours
    gate_then_pool: False,  # a statistic of a map that depends on a statistic
    attention: False,
}


@pytest.mark.parametrize("function", LAW, ids=lambda f: f.__name__)
def test_which_blocks_follow_the_law_of_windows(function):
    assert classify(capture_function(function)).follows_law_of_windows is LAW[function]


def test_a_statistic_is_a_map_only_while_every_operation_takes_a_map():
    for function, forms in (
        (gate, [True, True, True]),
        (vector_gate, [False] * 5),
        (variance, [True, False, False, False]),
    ):
        roles = classify(capture_function(function)).roles
        assert [r.form.is_map for r in roles.values() if hasattr(r, "form")] == forms


def test_a_reduction_knows_which_map_it_reduces():
    block = capture_function(variance)
    roles = classify(block).roles
    first, second = (roles[n] for n in nodes_of(block, "mean"))
    assert first.deferred is None
    assert {m for s in statistics_in(second.deferred) for m in s.maps} == {Plain(first.source)}
    assert second.form.map_size == (12, 16)


def test_classification_changes_nothing():
    block = capture_function(variance)
    before = str(block.graph)
    assert roles_of(block) == roles_of(block)
    assert str(block.graph) == before


def convolution_weights(m, x):
    b, c, h, w = x.shape
    weights = m.fc(x.mean((2, 3))).view(b * c, 1, 1, 1)
    folded = x.reshape(1, b * c, h, w)
    return F.conv_transpose2d(folded, weights, groups=b * c).view(b, c, h, w)


def ranked(m, x):
    return x.gather(1, x.mean((2, 3), keepdim=True).argsort(1).expand_as(x))


def over_the_batch(m, x):
    return x - x.mean((0, 2, 3), keepdim=True)


def attention_to_another_image(m, x):
    t = x.flatten(2)
    scores = (t @ t.transpose(1, 2)).softmax(-1).flip(0)
    return (scores @ t).reshape(x.shape)


def place_of_maximum(m, x):
    values, places = x.flatten(2).max(-1)
    return x * (values * places)[..., None, None]


def maximum_of_a_gated_map(m, x):
    return x + (x * x.mean((2, 3), keepdim=True)).sigmoid().amax((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (convolution_weights, "the global mean is used as convolution weights"),
        (ranked, "selects by the rank of the global mean"),
        (over_the_batch, "mean over the images of a batch"),
        (attention_to_another_image, "flip mixes or selects the images of a batch"),
        (place_of_maximum, "the position of the maximum"),
        (
            maximum_of_a_gated_map,
            "maximum of a map that combines pixels and global statistics by sigmoid",
        ),
    ],
)
def test_reasons_name_what_the_code_does(function, reason):
    with pytest.raises(ConversionError, match=reason) as raised:
        classify(capture_function(function))
    assert not isinstance(raised.value, TooSmallError)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: x.mean((2, 3)), "the global mean is returned by the block"),
        (lambda m, x: x.std((2, 3)), "the global standard deviation is returned by the block"),
        (lambda m, x: m.fc(x.amax((2, 3))), "the global maximum is returned by the block"),
    ],
)
def test_a_statistic_that_leaves_the_block_asks_for_a_larger_one(function, reason):
    with pytest.raises(TooSmallError, match=reason):
        classify(capture_function(function))


def test_a_pool_module_that_is_called_twice_follows_the_law_of_its_caller():
    class Variance(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            return self.pool((x - self.pool(x)) ** 2)

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.variance = Variance()

        def forward(self, x):
            return x * self.variance(x).sigmoid()

    local = glocal.localize(nn.Sequential(Gate()).double(), 8, window=8)
    x = torch.randn(1, 3, 11, 13, dtype=torch.float64)
    got = local(x)
    window = x[..., :8, :8]  # of pixel (0, 0)
    wanted = x[..., 0, 0] * window.var((2, 3), correction=0).sigmoid()
    torch.testing.assert_close(got[..., 0, 0], wanted, atol=1e-12, rtol=1e-12)
