"""Whole blocks of published networks that follow the law of windows."""

import torch
import torch.nn.functional as F
from torch import nn

from random_networks import calls, filters
from random_networks.contacts import dense
from random_networks.spelling import Block, by_windows
from random_networks.statistics import flat, slow_biased_std, slow_mean, slow_peak


class SqueezeExcite(nn.Sequential):
    """The gate alone as a Sequential, called by its parent."""

    def __init__(self, channels):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2, channels, 1),
            nn.Sigmoid(),
        )


class ChannelAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.attention = SqueezeExcite(channels)

    def forward(self, x):
        return x * self.attention(x)


def slow_channel_attention(block, w):
    hidden = dense(block.attention[1], slow_mean(w.patches)).relu()
    return w.pixel * dense(block.attention[3], hidden).sigmoid()


class MaxAndMean(nn.Module):
    """CBAM's channel gate."""

    def __init__(self, channels):
        super().__init__()
        self.avg, self.max = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.one, self.two = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x):
        average = self.two(F.relu(self.one(self.avg(x))))
        peak = self.two(F.relu(self.one(self.max(x))))
        return x * torch.sigmoid(average + peak)


def slow_max_and_mean(block, w):
    pools = (slow_mean(w.patches), slow_peak(w.patches))
    return w.pixel * sum(dense(block.two, dense(block.one, p).relu()) for p in pools).sigmoid()


class Efficient(nn.Module):
    """ECA: a 1-D convolution over the channels of the pooled map."""

    def __init__(self, channels):
        super().__init__()
        self.pool, self.conv = nn.AdaptiveAvgPool2d(1), nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv(self.pool(x).squeeze(-1).transpose(-1, -2))
        return x * y.transpose(-1, -2).unsqueeze(-1).sigmoid().expand_as(x)


def slow_efficient(block, w):
    a, b, c = block.conv.weight.flatten()
    s = F.pad(slow_mean(w.patches), (1, 1))
    return w.pixel * (a * s[:, :-2] + b * s[:, 1:-1] + c * s[:, 2:]).sigmoid()


class Context(nn.Module):
    """GCNet: pixels weighed by a softmax over the map, then a bottleneck."""

    def __init__(self, channels):
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.add = nn.Sequential(
            nn.Conv2d(channels, 4, 1), nn.LayerNorm([4, 1, 1]), nn.ReLU(), nn.Conv2d(4, channels, 1)
        )

    def forward(self, x):
        b, c, h, w = x.size()
        mask = self.mask(x).view(b, 1, h * w).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(b, c, h * w).unsqueeze(1), mask).view(b, c, 1, 1)
        return x + self.add(context)


def slow_context(block, w):
    e = torch.einsum("nchw,c->nhw", w.patches, block.mask.weight.flatten()).exp().flatten(1)
    s = (flat(w.patches) * e[:, None]).sum(-1) / e.sum(-1, keepdim=True)
    s = F.layer_norm(dense(block.add[0], s), (4,), *map(torch.flatten, block.add[1].parameters()))
    return w.pixel + dense(block.add[3], s.relu())


class SelectiveFusion(nn.Module):
    """SKFF of two branches."""

    def __init__(self, channels):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, 4, 1, bias=False), nn.PReLU())
        self.fcs = nn.ModuleList([nn.Conv2d(4, channels, 1, bias=False) for _ in range(2)])

    def forward(self, x):
        feats = torch.stack([self.a(x), self.b(x)], dim=1)
        z = self.squeeze(F.adaptive_avg_pool2d(feats.sum(1), 1))
        weights = torch.stack([fc(z) for fc in self.fcs], dim=1).softmax(dim=1)
        return (feats * weights.expand_as(feats)).sum(dim=1)


def slow_fusion(block, w):
    s = slow_mean(w.patches)
    z = block.squeeze[1](dense(block.squeeze[0], dense(block.a, s) + dense(block.b, s)))
    one, two = (dense(fc, z).exp() for fc in block.fcs)
    return (dense(block.a, w.pixel) * one + dense(block.b, w.pixel) * two) / (one + two)


class ContrastAttention(nn.Module):
    """IMDN's contrast-aware attention, its pooling a function."""

    def __init__(self, channels):
        super().__init__()
        self.contrast, self.pool = stdv_channels, nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Conv2d(channels, 2, 1), nn.ReLU(), nn.Conv2d(2, channels, 1))

    def forward(self, x):
        return x * torch.sigmoid(self.fc(self.contrast(x) + self.pool(x)))


def stdv_channels(f):
    mean = f.sum(3, keepdim=True).sum(2, keepdim=True) / (f.size(2) * f.size(3))
    spread = (f - mean).pow(2).sum(3, keepdim=True).sum(2, keepdim=True) / (f.size(2) * f.size(3))
    return spread.pow(0.5)


