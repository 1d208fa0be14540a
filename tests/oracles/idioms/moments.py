"""Variance pooling and normalisations, written by hand and by torch's functions."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom, by_windows
from oracles.idioms.pools import ConvGate
from oracles.ops import local_instance_norm


class ContrastPool(ConvGate):
    """IMDN's contrast-aware channel attention: standard deviation plus mean, by sums."""

    def forward(self, x):
        h, w = x.size(2), x.size(3)
        mean = x.sum(3, keepdim=True).sum(2, keepdim=True) / (h * w)
        spread = (x - mean).pow(2).sum(3, keepdim=True).sum(2, keepdim=True) / (h * w)
        return x * self.excite(spread.pow(0.5) + mean)


class ContrastMean(ConvGate):
    def forward(self, x):
        mean = x.mean((2, 3), keepdim=True)
        std = ((x - mean) ** 2).mean((2, 3), keepdim=True).pow(1 / 2)
        return x * self.excite(std + mean)


class StdPlusMean(ConvGate):
    def forward(self, x):
        y = x.std((2, 3), keepdim=True) + x.mean((2, 3), keepdim=True)
        return x * self.excite(y)


class StdMeanCat(nn.Module):
    """Style-based recalibration: mean and deviation of each channel, side by side."""

    def __init__(self, channels=8):
        super().__init__()
        self.fc = nn.Linear(2 * channels, channels)

    def forward(self, x):
        b, c, _, _ = x.size()
        flat = x.view(b, c, -1)
        style = torch.cat([flat.mean(-1), flat.std(-1, unbiased=False)], dim=1)
        return x * torch.sigmoid(self.fc(style)).view(b, c, 1, 1)


class VarUnbiased(ConvGate):
    def forward(self, x):
        return x * self.excite(torch.var(x, dim=(2, 3), keepdim=True))


class VarBiased(ConvGate):
    def forward(self, x):
        return x * self.excite(x.var((2, 3), unbiased=False, keepdim=True))


class VarMean(ConvGate):
    def forward(self, x):
        var, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
        return x * self.excite(mean / torch.sqrt(var + 1e-2))


class MeanAbsoluteDeviation(ConvGate):
    def forward(self, x):
        mean = x.mean((2, 3), keepdim=True)
        return x * self.excite((x - mean).abs().mean((2, 3), keepdim=True))


class SimAM(nn.Module):
    """Parameter-free attention: each pixel's squared distance from the mean over the variance."""

    def forward(self, x):
        n = x.shape[2] * x.shape[3] - 1
        d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        y = d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + 1e-4)) + 0.5
        return x * torch.sigmoid(y)


class PlainInstanceNorm(nn.Module):
    def forward(self, x):
        return F.instance_norm(x)


