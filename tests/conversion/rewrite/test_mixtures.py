"""Weighted sums of learned tensors: prompts, colour tables, mixed kernels."""

import pytest
import torch
import torch.nn.functional as F
from captured import capture_function, nodes_of
from meetings import assert_local_at_pixels, meeting
from torch import nn

from glocal.conversion.rewrite.classify import classify
from glocal.errors import ConversionError


def prompts():
    return {"fc": nn.Linear(4, 3), "prompt": nn.Parameter(torch.ones(1, 3, 4, 7, 5))}


def weights(net, x):
    return net.fc(x.mean((-2, -1))).softmax(1)


def prompt(net, x, w):
    b, _, h, w_ = x.shape
    repeated = net.prompt.unsqueeze(0).repeat(b, 1, 1, 1, 1, 1).squeeze(1)
    mixed = (w.unsqueeze(-1).unsqueeze(-1).unsqueeze(-1) * repeated).sum(1)
    return x * F.interpolate(mixed, (h, w_), mode="bilinear")


def prompt_by_einsum(net, x, w):
    mixed = torch.einsum("bl,lchw->bchw", w, net.prompt[0])
    return x + F.interpolate(mixed, x.shape[2:], mode="bicubic")


def prompt_by_matmul(net, x, w):
    return x + F.interpolate((w @ net.prompt.view(3, -1)).view(-1, 4, 7, 5), x.shape[2:])


def resized_first(net, x, w):
    resized = F.interpolate(net.prompt[0], x.shape[2:], mode="bilinear")
    return x + torch.einsum("bl,lchw->bchw", w, resized)


def tables():
    return {"fc": nn.Linear(3, 3), "table": nn.Parameter(torch.ones(3, 3, 4, 4, 4))}


def table(net, x, w):
    mixed = sum(w[:, i, None, None, None, None] * net.table[i] for i in range(3))
    places = (2 * x.sigmoid() - 1).movedim(1, -1).unsqueeze(1)
    return F.grid_sample(mixed, places, align_corners=True).squeeze(2)


def kernels():
    return {"fc": nn.Linear(4, 3), "kernel": nn.Parameter(torch.ones(3, 60, 4, 3, 3))}


def mixed_kernels(net, x, w):
    b, c, h, width = x.shape
    kernel = (w @ net.kernel.view(3, -1)).view(b * 60, c, 3, 3)
    return F.conv2d(x.view(1, -1, h, width), kernel, padding=1, groups=b).view(b, 60, h, width)


def matrices():
    return {"fc": nn.Linear(4, 3), "matrix": nn.Parameter(torch.ones(3, 300, 4))}


def mixed_matrices(net, x, w):
    mixed = torch.einsum("bl,lij->bij", w, net.matrix)
    return torch.einsum("bij,bjhw->bihw", mixed, x)


MIXTURES = {
    "mixed matrices": (mixed_matrices, matrices, 4),
    "prompt": (prompt, prompts, 4),
    "prompt by einsum": (prompt_by_einsum, prompts, 4),
    "prompt by matmul": (prompt_by_matmul, prompts, 4),
    "prompt resized first": (resized_first, prompts, 4),
    "colour table": (table, tables, 3),
    "mixed kernels": (mixed_kernels, kernels, 4),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_each_pixel_has_the_weights_of_its_window(name):
    meet, layers, channels = MIXTURES[name]
    assert_local_at_pixels(meeting(weights, meet, layers, channels))


PROMPT = torch.rand(1, 4, 7, 5)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda w: (w[..., None, None] * PROMPT).exp(),
        lambda w: w[..., None, None] * PROMPT + PROMPT,
        lambda w: (w[..., None, None] * PROMPT) ** 2,
        lambda w: (w * w)[..., None, None] * PROMPT - 1,
    ],
)
def test_what_is_not_linear_in_the_weights_is_refused(mixed):
    def function(m, x):
        return x + F.interpolate(mixed(m.fc(x.mean((2, 3)))), x.shape[2:], mode="bilinear")

    with pytest.raises(ConversionError, match="meets the map in upsample_bilinear2d"):
        classify(capture_function(function))


def test_a_square_of_weights_may_be_the_weights():
    def function(m, x):
        w = m.fc(x.mean((2, 3)))
        return x + F.interpolate((w * w)[..., None, None] * PROMPT, x.shape[2:], mode="bilinear")

    block = capture_function(function)
    (resize,) = nodes_of(block, "upsample_bilinear2d")
    role = classify(block).roles[resize]
    assert [str(role.mixture.weights.target)] == ["aten.mul.Tensor"]
    assert [str(step.target).split(".")[1] for step in role.mixture.steps][-1] == "mul"
