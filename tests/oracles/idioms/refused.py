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


class FourierUnit(nn.Module):
    """A convolution of the spectrum of the map."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, x):
        y = torch.fft.fft2(x, norm="ortho")
        y = F.relu(self.conv(torch.cat([y.real, y.imag], dim=1)))
        real, imag = y.chunk(2, dim=1)
        return x + torch.fft.ifft2(torch.complex(real, imag), norm="ortho").real


class CoordinateAttention(nn.Module):
    """Pools over one axis at a time."""

    def __init__(self, channels=8, mid=4):
        super().__init__()
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.conv1 = nn.Conv2d(channels, mid, 1)
        self.conv_h = nn.Conv2d(mid, channels, 1)
        self.conv_w = nn.Conv2d(mid, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        strips = torch.cat([self.pool_h(x), self.pool_w(x).permute(0, 1, 3, 2)], dim=2)
        y_h, y_w = torch.split(F.hardswish(self.conv1(strips)), [h, w], dim=2)
        a_h, a_w = self.conv_h(y_h).sigmoid(), self.conv_w(y_w.permute(0, 1, 3, 2)).sigmoid()
        return x * a_w * a_h


REFUSED = tuple(
    Idiom(name, make, None, reason=reason)
    for name, make, reason in (
        ("dynamic_filter", DynamicFilter, "each pixel would need another convolution kernel"),
        ("top_k_router", TopKRouter, "each pixel would need other channels"),
        ("fourier_unit", FourierUnit, "a window has other frequencies than the map"),
        ("coordinate_attention", CoordinateAttention, "it pools one axis and keeps the other"),
    )
)