class AffineInstanceNorm(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        y = F.instance_norm(x, weight=self.weight, bias=self.bias, eps=1e-3)
        return x + F.leaky_relu(y, 0.2)


class HalfInstanceNorm(nn.Module):
    """HINet's block: one half of the channels is normalised, between 3x3 convolutions."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.weight = nn.Parameter(torch.ones(channels // 2))
        self.bias = nn.Parameter(torch.zeros(channels // 2))

    def forward(self, x):
        out = self.conv_1(x)
        out_1, out_2 = torch.chunk(out, 2, dim=1)
        out = torch.cat([F.instance_norm(out_1, None, None, self.weight, self.bias), out_2], dim=1)
        return x + F.relu(self.conv_2(F.leaky_relu(out, 0.2)))


def half_instance_norm(block, x, window):
    out_1, out_2 = block.conv_1(x).chunk(2, 1)
    out_1 = local_instance_norm(out_1, window, block.weight, block.bias)
    out = F.leaky_relu(torch.cat([out_1, out_2], 1), 0.2)
    return x + F.relu(block.conv_2(out))


def mean_std(feat, eps=1e-5):
    n, c = feat.size()[:2]
    var = feat.view(n, c, -1).var(dim=2) + eps
    std = var.sqrt().view(n, c, 1, 1)
    return feat.view(n, c, -1).mean(dim=2).view(n, c, 1, 1), std


class AdaIN(nn.Module):
    """The content takes the mean and deviation of the style."""

    def __init__(self, channels=8):
        super().__init__()
        self.content = nn.Conv2d(channels, channels, 1)
        self.style = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        content, style = self.content(x), self.style(x)
        size = content.size()
        style_mean, style_std = mean_std(style)
        mean, std = mean_std(content)
        normalised = (content - mean.expand(size)) / std.expand(size)
        return normalised * style_std.expand(size) + style_mean.expand(size)


class NormByVar(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        var = torch.var(x, dim=(2, 3), unbiased=False, keepdim=True)
        mean = torch.mean(x, dim=(2, 3), keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.g + self.b


class NormBySquares(nn.Module):
    def forward(self, x):
        mu = x.mean(dim=(-2, -1), keepdim=True)
        var = ((x - mu) ** 2).mean(dim=(-2, -1), keepdim=True)
        return (x - mu) * torch.rsqrt(var + 1e-5)


class NormByMoments(nn.Module):
    """Variance as the mean of the squares less the square of the mean."""

    def forward(self, x):
        mu = x.mean((2, 3), keepdim=True)
        var = (x * x).mean((2, 3), keepdim=True) - mu * mu
        return (x - mu) / torch.sqrt(var + 1e-3)


class FunctionalGroupNorm(nn.Module):
    def __init__(self, channels=8, groups=2):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.silu(F.group_norm(x, self.groups, self.weight, self.bias, 1e-6))


class GroupNormByView(nn.Module):
    def __init__(self, channels=8, groups=2):
        super().__init__()
        self.groups = groups
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        n, c, h, w = x.size()
        y = x.view(n, self.groups, -1)
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True) + 1e-5).sqrt()
        return y.view(n, c, h, w) * self.gamma + self.beta


class LayerNormOfShape(nn.Module):
    def forward(self, x):
        return x + F.layer_norm(x, x.shape[1:])


class GRN(nn.Module):
    """Global response normalisation, channels last as in ConvNeXt V2."""

    def __init__(self, dim=8):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        gx = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        nx = gx / (gx.mean(dim=-1, keepdim=True) + 1e-6)
        x = self.gamma * (x * nx) + self.beta + x
        return x.permute(0, 3, 1, 2)


class GRNFirst(nn.Module):
    """The same with the channels first."""

    def __init__(self, dim=8):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x):
        gx = torch.linalg.vector_norm(x, ord=2, dim=(2, 3), keepdim=True)
        nx = gx / (gx.mean(dim=1, keepdim=True) + 1e-6)
        return self.gamma * (x * nx) + self.beta + x


class NormConvGate(nn.Module):
    """Two global operations in one forward, a convolution between them."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        y = F.relu(self.conv(F.instance_norm(x)))
        gate = torch.sigmoid(self.fc(y.mean((2, 3))))
        return x + y * gate[:, :, None, None]


def norm_conv_gate(block, x, window):
    y = F.relu(block.conv(local_instance_norm(x, window)))

    def gated(patch):
        return patch * torch.sigmoid(block.fc(patch.mean((2, 3))))[:, :, None, None]

    return x + by_windows(gated, y, window)


MOMENTS = (
    *(
        Idiom(name, make, "windows")
        for name, make in {
            "contrast_pool_by_sums": ContrastPool,
            "contrast_pool_by_means": ContrastMean,
            "std_plus_mean": StdPlusMean,
            "style_pool": StdMeanCat,
            "var_unbiased": VarUnbiased,
            "var_biased": VarBiased,
            "var_mean": VarMean,
            "simam": SimAM,
            "instance_norm": PlainInstanceNorm,
            "instance_norm_affine": AffineInstanceNorm,
            "adain": AdaIN,
            "norm_by_var": NormByVar,
            "norm_by_squares": NormBySquares,
            "norm_by_moments": NormByMoments,
            "group_norm": FunctionalGroupNorm,
            "group_norm_module": lambda: nn.GroupNorm(4, 8),
            "group_norm_by_view": GroupNormByView,
            "layer_norm_of_shape": LayerNormOfShape,
            "grn_channels_last": GRN,
            "grn_channels_first": GRNFirst,
        }.items()
    ),
    Idiom("half_instance_norm", HalfInstanceNorm, "windows", half_instance_norm),
    Idiom("norm_conv_gate", NormConvGate, None, norm_conv_gate),
    Idiom("mean_absolute_deviation", MeanAbsoluteDeviation, "windows", may_refuse=True),
)
