"""Spellings of one number a channel.

More than 300 lines: it is one table.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from random_networks.spelling import Statistic

# The slow forms work on (n, c, pixels) in plain sums.


def flat(patch):
    return patch.reshape(*patch.shape[:2], -1)


def slow_mean(patch):
    return flat(patch).sum(-1) / flat(patch).shape[-1]


def slow_peak(patch):
    return flat(patch).sort(-1).values[..., -1]


def slow_least(patch):
    return flat(patch).sort(-1).values[..., 0]


def slow_var(patch, correction=0):
    t = flat(patch)
    return ((t - slow_mean(patch)[..., None]) ** 2).sum(-1) / (t.shape[-1] - correction)


def slow_std(patch):
    return slow_var(patch, 1) ** 0.5


def slow_biased_std(patch):
    return slow_var(patch) ** 0.5


def slow_energy(patch):
    return slow_mean(patch * patch)


def slow_norm(patch):
    return (flat(patch) ** 2).sum(-1) ** 0.5


def slow_gram(patch):
    t = flat(patch)
    return (t @ t.transpose(1, 2) / t.shape[-1]).mean(-1)


def area(x):
    return x.shape[2] * x.shape[3]


class PoolModule(nn.Module):
    """Any pool module, flattened."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return torch.flatten(self.pool(x), 1)


class MeanAndMaxModules(nn.Module):
    """Pools in a plain list."""

    def __init__(self):
        super().__init__()
        self.pools = [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)]

    def forward(self, x):
        total = 0
        for pool in self.pools:
            total = total + pool(x)
        return total[..., 0, 0]


class PoolsByName(nn.Module):
    """Pools in a plain dict."""

    def __init__(self):
        super().__init__()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.pools = {"avg": self.average, "max": nn.AdaptiveMaxPool2d((1, 1))}

    def forward(self, x):
        return (self.pools["max"](x) - self.pools["avg"](x)).flatten(1)


