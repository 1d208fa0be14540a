"""Blocks whose global operation has no local form: they have to stay unchanged."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom


class DynamicFilter(nn.Module):
    """The pooled vector becomes the weight of a depthwise convolution."""

    def __init__(self, channels=8, k=3):
        super().__init__()
        self.k = k
        self.kernel = nn.Linear(channels, channels * k * k)

    def forward(self, x):
        b, c, h, w = x.shape
        weight = self.kernel(x.mean((2, 3))).view(b * c, 1, self.k, self.k)
        y = F.conv2d(x.reshape(1, b * c, h, w), weight, padding=self.k // 2, groups=b * c)
        return y.view(b, c, h, w)


class TopKRouter(nn.Module):
    """Selects the channels with the highest scores, which are computed from a statistic."""

    def __init__(self, channels=8):
        super().__init__()
        self.score = nn.Linear(channels, channels)
        self.out = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x):
        _, c, h, w = x.shape
        scores = self.score(F.adaptive_avg_pool2d(x, 1).flatten(1))
        best = scores.topk(c // 2, dim=1).indices
        return self.out(torch.gather(x, 1, best[:, :, None, None].expand(-1, -1, h, w)))


REFUSED = tuple(
    Idiom(name, make, None, reason=reason)
    for name, make, reason in (
        ("dynamic_filter", DynamicFilter, "each pixel would need another convolution kernel"),
        ("top_k_router", TopKRouter, "each pixel would need other channels"),
    )
)