def slow_contrast(block, w):
    s = slow_biased_std(w.patches) + slow_mean(w.patches)
    return w.pixel * dense(block.fc[2], dense(block.fc[0], s).relu()).sigmoid()


class Coordinates(nn.Module):
    """Coordinate attention: a pool along each axis."""

    def __init__(self, channels):
        super().__init__()
        self.rows, self.columns = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.mid = nn.Conv2d(channels, 4, 1)
        self.h, self.w = nn.Conv2d(4, channels, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        y = torch.cat([self.rows(x), self.columns(x).permute(0, 1, 3, 2)], dim=2)
        a, b = torch.split(F.hardswish(self.mid(y)), [h, w], dim=2)
        return x * self.h(a).sigmoid() * self.w(b.permute(0, 1, 3, 2)).sigmoid()


def strips(w):
    n = torch.arange(len(w.pixel))
    return w.patches.mean(3)[n, :, w.row], w.patches.mean(2)[n, :, w.column]


def slow_coordinates(block, w):
    a, b = (F.hardswish(dense(block.mid, s)) for s in strips(w))
    return w.pixel * dense(block.h, a).sigmoid() * dense(block.w, b).sigmoid()


class Strips(nn.Module):
    """Strip pools as means, added."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        return x * torch.sigmoid(self.fc(rows + columns))


def slow_strips(block, w):
    return w.pixel * dense(block.fc, sum(strips(w))).sigmoid()


class OtherMap(nn.Module):
    """The statistic of one map gates another."""

    def __init__(self, channels):
        super().__init__()
        self.body, self.fc = nn.Conv2d(channels, channels, 3, 1, 1), nn.Linear(channels, channels)

    def forward(self, x):
        return x + self.body(x) * self.fc(x.mean((2, 3)))[:, :, None, None]


def slow_other_map(block, x, window):
    s = by_windows(lambda w: dense(block.fc, slow_mean(w.patches)), x, window)
    return x + s * block.body(x)


class Residual(nn.Module):
    """Convolutions, a gate and a skip in one forward (RCAB)."""

    def __init__(self, channels):
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.two(F.relu(self.one(x), inplace=True))
        y = y * torch.sigmoid(self.fc(F.adaptive_avg_pool2d(y, 1)))
        y += x
        return y


def slow_residual(block, x, window):
    y = block.two(block.one(x).relu())
    s = by_windows(lambda w: dense(block.fc, slow_mean(w.patches)).sigmoid(), y, window)
    return y * s + x


BLOCKS = (
    Block("SE as a Sequential", ChannelAttention, slow_channel_attention),
    Block("CBAM max + mean", MaxAndMean, slow_max_and_mean),
    Block("ECA", Efficient, slow_efficient),
    Block("GCNet", Context, slow_context),
    Block("SKFF", SelectiveFusion, slow_fusion),
    Block("contrast-aware attention", ContrastAttention, slow_contrast),
    Block("modules in a plain list", calls.PlainList, calls.slow_plain_list),
    Block("modules in a plain dict", calls.PlainDict, calls.slow_plain_dict),
    Block("gate in a hook", calls.Hooked, calls.slow_hooked, converts=False),
    Block(
        "forward replaced on the instance", calls.WrappedForward, calls.slow_wrapped, converts=False
    ),
    Block("two calls by keywords", calls.Keywords, calls.slow_keywords),
    Block("two blocks of one repr", calls.SameRepr, calls.slow_same_repr),
    Block("dynamic filter, grouped", filters.GroupedFilter, filters.slow_grouped),
    Block("dynamic filter, unfold", filters.UnfoldedFilter, filters.slow_unfolded),
    Block("coordinate attention", Coordinates, slow_coordinates),
    Block("strip pools", Strips, slow_strips),
    Block("branch for square maps", calls.SquareBranch, calls.slow_square),
    Block("gate in place on an own convolution", calls.OnePoint, calls.slow_one_point),
    Block("gate in place, return value ignored", calls.IgnoredReturn, calls.slow_ignored),
    Block(
        "pool and gate in place, value ignored", calls.IgnoredModules, calls.slow_ignored_modules
    ),
    Block("gate of another map", OtherMap, slow_map=slow_other_map),
    Block("residual block with a gate", Residual, slow_map=slow_residual),
    Block("weight-normed perceptron", calls.WeightNormed, calls.slow_weight_normed),
    Block(
        "old weight norm",
        lambda c: calls.OldNorm(c, torch.nn.utils.weight_norm),
        calls.slow_old_weight_norm,
    ),
    Block(
        "old spectral norm",
        lambda c: calls.OldNorm(c, torch.nn.utils.spectral_norm),
        calls.slow_spectral_norm,
    ),
    Block("blended experts", filters.Experts, filters.slow_experts),
    Block("experts, folded batch", filters.FoldedExperts, filters.slow_folded_experts),
    Block("dynamic convolution", filters.DynamicConvolution, filters.slow_dynamic),
)