class VarianceByPools(nn.Module):
    """A variance of two calls of one pool module."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool((x - self.pool(x)) ** 2).flatten(1)


def mean_of_rows(x):
    return x.mean(3).mean(2)


def matmul_mean(x):
    n = area(x)
    return (x.flatten(2) @ x.new_ones(n, 1)).squeeze(2) / n


def bmm_mean(x):
    b, c, h, w = x.shape
    weights = torch.full((b, h * w, 1), 1.0 / (h * w), dtype=x.dtype, device=x.device)
    return torch.bmm(x.reshape(b, c, h * w), weights)[..., 0]


def pool_of_size(x):
    b, c, h, w = x.size()
    return F.avg_pool2d(x, kernel_size=(h, w)).view(b, c)


def last_channels(x):
    b, c, _, _ = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, -1, c).mean(1)


def folded_batch(x):
    b, c = x.shape[:2]
    return x.reshape(b * c, -1).mean(dim=1).view(b, c)


def batch_loop(x):
    return torch.stack([x[i].mean((1, 2)) for i in range(x.shape[0])])


def batch_loop_int(x):
    means = []
    for i in range(int(x.shape[0])):
        means.append(x[i : i + 1].mean(dim=(2, 3)))
    return torch.cat(means, 0)


def deviation(x):
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean).pow(2).mean((2, 3)).sqrt()


def contrast(x):
    mean = x.sum(3, keepdim=True).sum(2, keepdim=True) / (x.size(2) * x.size(3))
    var = (x - mean).pow(2).sum(3, keepdim=True).sum(2, keepdim=True) / (x.size(2) * x.size(3))
    return (var.pow(0.5) + mean)[:, :, 0, 0]


def moments(x):
    return x.square().mean((2, 3)) - x.mean((2, 3)) ** 2


def centred_in_place(x):
    y = x - x.mean((2, 3), keepdim=True)
    y.abs_()
    return y.mean((2, 3))


def softmax_pool(x):
    t = x.flatten(2)
    return (t * t.softmax(dim=-1)).sum(-1)


def softmax_einsum(x):
    weights = torch.softmax(x[:, :1].flatten(2), -1)
    return torch.einsum("bcn,bkn->bc", x.flatten(2), weights)


def slow_softmax_pool(patch):
    t = flat(patch)
    e = t.exp()
    return (t * e).sum(-1) / e.sum(-1)


def slow_softmax_first(patch):
    t = flat(patch)
    e = t[:, :1].exp()
    return (t * e).sum(-1) / e.sum(-1)


def masked_mean(x):
    mask = x > 0.1
    return (x * mask).sum((2, 3)) / (mask.sum((2, 3)) + 1)


def where_mean(x):
    return torch.where(x > 0.1, x, torch.zeros_like(x)).mean((2, 3))


def slow_masked(patch):
    t = flat(patch)
    return (t * (t > 0.1)).sum(-1) / ((t > 0.1).sum(-1) + 1)


def above_mean(x):
    return (x > x.mean((2, 3), keepdim=True)).to(x.dtype).mean((2, 3))


def slow_above_mean(patch):
    return (flat(patch) > slow_mean(patch)[..., None]).double().sum(-1) / flat(patch).shape[-1]


def ungraded(x):
    with torch.no_grad():
        return x.mean((2, 3))


def divided_in_place(x):
    s = torch.sum(x, dim=(2, 3))
    return s.div_(x.shape[2] * x.shape[3])


def root_of_n(x):
    t = x.flatten(2)
    return t.norm(dim=2) / math.sqrt(t.shape[-1])


def divided_by_tensor(x):
    n = torch.full((1,), x.shape[2] * x.shape[3], dtype=x.dtype, device=x.device)
    return x.sum((2, 3)) / n


def gem(x):
    return F.avg_pool2d(x.clamp(min=1e-3).pow(3), (x.size(-2), x.size(-1))).pow(1.0 / 3).flatten(1)


def numpy_mean(x):
    return torch.from_numpy(x.detach().numpy().mean((2, 3)))


def gram(x):
    t = x.flatten(2)
    return torch.matmul(t, t.transpose(1, 2)).div(t.size(-1)).mean(-1)


def mixed_halves(x):
    a, b = x.chunk(2, dim=1)
    return torch.cat([a.mean((2, 3)), b.amax((2, 3))], dim=1)


def slow_mixed_halves(patch):
    a, b = patch.chunk(2, dim=1)
    return torch.cat([slow_mean(a), slow_peak(b)], 1)


def spread_of_grey(x):
    return x.mean(1, keepdim=True).std((2, 3)).expand(-1, x.shape[1])


def total_variation(x):
    return (x[..., 1:] - x[..., :-1]).abs().mean((2, 3))


def last_of_cumsum(x):
    return x.flatten(2).cumsum(-1)[..., -1] / area(x)


def convolved(x):
    weight = x.new_ones(x.shape[1], 1, *x.shape[2:]) / area(x)
    return F.conv2d(x, weight, groups=x.shape[1]).flatten(1)


def pooled_volume(x):
    return F.adaptive_avg_pool3d(x.unsqueeze(1), (x.shape[1], 1, 1)).flatten(1)


def channel_loop(x):
    return torch.stack([x[:, i].mean((1, 2)) for i in range(x.shape[1])], dim=1)


def half_open(x):
    return x[..., : x.shape[-1] // 2].mean((2, 3))


def slow_half(patch):
    return slow_mean(patch[..., : patch.shape[-1] // 2])


def multiple_of_four(x):
    h, w = x.shape[2:]
    return F.pad(x, (0, -w % 4, 0, -h % 4)).mean((2, 3))


def padded(x):
    return F.pad(x, (1, 1, 1, 1)).mean((2, 3))


def slow_padded(patch):
    return flat(patch).sum(-1) / ((patch.shape[2] + 2) * (patch.shape[3] + 2))


def _mean(name, ordinary, **how):
    return Statistic(name, ordinary, slow_mean, **how)


STATISTICS = (
    _mean("mean", lambda x: x.mean((2, 3))),
    _mean("mean by keywords", lambda x: torch.mean(input=x, dim=[-1, -2])),
    _mean("mean of row means", mean_of_rows),
    _mean("sum ÷ (h · w)", lambda x: x.sum((2, 3)) / (x.shape[2] * x.shape[3])),
    _mean("sum ÷ numel", lambda x: x.flatten(2).sum(-1) / x[0, 0].numel()),
    _mean("sum ÷ math.prod", lambda x: x.sum(dim=(2, 3)) / math.prod(x.shape[2:])),
    _mean("sum · (1 / n)", lambda x: x.sum(dim=(-2, -1)) * (1.0 / (x.size(2) * x.size(3)))),
    _mean("sum ÷ int sizes", lambda x: x.sum((2, 3)) / (int(x.shape[2]) * int(x.shape[3]))),
    _mean("sum ÷ float area", lambda x: x.sum((2, 3)) / float(x.shape[2] * x.shape[3])),
    _mean("einsum ÷ n", lambda x: torch.einsum("bchw->bc", x) / area(x)),
    _mean("matmul with ones", matmul_mean),
    _mean("bmm with full", bmm_mean),
    _mean("avg_pool2d of the shape", lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1)),
    _mean("avg_pool2d by keyword", pool_of_size),
    _mean("adaptive pool function", lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)),
    _mean("adaptive pool module", lambda: PoolModule(nn.AdaptiveAvgPool2d((1, 1))), module=True),
    _mean("1-D adaptive pool", lambda x: F.adaptive_avg_pool1d(x.flatten(2), 1).squeeze(-1)),
    _mean("area interpolation", lambda x: F.interpolate(x, size=1, mode="area").flatten(1)),
    _mean("mean of channels last", last_channels),
    _mean("mean of movedim", lambda x: x.movedim(1, -1).mean(dim=(1, 2))),
    _mean("mean of a folded batch", folded_batch),
    _mean("loop over the batch", batch_loop),
    _mean("loop over int(b)", batch_loop_int),
    _mean("mean under no_grad", ungraded),
    _mean("detached mean", lambda x: x.detach().mean((2, 3))),
    _mean("functools.partial", functools.partial(torch.mean, dim=(2, 3))),
    _mean("sum divided in place", divided_in_place),
    _mean("sum ÷ tensor of n", divided_by_tensor),
    Statistic("norm ÷ √n", root_of_n, lambda p: slow_energy(p) ** 0.5),
    Statistic(
        "energy · n ** -1",
        lambda x: (x * x).sum((2, 3)) * (x.shape[2] * x.shape[3]) ** -1,
        slow_energy,
    ),
    _mean("mean of all dims but two", lambda x: x.mean(dim=tuple(range(2, x.ndim)))),
    _mean("loop over the channels", channel_loop),
    _mean("last of a cumulative sum", last_of_cumsum, converts=False),
    _mean("convolution of the size of the map", convolved, converts=False),
    _mean("3-D adaptive pool", pooled_volume, converts=False),
    Statistic("mean and maximum of halves", mixed_halves, slow_mixed_halves),
    Statistic(
        "std of the channel mean",
        spread_of_grey,
        lambda p: slow_std(p.mean(1, keepdim=True)).expand(-1, p.shape[1]),
    ),
    Statistic(
        "total variation",
        total_variation,
        lambda p: slow_mean((p[..., 1:] - p[..., :-1]).abs()),
        converts=False,
    ),
    _mean("NumPy mean", numpy_mean, converts=False),
    Statistic(
        "adaptive pool to 7",
        lambda x: F.adaptive_avg_pool2d(x, 7).mean((2, 3)),
        lambda p: F.adaptive_avg_pool2d(p, 7).mean((2, 3)),
        law="grid",
        converts=False,
    ),
    Statistic("amax", lambda x: x.amax((2, 3)), slow_peak),
    Statistic("max of flat", lambda x: torch.max(x.flatten(2), dim=2)[0], slow_peak),
    Statistic(
        "max_pool2d of the shape", lambda x: F.max_pool2d(x, x.shape[2:]).flatten(1), slow_peak
    ),
    Statistic(
        "adaptive max pool module",
        lambda: PoolModule(nn.AdaptiveMaxPool2d(1)),
        slow_peak,
        module=True,
    ),
    Statistic("amin", lambda x: x.amin(dim=(2, 3)), slow_least),
    Statistic(
        "range",
        lambda x: x.flatten(2).amax(-1) - x.flatten(2).amin(-1),
        lambda p: slow_peak(p) - slow_least(p),
    ),
    Statistic(
        "pools in a list", MeanAndMaxModules, lambda p: slow_mean(p) + slow_peak(p), module=True
    ),
    Statistic("pools in a dict", PoolsByName, lambda p: slow_peak(p) - slow_mean(p), module=True),
    Statistic("variance by pool modules", VarianceByPools, slow_var, module=True),
    Statistic("std", lambda x: x.std((2, 3)), slow_std),
    Statistic("var unbiased=False", lambda x: torch.var(x, (2, 3), unbiased=False), slow_var),
    Statistic("var correction=0", lambda x: x.flatten(2).var(-1, correction=0), slow_var),
    Statistic(
        "std_mean", lambda x: sum(torch.std_mean(x, (2, 3))), lambda p: slow_std(p) + slow_mean(p)
    ),
    Statistic(
        "var_mean",
        lambda x: torch.var_mean(x.flatten(2), dim=2, unbiased=False)[0],
        slow_var,
    ),
    Statistic("deviation by hand", deviation, slow_biased_std),
    Statistic("contrast pooling", contrast, lambda p: slow_biased_std(p) + slow_mean(p)),
    Statistic("variance by moments", moments, slow_var),
    Statistic(
        "absolute deviation in place",
        centred_in_place,
        lambda p: (flat(p) - slow_mean(p)[..., None]).abs().mean(-1),
        converts=False,
    ),
    Statistic(
        "energy by einsum", lambda x: torch.einsum("bchw,bchw->bc", x, x) / area(x), slow_energy
    ),
    Statistic("norm of flat", lambda x: x.flatten(2).norm(dim=2) / 8, lambda p: slow_norm(p) / 8),
    Statistic(
        "vector_norm",
        lambda x: torch.linalg.vector_norm(x, dim=(2, 3)) / math.sqrt(64),
        lambda p: slow_norm(p) / 8,
    ),
    Statistic(
        "log-sum-exp",
        lambda x: x.flatten(2).logsumexp(-1) - 4,
        lambda p: flat(p).exp().sum(-1).log() - 4,
    ),
    Statistic("generalised mean", gem, lambda p: slow_mean(p.clamp(min=1e-3) ** 3) ** (1 / 3)),
    Statistic("softmax pooling", softmax_pool, slow_softmax_pool),
    Statistic("softmax pooling by einsum", softmax_einsum, slow_softmax_first),
    Statistic(
        "sum of booleans",
        lambda x: (x > 0.1).sum((2, 3)).to(x.dtype) / area(x),
        lambda p: slow_mean((p > 0.1).double()),
    ),
    Statistic(
        "mean of booleans",
        lambda x: (x > 0.1).double().mean((2, 3)),
        lambda p: slow_mean((p > 0.1).double()),
    ),
    Statistic(
        "count_nonzero",
        lambda x: torch.count_nonzero(x.relu(), dim=(2, 3)).to(x.dtype) / area(x),
        lambda p: slow_mean((p > 0).double()),
    ),
    Statistic("share above the mean", above_mean, slow_above_mean, converts=False),
    Statistic("masked mean", masked_mean, slow_masked),
    Statistic("mean by where", where_mean, lambda p: slow_mean(p * (p > 0.1))),
    Statistic(
        "std clamped",
        lambda x: x.std((2, 3)).clamp(min=0.15),
        lambda p: slow_std(p).clamp(min=0.15),
    ),
    Statistic(
        "mean clamped far away",
        lambda x: x.mean((2, 3)).clamp(-0.3, 0.3),
        lambda p: slow_mean(p).clamp(-0.3, 0.3),
    ),
    Statistic(
        "maximum of two statistics",
        lambda x: torch.maximum(x.mean((2, 3)), x.new_tensor(0.05)),
        lambda p: slow_mean(p).clamp(min=0.05),
    ),
    Statistic("mean of channel products", gram, slow_gram, converts=False),
    Statistic("mean of a padded map", padded, slow_padded, converts=False),
    _mean("mean padded to a multiple", multiple_of_four, pads_to=4),
    Statistic("mean of the left half", half_open, slow_half, converts=False),
    Statistic(
        "mean without the border",
        lambda x: x[:, :, 1:-1, 1:-1].mean((2, 3)),
        lambda p: slow_mean(p[..., 1:-1, 1:-1]),
        converts=False,
    ),
    Statistic(
        "mean of every second pixel",
        lambda x: x[..., ::2, ::2].mean((2, 3)),
        slow_mean,
        law="loose",
        converts=False,
        stride=2,
    ),
    Statistic(
        "median",
        lambda x: x.flatten(2).median(-1).values,
        lambda p: flat(p).sort(-1).values[..., (flat(p).shape[-1] - 1) // 2],
        converts=False,
    ),
    Statistic(
        "mean amplitude of the spectrum",
        lambda x: torch.fft.fft2(x, norm="ortho").abs().mean((2, 3)),
        lambda p: torch.fft.fft2(p, norm="ortho").abs().mean((2, 3)),
        law="grid",
        converts=False,
    ),
)
