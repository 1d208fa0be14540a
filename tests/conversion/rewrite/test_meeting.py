"""Predicted matrices and filters: each pixel has that of its own window."""

import pytest
import torch
import torch.nn.functional as F
from captured import capture_function, nodes_of
from meetings import assert_local_at_pixels, meeting, rewritten
from torch import nn

from glocal.conversion.rewrite.classify import classify
from glocal.conversion.rewrite.meeting import filter_of, product_of
from glocal.errors import ConversionError


def colour(rows, columns):
    return lambda: {"fc": nn.Linear(3, rows * columns), "basis": nn.Parameter(torch.ones(4, 3, 3))}


def matrix(net, x):
    return net.fc(x.tanh().mean((2, 3))).view(-1, 3, 3)


def affine(net, x):
    return net.fc(x.std((2, 3))).view(-1, 3, 4)


def vector(net, x):
    return net.fc(x.amax((2, 3)))


def homogeneous(net, x, m):
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    return torch.einsum("bij,bjhw->bihw", m, x)


def by_tokens(net, x, m):
    b, c, h, w = x.shape
    tokens = x.permute(0, 2, 3, 1).reshape(b, h * w, c)
    return (tokens @ m).reshape(b, h, w, c).permute(0, 3, 1, 2)


def by_group_convolution(net, x, m):
    b, c, h, w = x.shape
    folded = x.reshape(1, b * c, h, w)
    return F.conv2d(folded, m.reshape(b * 3, 3, 1, 1), groups=b).view(b, 3, h, w)


def by_heads(net, x, m):
    b, c, h, w = x.shape
    values = x.repeat(1, 2, 1, 1).reshape(b, 2, 3, h * w)
    return (m.unsqueeze(1).softmax(-1) @ values).sum(1).reshape(b, c, h, w)


