"""Blocks that predict filters, or weights of experts, from the pooled map."""

import torch
import torch.nn.functional as F
from torch import nn

from random_networks.contacts import dense
from random_networks.statistics import slow_mean


class GroupedFilter(nn.Module):
    """A depthwise filter predicted from the pooled map, by a grouped convolution of b · c maps."""

    def __init__(self, channels):
        super().__init__()
        self.kernel = nn.Linear(channels, channels * 9)

    def forward(self, x):
        b, c, h, w = x.shape
        weight = self.kernel(x.mean((2, 3))).view(b * c, 1, 3, 3)
        return F.conv2d(x.reshape(1, b * c, h, w), weight, padding=1, groups=b * c).view(b, c, h, w)


def slow_grouped(block, w):
    n, c = w.pixel.shape
    kernel = dense(block.kernel, slow_mean(w.patches)).reshape(n, c, 9)
    return sum(w.near(i // 3 - 1, i % 3 - 1) * kernel[..., i] for i in range(9))


class UnfoldedFilter(nn.Module):
    """SFNet's: patches times a softmax of the predicted weights."""

    def __init__(self, channels):
        super().__init__()
        self.pool, self.kernel = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2 * 9, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        f = self.kernel(self.pool(x))
        f = f.reshape(b, 2, 9, f.shape[2] * f.shape[3]).unsqueeze(2).softmax(3)
        patches = F.unfold(F.pad(x, (1, 1, 1, 1)), kernel_size=3).reshape(b, 2, c // 2, 9, h * w)
        return (patches * f).sum(3).reshape(b, c, h, w)


def slow_unfolded(block, w):
    n, c = w.pixel.shape
    e = dense(block.kernel, slow_mean(w.patches)).reshape(n, 2, 1, 9).exp()
    f = (e / e.sum(-1, keepdim=True)).expand(n, 2, c // 2, 9).reshape(n, c, 9)
    return sum(w.near(i // 3 - 1, i % 3 - 1) * f[..., i] for i in range(9))


class Experts(nn.Module):
    """Outputs of several layers, blended by weights of the pooled map."""

    def __init__(self, channels):
        super().__init__()
        self.experts = nn.ModuleList([nn.Conv2d(channels, channels, 1) for _ in range(3)])
        self.router = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))

    def forward(self, x):
        weights = self.router(x).softmax(dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (outputs * weights[:, :, None, None, None]).sum(1)


def slow_experts(block, w):
    e = dense(block.router[2], slow_mean(w.patches)).exp()
    e = e / e.sum(1, keepdim=True)
    return sum(dense(expert, w.pixel) * e[:, i : i + 1] for i, expert in enumerate(block.experts))


class FoldedExperts(nn.Module):
    """DRSformer's: weights of the experts for each image, its batch folded into the channels."""

    def __init__(self, channels):
        super().__init__()
        self.route = nn.Linear(channels, 3)
        self.scales = nn.Parameter(torch.randn(3, channels))

    def forward(self, x):
        b, c, h, w = x.shape
        scale = torch.softmax(self.route(x.mean((2, 3))), dim=1) @ self.scales
        y = x.reshape(1, b * c, h, w) * scale.view(1, b * c, 1, 1)
        return y.reshape(b, c, h, w)


def slow_folded_experts(block, w):
    e = dense(block.route, slow_mean(w.patches)).exp()
    return w.pixel * ((e / e.sum(1, keepdim=True)) @ block.scales)


class DynamicConvolution(nn.Module):
    """A mixture of kernels, weighed by the pooled map (CondConv, dynamic convolution)."""

    def __init__(self, channels):
        super().__init__()
        self.bank = nn.Parameter(0.3 * torch.randn(2, channels, channels, 3, 3))
        self.attend = nn.Linear(channels, 2)

    def forward(self, x):
        b, c, h, w = x.shape
        mix = self.attend(F.adaptive_avg_pool2d(x, 1).view(b, c)).softmax(-1)
        kernel = torch.mm(mix, self.bank.view(2, -1)).view(b * c, c, 3, 3)
        y = F.conv2d(x.reshape(1, b * c, h, w), kernel, padding=1, groups=b)
        return y.view(b, c, h, w)


def slow_dynamic(block, w):
    e = dense(block.attend, slow_mean(w.patches)).exp()
    e = e / e.sum(1, keepdim=True)
    total = 0
    for i in range(9):
        near = w.near(i // 3 - 1, i % 3 - 1)
        for k in range(2):
            total = total + e[:, k : k + 1] * (near @ block.bank[k, :, :, i // 3, i % 3].T)
    return total
