"""Blocks that mix one axis of the map, and blocks whose batch or depth is in the way."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom, by_tiles, by_windows


class StripGate(nn.Module):
    """A gate for each row, and the maximum of each column."""

    def __init__(self, channels=8):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((None, 1))
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        peak = F.max_pool2d(x, (x.shape[2], 1)).squeeze(2)
        return x * self.gate(self.pool(x)).sigmoid() + peak.unsqueeze(2)


class AxisNorms(nn.Module):
    """Normalises each row and each column, written by hand."""

    def along(self, x, dim):
        centred = x - x.mean(dim, keepdim=True)
        return centred / (centred.square().mean(dim, keepdim=True) + 1e-3).sqrt()

    def forward(self, x):
        return self.along(x, 2) + self.along(x, 3)


class CoordinateAttention(nn.Module):
    """Pools over one axis at a time, and joins rows and columns to one strip."""

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


class StripPooling(nn.Module):
    """SPNet: convolutions along the strips."""

    def __init__(self, channels=8):
        super().__init__()
        self.down = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.along = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.fuse = nn.Conv2d(channels, channels, 1)

    def rows(self, x):
        y = self.down(F.adaptive_avg_pool2d(x, (x.shape[2], 1)))
        return F.interpolate(y, x.shape[2:], mode="bilinear")

    def columns(self, x):
        return self.along(x.mean(2, keepdim=True)).expand(-1, -1, x.shape[2], -1)

    def forward(self, x):
        return x * self.fuse(F.relu(self.rows(x) + self.columns(x))).sigmoid()

    def reference(self, x, window):
        rows = by_windows(self.rows, x, (x.shape[2], window[1]))
        columns = by_windows(self.columns, x, (window[0], x.shape[3]))
        return x * self.fuse(F.relu(rows + columns)).sigmoid()


class AxialAttention(nn.Module):
    """Attention over each row and then over each column, as LLFormer folds them."""

    def __init__(self, channels=8, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    def rows(self, x):
        b, c, h, w = x.shape
        d = c // self.heads

        def fold(t):
            t = t.reshape(b, self.heads, d, h, w).permute(0, 1, 3, 4, 2)
            return t.reshape(b * self.heads * h, w, d)

        q, k, v = (fold(t) for t in self.qkv(x).chunk(3, dim=1))
        y = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1) @ v
        return y.view(b, self.heads, h, w, d).permute(0, 1, 4, 2, 3).reshape(b, c, h, w)

    def forward(self, x):
        x = x + self.rows(x)
        return x + self.rows(x.transpose(2, 3)).transpose(2, 3)

    def reference(self, x, window):
        x = x + by_tiles(self.rows, x, window=(x.shape[2], window[1]))
        turned = x.transpose(2, 3)
        y = by_tiles(self.rows, turned, window=(turned.shape[2], window[0]))
        return x + y.transpose(2, 3)


class PyramidPooling(nn.Module):
    """PSP: pools to bins that grow with the image."""

    def __init__(self, channels=8):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 2, 1) for _ in range(2))
        self.fuse = nn.Conv2d(channels + 4, channels, 1)

    def forward(self, x):
        bins = [
            F.interpolate(conv(F.adaptive_avg_pool2d(x, k)), x.shape[2:], mode="bilinear")
            for conv, k in zip(self.convs, (2, 3), strict=True)
        ]
        return self.fuse(torch.cat([x, *bins], 1))


class FourierUnit(nn.Module):
    """A convolution of the spectrum of the map."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, x):
        y = torch.fft.rfft2(x, norm="ortho")
        y = F.relu(self.conv(torch.cat([y.real, y.imag], dim=1)))
        real, imag = y.chunk(2, dim=1)
        y = torch.fft.irfft2(torch.complex(real, imag), s=x.shape[2:], norm="ortho")
        return x + y


class ImageLoop(nn.Module):
    """A gate that is computed image by image, with sizes turned into numbers."""

    def __init__(self, channels=8):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        b, c, h, w = map(int, x.shape)
        gated = []
        for i in range(b):
            gate = self.fc(x[i].reshape(c, h * w).sum(1) / float(h * w)).sigmoid()
            gated.append(x[i] * gate[:, None, None])
        return torch.stack(gated)


class FoldedBatch(nn.Module):
    """Adaptive instance norm through a batch norm of one image, as MUNIT writes it."""

    def __init__(self, channels=8):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        b, c = x.size(0), x.size(1)
        mean, var = self.running_mean.repeat(b), self.running_var.repeat(b)
        y = x.contiguous().view(1, b * c, *x.size()[2:])
        y = F.batch_norm(y, mean, var, self.weight.repeat(b), self.bias.repeat(b), True, 0.1, 1e-5)
        return y.view(b, c, *x.size()[2:])


class VolumeGate(nn.Module):
    """Frames in a dim of their own: a norm and a gate of the whole volume."""

    def __init__(self, channels=8, frames=2):
        super().__init__()
        self.frames = frames
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.gate = nn.Conv3d(channels // frames, channels // frames, 1)

    def forward(self, x):
        y = x.view(x.shape[0], -1, self.frames, *x.shape[2:])
        return (y * self.gate(self.pool(y)).sigmoid()).reshape(x.shape)


class VolumeNorm(nn.Module):
    """Group norm of (b, c, d, h, w)."""

    def __init__(self, channels=8, frames=2):
        super().__init__()
        self.frames = frames
        self.norm = nn.GroupNorm(2, channels // frames)

    def forward(self, x):
        y = x.view(x.shape[0], -1, self.frames, *x.shape[2:])
        return self.norm(y).reshape(x.shape)


def _own(block, x, window):
    return block.reference(x, window)


AXES = (
    Idiom("coordinate_attention", CoordinateAttention, "windows"),
    Idiom("strip_gate", StripGate, "windows"),
    Idiom("axis_norms", AxisNorms, "windows"),
    Idiom("strip_pooling", StripPooling, "windows", _own),
    Idiom("axial_attention", AxialAttention, None, _own),
    Idiom("pyramid_pooling", PyramidPooling, "grid"),
    Idiom("fourier_unit", FourierUnit, "grid"),
    Idiom("image_loop", ImageLoop, "windows"),
    Idiom("folded_batch", FoldedBatch, "windows"),
    Idiom("volume_gate", VolumeGate, "windows"),
    Idiom("volume_norm", VolumeNorm, "windows"),
)
