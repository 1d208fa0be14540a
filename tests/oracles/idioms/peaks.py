"""Gates from maxima and from other pools than the mean."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom
from oracles.idioms.pools import ConvGate, LinearGate


class AdaptiveMax(ConvGate):
    def forward(self, x):
        return x * self.excite(F.adaptive_max_pool2d(x, 1))


class MaxPoolFull(ConvGate):
    def forward(self, x):
        return x * self.excite(F.max_pool2d(x, kernel_size=x.size()[2:]))


class FlattenMax(LinearGate):
    def forward(self, x):
        y = self.fc(x.flatten(2).max(-1)[0])
        return x * y[:, :, None, None]


class ViewMaxValues(LinearGate):
    def forward(self, x):
        b, c = x.shape[:2]
        y = torch.max(x.view(b, c, -1), dim=2, keepdim=False).values
        return x * self.fc(y).view(b, c, 1, 1)


class Amax(ConvGate):
    def forward(self, x):
        return x * self.excite(x.amax(dim=(-2, -1), keepdim=True))


class AmaxMinusAmin(ConvGate):
    def forward(self, x):
        span = torch.amax(x, (2, 3), keepdim=True) - torch.amin(x, (2, 3), keepdim=True)
        return x * self.excite(span)


class LogSumExpGate(LinearGate):
    def forward(self, x):
        flat = x.view(x.size(0), x.size(1), -1)
        peak, _ = torch.max(flat, dim=2, keepdim=True)
        y = (peak + (flat - peak).exp().sum(dim=2, keepdim=True).log()).squeeze(2)
        return x * self.fc(y).unsqueeze(2).unsqueeze(3)


class LogSumExpOp(ConvGate):
    def forward(self, x):
        return x * self.excite(torch.logsumexp(x, dim=(2, 3), keepdim=True))


class LpPoolGate(LinearGate):
    def forward(self, x):
        size = (x.size(2), x.size(3))
        y = F.lp_pool2d(x, 2, size, stride=size)
        return x * self.fc(y.flatten(1)).unsqueeze(2).unsqueeze(3)


class GeMGate(ConvGate):
    """Generalised mean, with a power that is learnt."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x):
        y = F.avg_pool2d(x.clamp(min=1e-3).pow(self.p), (x.size(-2), x.size(-1)))
        return x * self.excite(y.pow(1.0 / self.p))


class MinMax(nn.Module):
    """Rescales each image to [0, 1]."""

    def forward(self, x):
        low = x.flatten(1).min(dim=1)[0].view(-1, 1, 1, 1)
        high = x.flatten(1).max(dim=1)[0].view(-1, 1, 1, 1)
        return (x - low) / (high - low + 1e-6)


class Prototype(nn.Module):
    """Cosine similarity of each pixel with the mean pixel."""

    def __init__(self, channels=8):
        super().__init__()
        self.embed = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.embed(x)
        prototype = y.mean((2, 3), keepdim=True)
        alike = F.cosine_similarity(y, prototype, dim=1).unsqueeze(1)
        return x + y * alike


PEAKS = tuple(
    Idiom(name, make, "windows")
    for name, make in {
        "adaptive_max_pool2d": AdaptiveMax,
        "max_pool2d_of_shape": MaxPoolFull,
        "flatten_max": FlattenMax,
        "view_max_values": ViewMaxValues,
        "amax": Amax,
        "amax_minus_amin": AmaxMinusAmin,
        "log_sum_exp_by_hand": LogSumExpGate,
        "logsumexp": LogSumExpOp,
        "lp_pool2d": LpPoolGate,
        "generalised_mean": GeMGate,
        "min_max": MinMax,
        "prototype_similarity": Prototype,
    }.items()
)
