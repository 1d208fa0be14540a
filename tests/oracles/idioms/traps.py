"""Blocks that are easy to convert wrongly: a converter may refuse them or follow the law.

Those with a reason mix the images of a batch or pick a pixel by position, and have to be refused.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom
from oracles.idioms.parts import QKV
from oracles.idioms.pools import LinearGate


class PooledQuery(nn.Module):
    """The statistic meets the map in a matrix product."""

    def __init__(self, channels=8):
        super().__init__()
        self.query = nn.Linear(channels, channels)

    def forward(self, x):
        b, _, h, w = x.shape
        query = self.query(x.mean((2, 3)))
        score = torch.bmm(query.unsqueeze(1), x.flatten(2)).view(b, 1, h, w)
        return x * torch.sigmoid(score)


class PyramidPool(nn.Module):
    """A pool to 2x2 and an upsampling: each bin grows with the image."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.conv(F.adaptive_avg_pool2d(x, 2))
        return x + F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class FloatArea(LinearGate):
    """A tracer may turn a size into a constant once it is a float."""

    def forward(self, x):
        area = float(x.shape[2] * x.shape[3])
        return x * self.fc(x.sum((2, 3)) / area)[:, :, None, None]


class HalfOfSize(LinearGate):
    def forward(self, x):
        half = int(x.shape[2] / 2) * int(x.shape[3] / 2)
        return x * self.fc(x.sum((2, 3)) / (4 * half))[:, :, None, None]


class LogSizeAttention(QKV):
    """Attention whose scores are multiplied by the logarithm of the number of pixels."""

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2) * (math.log(q.shape[1]) / 8)
        out = (scores.softmax(dim=-1) @ v).transpose(1, 2)
        return self.project_out(out.reshape(x.shape))


class AdaINByBatchNorm(nn.Module):
    """Instance norm as a batch norm of one image with b · c channels (MUNIT)."""

    def __init__(self, channels=8):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        b, c = x.size(0), x.size(1)
        weight, bias = self.weight.repeat(b), self.bias.repeat(b)
        y = x.contiguous().view(1, b * c, *x.size()[2:])
        y = F.batch_norm(y, None, None, weight, bias, True)
        return y.view(b, c, *x.size()[2:])


class BatchPeak(nn.Module):
    def forward(self, x):
        return x / x.max()


class BatchStatistics(nn.Module):
    """Normalised by all pixels of all images."""

    def forward(self, x):
        mean = x.mean((0, 2, 3), keepdim=True)
        var = x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(var + 1e-5)


class CentrePixel(LinearGate):
    def forward(self, x):
        h, w = x.shape[2:]
        return x * self.fc(x[:, :, h // 2, w // 2])[:, :, None, None]


class MedianGate(LinearGate):
    def forward(self, x):
        return x * self.fc(x.flatten(2).median(dim=-1).values)[:, :, None, None]


TRAPS = (
    Idiom("pooled_query", PooledQuery, "windows", may_refuse=True),
    Idiom("pyramid_pool", PyramidPool, "grid"),
    Idiom("sum_over_float_area", FloatArea, "windows", may_refuse=True),
    Idiom("sum_over_half_sizes", HalfOfSize, "windows", may_refuse=True),
    Idiom("log_size_attention", LogSizeAttention, "tiles", may_refuse=True),
    Idiom("adain_by_batch_norm", AdaINByBatchNorm, "windows", may_refuse=True),
    Idiom("median_gate", MedianGate, "windows", may_refuse=True),
    Idiom("batch_peak", BatchPeak, None, reason="it mixes the images of a batch"),
    Idiom("batch_statistics", BatchStatistics, None, reason="it mixes the images of a batch"),
    Idiom("centre_pixel", CentrePixel, None, reason="it picks a pixel by its position"),
)