MATRICES = {
    "einsum": (matrix, lambda net, x, m: torch.einsum("bij,bjhw->bihw", m, x), 9),
    "einsum, map first": (matrix, lambda net, x, m: torch.einsum("nchw, nkc -> nkhw", x, m), 9),
    "einsum, ellipsis": (matrix, lambda net, x, m: torch.einsum("bij,bj...->bi...", m, x), 9),
    "einsum, channels last": (
        matrix,
        lambda net, x, m: torch.einsum("bhwi,bij->bhwj", x.movedim(1, -1), m).movedim(-1, 1),
        9,
    ),
    "einsum of three": (
        lambda net, x: net.fc(x.mean((2, 3))).softmax(-1),
        lambda net, x, w: torch.einsum("bk,kij,bjhw->bihw", w, net.basis, x),
        4,
    ),
    "matmul": (matrix, lambda net, x, m: (m.softmax(-1) @ x.flatten(2)).view_as(x), 9),
    "bmm": (matrix, lambda net, x, m: torch.bmm(m, x.view(*x.shape[:2], -1)).view(x.shape), 9),
    "row vectors": (matrix, lambda net, x, m: (x.movedim(1, -1) @ m[:, None]).movedim(-1, 1), 9),
    "column vectors": (
        matrix,
        lambda net, x, m: (m[:, None, None] @ x.movedim(1, -1)[..., None])[..., 0].movedim(-1, 1),
        9,
    ),
    "tokens": (matrix, by_tokens, 9),
    "heads": (matrix, by_heads, 9),
    "grouped convolution": (matrix, by_group_convolution, 9),
    "affine": (
        affine,
        lambda net, x, m: (m[:, :, :3] @ x.flatten(2) + m[:, :, 3:]).view_as(x).sigmoid(),
        12,
    ),
    "baddbmm": (
        affine,
        lambda net, x, m: torch.baddbmm(m[:, :, 3:], m[:, :, :3], x.flatten(2)).view_as(x),
        12,
    ),
    "homogeneous": (affine, homogeneous, 12),
    "scores": (vector, lambda net, x, v: x * torch.einsum("bc,bchw->bhw", v, x)[:, None], 3),
    "outer product": (
        vector,
        lambda net, x, v: ((v[:, :, None] @ v[:, None]).softmax(-1) @ x.flatten(2)).view_as(x),
        3,
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_for_each_pixel(name):
    statistic, meet, values = MATRICES[name]
    assert_local_at_pixels(meeting(statistic, meet, colour(values, 1), channels=3))


def taps(number):
    return lambda: {"conv": nn.Conv2d(4, number, 1), "norm": nn.BatchNorm2d(number)}


def predicted(net, x):
    return net.norm(net.conv(F.adaptive_avg_pool2d(x, 1)))


def blur(act, kernel=3, dilation=1, mode="reflect"):
    """Filter two groups of channels with predicted taps, as patches times taps."""

    def meet(net, x, f):
        b, c, h, w = x.shape
        border = dilation * (kernel - 1) // 2
        padded = F.pad(x, [border] * 4, mode=mode)
        patches = F.unfold(padded, kernel, dilation=dilation)
        patches = patches.reshape(b, 2, c // 2, kernel**2, h * w)
        p, q = f.shape[2:]
        weights = act(f.reshape(b, 2, kernel**2, p * q).unsqueeze(2))
        low = (patches * weights).sum(3).reshape(b, c, h, w)
        return low + 2 * (x - low)

    return meet


def blur_by_einsum(net, x, f):
    b, c, h, w = x.shape
    patches = F.unfold(x, 3, padding=1).view(b, 2, 2, 9, h * w)
    return torch.einsum("ngckl,ngk->ngcl", patches, f.view(b, 2, 9)).reshape(b, c, h, w)


def strips(net, x, f):
    b, c, h, w = x.shape
    patches = F.unfold(nn.ReflectionPad2d((1, 1, 0, 0))(x), (1, 3)).view(b, 2, 2, 3, h, w)
    return (patches * f.view(b, 2, 1, 3, 1, 1).tanh()).sum(3).reshape(b, c, h, w)


def shifts(net, x, f):
    w = x.shape[3]
    padded, f = F.pad(x, (1, 1, 0, 0), mode="replicate"), f.view(-1, 4, 3, 1, 1)
    return sum(padded[..., j : j + w] * f[:, :, j] for j in range(3))


def depthwise(net, x, f):
    b, c, h, w = x.shape
    padded = F.pad(x.reshape(1, b * c, h, w), (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, f.view(b * c, 1, 3, 3), groups=b * c).view(b, c, h, w)


def depthwise_with_bias(net, x, f):
    b, c, h, w = x.shape
    weight, bias = f[:, :12].reshape(b * c, 1, 3, 1), f[:, 12:].reshape(-1)
    folded = x.reshape(1, -1, h, w)
    return F.conv2d(folded, weight, bias, padding=(2, 0), dilation=2, groups=b * c).view_as(x)


def dense(net, x, f):
    b, _, h, w = x.shape
    folded, weight = x.view(1, -1, h, w), f.reshape(b * 3, 4, 3, 3)
    return F.conv2d(folded, weight, padding=1, groups=b).reshape(b, 3, h, w)


def same_padding(net, x, f):
    b, c, h, w = x.shape
    folded = x.view(1, b * c, h, w)
    weight = f.view(b * c, 1, 3, 3)
    return F.conv2d(folded, weight, padding="same", dilation=2, groups=b * c).view(b, c, h, w)


FILTERS = {
    "same padding": (same_padding, 36),
    "softmax of patches": (blur(lambda f: f.softmax(-2)), 18),
    "tanh, dilated": (blur(torch.tanh, dilation=2), 18),
    "five by five": (blur(torch.sigmoid, 5, mode="replicate"), 50),
    "einsum of patches": (blur_by_einsum, 18),
    "strips": (strips, 6),
    "shifted maps": (shifts, 12),
    "depthwise": (depthwise, 36),
    "depthwise with bias": (depthwise_with_bias, 16),
    "dense": (dense, 108),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_for_each_pixel(name):
    meet, number = FILTERS[name]
    assert_local_at_pixels(meeting(predicted, meet, taps(number)))


def test_gradients_of_matrices_and_filters():
    def meet(net, x, f):
        return torch.einsum(
            "bij,bjhw->bihw", f[:, :16].view(-1, 4, 4), depthwise(net, x, f[:, 16:].contiguous())
        )

    local = rewritten(meeting(predicted, meet, taps(52)))
    x = torch.randn(1, 4, 7, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: local(x)[..., ::3, ::3], (x,), fast_mode=True)


def test_matrices_of_too_many_values_are_refused():
    def wide(m, x):
        large = m.fc(x.mean((2, 3))).repeat(1, 400).exp().view(-1, 400, 4)
        return torch.einsum("bij,bjhw->bihw", large, x)

    with pytest.raises(ConversionError, match="a matrix of 1600 values, which depend on stat"):
        classify(capture_function(wide))


def test_attention_is_no_product_of_a_map_and_a_statistic():
    block = capture_function(lambda m, x: torch.einsum("bchw,bdhw->bcd", m.conv(x), x))
    assert all(
        product_of(block, node) is None for node in block.graph.nodes if node in block.shapes
    )


def test_learned_weights_are_no_filter():
    block = capture_function(lambda m, x: m.wide(x) * x.mean((2, 3), keepdim=True))
    (node,) = nodes_of(block, "conv2d")
    assert filter_of(block, node) is None


def test_filters_of_too_many_values_are_refused():
    def meet(net, x, f):
        b, _, h, w = x.shape
        weight = f.repeat(1, 60, 1, 1).exp().reshape(b * 60, 4, 3, 3)
        return F.conv2d(x.view(1, -1, h, w), weight, padding=1, groups=b).reshape(b, 60, h, w)

    with pytest.raises(ConversionError, match="mean is used as convolution weights"):
        rewritten(meeting(predicted, meet, taps(36)))
