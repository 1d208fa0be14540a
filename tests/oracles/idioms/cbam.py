"""CBAM: a channel gate of two or more pools, then a gate by a convolution over the map."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom, statistic
from oracles.idioms.pools import ConvGate


class SpatialGate(nn.Module):
    """CBAM's second half: a 7x7 convolution over the mean and maximum of the channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.conv(pooled))


class CBAMLinear(nn.Module):
    """A perceptron on vectors, shared by the pools, which are summed in a loop."""

    def __init__(self, channels=8, pool_types=("avg", "max")):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels)
        )
        self.pool_types = pool_types
        self.spatial = SpatialGate()

    def forward(self, x):
        size = (x.size(2), x.size(3))
        total = None
        for kind in self.pool_types:
            if kind == "avg":
                pooled = F.avg_pool2d(x, size, stride=size)
            elif kind == "max":
                pooled = F.max_pool2d(x, size, stride=size)
            elif kind == "lp":
                pooled = F.lp_pool2d(x, 2, size, stride=size)
            else:
                flat = x.view(x.size(0), x.size(1), -1)
                peak, _ = torch.max(flat, dim=2, keepdim=True)
                pooled = peak + (flat - peak).exp().sum(dim=2, keepdim=True).log()
            raw = self.mlp(pooled)
            total = raw if total is None else total + raw
        scale = torch.sigmoid(total).unsqueeze(2).unsqueeze(3).expand_as(x)
        return self.spatial(x * scale)


def cbam_linear(block, x, window):
    pools = {
        "avg": lambda p: p.mean((2, 3)),
        "max": lambda p: p.amax((2, 3)),
        "lp": lambda p: p.square().sum((2, 3)).sqrt(),
        "lse": lambda p: p.exp().sum((2, 3)).log(),
    }

    def gate(patch):
        return torch.sigmoid(sum(block.mlp(pools[kind](patch)) for kind in block.pool_types))

    return _spatial(block.spatial, x * statistic(gate, x, window))


class CBAMConv(ConvGate):
    """Convolutions on 1x1 maps."""

    def __init__(self):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.spatial = SpatialGate()

    def forward(self, x):
        avg_out = self.conv2(F.relu(self.conv1(self.avg_pool(x))))
        max_out = self.conv2(F.relu(self.conv1(self.max_pool(x))))
        return self.spatial(torch.sigmoid(avg_out + max_out) * x)


def cbam_conv(block, x, window):
    def gate(patch):
        pooled = (patch.mean((2, 3), keepdim=True), patch.amax((2, 3), keepdim=True))
        both = sum(block.conv2(block.conv1(p).relu()) for p in pooled)
        return torch.sigmoid(both).flatten(1)

    return _spatial(block.spatial, x * statistic(gate, x, window))


def _spatial(gate, y):
    pooled = torch.stack([y.amax(1), y.mean(1)], dim=1)
    return y * torch.sigmoid(gate.conv(pooled))


CBAM = (
    Idiom("cbam_linear", CBAMLinear, "windows", cbam_linear),
    Idiom(
        "cbam_four_pools",
        lambda: CBAMLinear(pool_types=("avg", "max", "lp", "lse")),
        "windows",
        cbam_linear,
    ),
    Idiom("cbam_conv", CBAMConv, "windows", cbam_conv),
)
