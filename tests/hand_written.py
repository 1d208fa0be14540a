"""Networks around one function of a map, as people write them."""

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """A network around one function of a map; no rule matches it."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.function = function
        self.linear = nn.Linear(8, 8)
        self.cells = nn.Linear(64, 64)

    def forward(self, x):
        return self.function(self, self.conv(x))


def gate_by_mean(net, x):
    return x * x.mean((2, 3), keepdim=True)


def gate_by_two_means(net, x):
    return x * x.mean(3).mean(2)[..., None, None]


def gate_by_sum(net, x):
    return x * (x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3]))


def gate_by_full_pool(net, x):
    return x * F.avg_pool2d(x, x.shape[2:])


def gate_by_linear(net, x):
    return x * net.linear(x.mean((2, 3)))[..., None, None]


def gate_by_adaptive_pool_to_seven(net, x):
    return x * F.adaptive_avg_pool2d(x, 7).mean((2, 3), keepdim=True)


def gate_by_deviation(net, x):
    return x * x.std((2, 3), keepdim=True)


def gate_by_flat_norm(net, x):
    return F.normalize(x.flatten(2), dim=-1).view_as(x)


def instance_norm(net, x):
    return F.instance_norm(x)


def group_norm(net, x):
    return F.group_norm(x, 2)


def hand_written_norm(net, x):
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / centred.square().mean((2, 3), keepdim=True).sqrt()


def channel_attention(net, x):
    q = x.flatten(2)
    return ((q @ q.transpose(1, 2)).softmax(-1) @ q).view_as(x)


def einsum_attention(net, x):
    gram = torch.einsum("bchw,bdhw->bcd", x, x).softmax(-1)
    return torch.einsum("bcd,bdhw->bchw", gram, x)


def non_local(net, x):
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).reshape(x.shape)


def context_block(net, x):
    weights = x[:, :1].flatten(2).softmax(-1)
    return x + (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)


def grid_mixing(net, x):
    b, c, h, w = x.shape
    cells = x.view(b, c, 8, h // 8, 8, w // 8).permute(0, 1, 3, 5, 2, 4).reshape(b, c, -1, 64)
    mixed = net.cells(cells).view(b, c, h // 8, w // 8, 8, 8)
    return mixed.permute(0, 1, 4, 2, 5, 3).reshape(x.shape)


def fourier(net, x):
    spectrum = torch.fft.rfft2(x)
    return torch.fft.irfft2(spectrum * spectrum.abs().tanh(), s=x.shape[2:])


def top_k(net, x):
    return x * x.flatten(2).topk(4).values.mean(-1)[..., None, None]


def one_axis(net, x):
    return x * x.mean(3, keepdim=True)


def in_place(net, x):
    x *= x.amax((2, 3), keepdim=True)
    return x


def halves_exchanged(net, x):
    top, bottom = x.chunk(2, 2)
    return torch.cat([bottom, top], 2)


def mirrored(net, x):
    return x + x.flip(3)


def pool_of_half(net, x):
    return x - F.avg_pool2d(x, x.shape[2] // 2 + 1, 1, x.shape[2] // 4)


def mean_of_half(net, x):
    return x * x[..., : x.shape[3] // 2].mean((2, 3), keepdim=True)


def first_row(net, x):
    return x - x[:, :, :1]


def classifier(net, x):
    return net.linear(x.mean((2, 3)))


GLOBAL = {
    gate_by_mean: {"mean": "statistic"},
    gate_by_two_means: {"mean": "statistic"},
    gate_by_sum: {"sum": "statistic"},
    gate_by_full_pool: {"avg_pool2d": "statistic"},
    gate_by_linear: {"mean": "statistic"},
    gate_by_adaptive_pool_to_seven: {"adaptive_avg_pool2d": "grid"},
    gate_by_deviation: {"std": "statistic"},
    gate_by_flat_norm: {"normalize": "statistic"},
    instance_norm: {"instance_norm": "mixing"},
    group_norm: {"group_norm": "mixing"},
    hand_written_norm: {"mean": "statistic"},
    channel_attention: {"matmul": "statistic"},
    einsum_attention: {"einsum": "statistic"},
    non_local: {"scaled_dot_product_attention": "mixing"},
    context_block: {"softmax": "mixing", "matmul": "statistic"},
    grid_mixing: {"linear": "grid"},
    fourier: {"rfft2": "fourier", "irfft2": "fourier"},
    top_k: {"topk": "selection"},
    one_axis: {"mean": "axis"},
    in_place: {"amax": "statistic"},
    halves_exchanged: {"cat": "mixing"},
    mirrored: {"add": "mixing"},
    pool_of_half: {"avg_pool2d": "mixing"},
    mean_of_half: {"mean": "statistic", "mul": "mixing"},
    first_row: {"getitem": "selection"},
    classifier: {"mean": "statistic"},
}
"""The functions with global operations: the kind of each, by the torch function that is called."""


def convolutions(net, x):
    return F.leaky_relu(F.conv2d(x, torch.ones(8, 8, 3, 3), padding=1), 0.2)


def pixel_layer_norm(net, x):
    return F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)


def window_attention(net, x):
    b, c, h, w = x.shape
    t = x.view(b, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    t = (t @ t.transpose(1, 2)).softmax(-1) @ t
    t = t.view(b, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4)
    return torch.roll(t.reshape(x.shape), (4, 4), (2, 3))


def resampling(net, x):
    small = F.avg_pool2d(F.pixel_unshuffle(x, 2), 2)
    return F.pixel_shuffle(F.interpolate(small, scale_factor=2, mode="bilinear"), 2)


def channel_statistics(net, x):
    return x * torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1).sum(1, keepdim=True)


def dilated_by_slices(net, x):
    return F.pad(x[:, :, ::2, ::2], (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1]


def halves_in_order(net, x):
    top, bottom = x.chunk(2, 2)
    return torch.cat([top.relu(), bottom.relu()], 2)


def flipped_back(net, x):
    return net.conv(x[:, :3].flip(3)).flip(3) + x


def sliding_windows(net, x):
    return F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).sum((-1, -2))


def circular_convolution(net, x):
    return F.conv2d(F.pad(x, (2, 1, 1, 2), mode="circular"), torch.ones(8, 8, 4, 4))


LOCAL = [
    convolutions,
    pixel_layer_norm,
    window_attention,
    resampling,
    channel_statistics,
    dilated_by_slices,
    halves_in_order,
    flipped_back,
    sliding_windows,
    circular_convolution,
]
"""Functions without a global operation."""

REFUSED = [
    top_k,
    halves_exchanged,
    mirrored,
    pool_of_half,
    mean_of_half,
    first_row,
    classifier,
]
"""The functions of `GLOBAL` that have no local form."""
