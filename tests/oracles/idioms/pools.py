"""Gates from one mean vector, with the mean written in different ways."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom


class LinearGate(nn.Module):
    """Layers of a gate with two linear layers."""

    def __init__(self, channels=8, reduction=2):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )


class ConvGate(nn.Module):
    """Layers of a gate with two 1x1 convolutions."""

    def __init__(self, channels=8, reduction=2):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // reduction, 1)
        self.conv2 = nn.Conv2d(channels // reduction, channels, 1)

    def excite(self, y):
        return torch.sigmoid(self.conv2(F.relu(self.conv1(y), inplace=True)))


class SEView(LinearGate):
    def __init__(self):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class SEFunctionalView(LinearGate):
    def forward(self, x):
        b, c, _, _ = x.shape
        y = F.adaptive_avg_pool2d(x, (1, 1)).view(b, c)
        return x * self.fc(y).view(b, c, 1, 1)


class MeanBothDims(ConvGate):
    def forward(self, x):
        return torch.mul(x, self.excite(torch.mean(x, dim=(2, 3), keepdim=True)))


class MeanBothDimsLinear(LinearGate):
    def forward(self, x):
        y = x.mean([-2, -1])
        return x * self.fc(y)[:, :, None, None]


class MeanThenMean(LinearGate):
    def forward(self, x):
        y = self.fc(x.mean(3).mean(2))
        return x * y.unsqueeze(2).unsqueeze(3)


class MeanLastTwice(LinearGate):
    def forward(self, x):
        y = self.fc(x.mean(-1).mean(-1))
        return x * y.view(y.size(0), y.size(1), 1, 1)


class MeanOfPixels(LinearGate):
    def forward(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c, h * w).mean(dim=2)
        return x * self.fc(y).reshape(b, c, 1, 1)


class MeanOfFusedView(LinearGate):
    """Means of a view with batch and channels in one dim."""

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.reshape(b * c, h * w).mean(1).view(b, c)
        return x * self.fc(y).view(b, c, 1, 1)


class MeanOfTokens(LinearGate):
    """A gate in a transformer: (b, n, c) tokens, mean over n."""

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens * self.fc(tokens.mean(1, keepdim=True))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class SumOverArea(ConvGate):
    def forward(self, x):
        h, w = x.shape[2], x.shape[3]
        return x * self.excite(x.sum((2, 3), keepdim=True) / (h * w))


class ScaledThenSummed(LinearGate):
    def forward(self, x):
        _, _, h, w = x.size()
        y = (x / (h * w)).sum(dim=[2, 3])
        return x * self.fc(y)[..., None, None]


class AvgPoolFull(ConvGate):
    def forward(self, x):
        return x * self.excite(F.avg_pool2d(x, x.shape[2:]))


class AvgPoolFullStride(LinearGate):
    def forward(self, x):
        y = F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3)))
        y = self.fc(y.view(y.size(0), -1))
        return x * y.unsqueeze(2).unsqueeze(3).expand_as(x)


class AdaptiveAvg(ConvGate):
    def forward(self, x):
        return self.excite(F.adaptive_avg_pool2d(x, 1)) * x


class ECA(nn.Module):
    """A 1-D convolution over the channels."""

    def __init__(self, k=3):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel_size=k, padding=(k - 1) // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        y = self.avg_pool(x)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * self.sigmoid(y).expand_as(x)


class ECAFunctional(ECA):
    def forward(self, x):
        y = x.mean((2, 3))
        y = self.conv(y.unsqueeze(1)).squeeze(1)
        return x * self.sigmoid(y)[:, :, None, None]


class EinsumMean(ConvGate):
    def forward(self, x):
        y = torch.einsum("bchw->bc", x) / (x.shape[-2] * x.shape[-1])
        return x * self.excite(y[:, :, None, None])


class EinsumSE(LinearGate):
    """The gate multiplies the map in an einsum, too."""

    def forward(self, x):
        gate = self.fc(torch.einsum("bchw->bc", x) / x[0, 0].numel())
        return torch.einsum("bchw,bc->bchw", x, gate)


class DoublePoolResidual(ConvGate):
    def forward(self, x):
        avg = self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1))))
        peak = self.conv2(F.relu(self.conv1(F.adaptive_max_pool2d(x, 1))))
        return x + x * torch.sigmoid(avg + peak)


class SimpleGateSCA(nn.Module):
    """NAFNet's gate and simplified channel attention, as functions."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.sca = nn.Conv2d(channels, channels, 1)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros((1, channels, 1, 1)))

    def forward(self, inp):
        x1, x2 = self.conv1(inp).chunk(2, dim=1)
        x = x1 * x2
        x = x * self.sca(x.mean(dim=[2, 3], keepdim=True))
        return inp + self.conv3(x) * self.beta


class BatchNormGate(nn.Module):
    """BAM's channel gate: batch norm of the vector."""

    def __init__(self, channels=8):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, 4),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Linear(4, channels),
        )

    def forward(self, x):
        gate = self.fc(F.avg_pool2d(x, x.size()[2:], stride=x.size()[2:]))
        return x * (1 + torch.sigmoid(gate.unsqueeze(2).unsqueeze(3).expand_as(x)))


class MulInPlace(ConvGate):
    """Overwrites its input."""

    def forward(self, x):
        return x.mul_(self.excite(x.mean((2, 3), keepdim=True)))


class TimesEquals(LinearGate):
    def __init__(self, channels=8):
        super().__init__(channels)
        self.body = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.body(x)
        gate = self.fc(y.mean((2, 3)))
        y *= gate[:, :, None, None]
        y += x
        return y


class MeanChannelsLast(LinearGate):
    """Channels last: (b, h, w, c) inside."""

    def forward(self, x):
        y = x.permute(0, 2, 3, 1)
        gate = self.fc(y.mean(dim=(1, 2), keepdim=True))
        return (y * gate).permute(0, 3, 1, 2).contiguous()


POOLS = tuple(
    Idiom(name, make, "windows")
    for name, make in {
        "se_view_linear": SEView,
        "se_functional_view_linear": SEFunctionalView,
        "mean_2_3_conv": MeanBothDims,
        "mean_2_3_linear": MeanBothDimsLinear,
        "mean_3_mean_2": MeanThenMean,
        "mean_last_mean_last": MeanLastTwice,
        "mean_of_view": MeanOfPixels,
        "mean_of_fused_view": MeanOfFusedView,
        "mean_of_tokens": MeanOfTokens,
        "mean_channels_last": MeanChannelsLast,
        "sum_over_area": SumOverArea,
        "scaled_then_summed": ScaledThenSummed,
        "avg_pool2d_of_shape": AvgPoolFull,
        "avg_pool2d_of_sizes_stride": AvgPoolFullStride,
        "adaptive_avg_pool2d": AdaptiveAvg,
        "eca_published": ECA,
        "eca_functional": ECAFunctional,
        "einsum_mean": EinsumMean,
        "einsum_se": EinsumSE,
        "double_pool_residual": DoublePoolResidual,
        "simple_gate_sca": SimpleGateSCA,
        "batch_norm_gate": BatchNormGate,
        "mul_in_place": MulInPlace,
        "times_equals": TimesEquals,
    }.items()
)
