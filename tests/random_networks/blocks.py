"""Whole blocks of published networks that follow the law of windows.

More than 300 lines: it is one table.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import nn

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


class PlainList(nn.Module):
    """Registered modules called through a plain list."""

    def __init__(self, channels):
        super().__init__()
        self.point, self.norm = nn.Conv2d(channels, channels, 1), nn.InstanceNorm2d(channels)
        self.layers = [self.point, nn.GELU(), self.norm]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def slow_plain_list(block, w):
    t = F.gelu(
        torch.einsum("nchw,oc->nohw", w.patches, block.point.weight[:, :, 0, 0])
        + block.point.bias[:, None, None]
    )
    p = F.gelu(dense(block.point, w.pixel))
    mean = slow_mean(t)
    return (p - mean) / (
        ((flat(t) - mean[..., None]) ** 2).sum(-1) / flat(t).shape[-1] + 1e-5
    ) ** 0.5


class PlainDict(nn.Module):
    """Registered modules called through a plain dict."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.tools = {"norm": self.norm, "act": torch.tanh}

    def forward(self, x):
        return self.tools["act"](self.tools["norm"](x))


def slow_plain_dict(block, w):
    t = flat(w.patches)
    mean = slow_mean(w.patches)
    y = (w.pixel - mean) / (((t - mean[..., None]) ** 2).sum(-1) / t.shape[-1] + 1e-5) ** 0.5
    return torch.tanh(y * block.norm.weight + block.norm.bias)


class Hooked(nn.Module):
    """A gate in a forward hook of a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.conv.register_forward_hook(self.gate)

    def gate(self, module, args, out):
        return out * self.fc(out.mean((2, 3), keepdim=True)).sigmoid()

    def forward(self, x):
        return self.conv(x)


def slow_hooked(block, w):
    s = dense(block.fc, dense(block.conv, slow_mean(w.patches))).sigmoid()
    return dense(block.conv, w.pixel) * s


class WrappedForward(nn.Module):
    """Its forward is replaced on the instance."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)
        plain = self.forward
        self.forward = lambda x: plain(x) + 0.1

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None].sigmoid()


def slow_wrapped(block, w):
    return w.pixel * dense(block.fc, slow_mean(w.patches)).sigmoid() + 0.1


class Keywords(nn.Module):
    """One child called twice with other keyword arguments."""

    def __init__(self, channels):
        super().__init__()
        self.inner = Moded(channels)

    def forward(self, x):
        return self.inner(x=x, power=1.0) + self.inner(x=x, power=2.0, sign=-1)


class Moded(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x, power=1.0, sign=1):
        s = self.fc(x.abs().pow(power).mean((2, 3)))
        return sign * x * s.tanh()[..., None, None]


def slow_keywords(block, w):
    one, two = (dense(block.inner.fc, slow_mean(w.patches.abs() ** k)).tanh() for k in (1, 2))
    return w.pixel * (one - two)


class SameRepr(nn.Module):
    """Two children that differ in a plain attribute alone."""

    def __init__(self, channels):
        super().__init__()
        self.up, self.down = Attribute(channels, "mul"), Attribute(channels, "add")

    def forward(self, x):
        return self.up(x) - 0.5 * self.down(x)


class Attribute(nn.Module):
    def __init__(self, channels, how):
        super().__init__()
        self.how, self.pool = how, nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, channels), nn.Sigmoid())

    def forward(self, x):
        g = self.fc(self.pool(x).flatten(1))[:, :, None, None]
        return x * g if self.how == "mul" else x + g


def slow_same_repr(block, w):
    s = slow_mean(w.patches)
    up, down = dense(block.up.fc[0], s).sigmoid(), dense(block.down.fc[0], s).sigmoid()
    return w.pixel * up - 0.5 * (w.pixel + down)


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


class SquareBranch(nn.Module):
    """One path for square maps, another for the rest, with one result."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        if h == w:
            a, b = torch.cat([x, x.transpose(2, 3)]).relu().chunk(2)
        else:
            a, b = x.relu(), x.transpose(2, 3).relu()
        y = a + b.transpose(2, 3)
        return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


def slow_square(block, w):
    return 2 * w.pixel.relu() * dense(block.gate, 2 * slow_mean(w.patches.relu())).sigmoid()


class OnePoint(nn.Module):
    """Works in place on the result of its own convolution."""

    def __init__(self, channels):
        super().__init__()
        self.point, self.fc = nn.Conv2d(channels, channels, 1), nn.Linear(channels, channels)

    def forward(self, x):
        y = self.point(x)
        y.mul_(self.fc(y.mean((2, 3)))[:, :, None, None].sigmoid_())
        return y


def slow_one_point(block, w):
    s = dense(block.fc, dense(block.point, slow_mean(w.patches))).sigmoid()
    return dense(block.point, w.pixel) * s


class IgnoredReturn(nn.Module):
    """Its child works in place, and the return value is ignored."""

    def __init__(self, channels):
        super().__init__()
        self.point, self.gate = nn.Conv2d(channels, channels, 1), InPlaceGate(channels)

    def forward(self, x):
        x = self.point(x)
        self.gate(x)
        return x


class InPlaceGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        return x.mul_(self.fc(x.mean((2, 3)))[:, :, None, None].sigmoid())


def slow_ignored(block, w):
    s = dense(block.gate.fc, dense(block.point, slow_mean(w.patches))).sigmoid()
    return dense(block.point, w.pixel) * s


class IgnoredModules(nn.Module):
    """The same with a pool module."""

    def __init__(self, channels):
        super().__init__()
        self.point, self.gate = nn.Conv2d(channels, channels, 1), InPlaceModules(channels)

    def forward(self, x):
        y = self.point(x)
        _ = self.gate(y)
        return x + y


class InPlaceModules(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, channels), nn.Sigmoid())

    def forward(self, x):
        return x.mul_(self.fc(self.pool(x).flatten(1))[:, :, None, None])


def slow_ignored_modules(block, w):
    s = dense(block.gate.fc[0], dense(block.point, slow_mean(w.patches))).sigmoid()
    return w.pixel + dense(block.point, w.pixel) * s


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


class WeightNormed(nn.Module):
    """A perceptron with weight norm."""

    def __init__(self, channels):
        super().__init__()
        self.fc = torch.nn.utils.parametrizations.weight_norm(nn.Linear(channels, channels))

    def forward(self, x):
        return x * self.fc(x.mean(dim=(2, 3)))[..., None, None].sigmoid()


def slow_weight_normed(block, w):
    return w.pixel * dense(block.fc, slow_mean(w.patches)).sigmoid()


class OldNorm(nn.Module):
    """A perceptron with a norm of torch.nn.utils, which works by hooks; called once before."""

    def __init__(self, channels, norm):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated
            self.fc = norm(nn.Linear(channels, channels))
        self.fc(torch.ones(1, channels))

    def forward(self, x):
        return x * self.fc(x.mean(dim=(2, 3)))[..., None, None].sigmoid()


def slow_old_weight_norm(block, w):
    fc = block.fc
    weight = fc.weight_v * fc.weight_g / (fc.weight_v**2).sum(1, keepdim=True) ** 0.5
    return w.pixel * (slow_mean(w.patches) @ weight.T + fc.bias).sigmoid()


def slow_spectral_norm(block, w):
    fc = block.fc
    weight = fc.weight_orig / (fc.weight_u @ fc.weight_orig @ fc.weight_v)
    return w.pixel * (slow_mean(w.patches) @ weight.T + fc.bias).sigmoid()


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


BLOCKS = (
    Block("SE as a Sequential", ChannelAttention, slow_channel_attention),
    Block("CBAM max + mean", MaxAndMean, slow_max_and_mean),
    Block("ECA", Efficient, slow_efficient),
    Block("GCNet", Context, slow_context),
    Block("SKFF", SelectiveFusion, slow_fusion),
    Block("contrast-aware attention", ContrastAttention, slow_contrast),
    Block("modules in a plain list", PlainList, slow_plain_list),
    Block("modules in a plain dict", PlainDict, slow_plain_dict),
    Block("gate in a hook", Hooked, slow_hooked, converts=False),
    Block("forward replaced on the instance", WrappedForward, slow_wrapped, converts=False),
    Block("two calls by keywords", Keywords, slow_keywords),
    Block("two blocks of one repr", SameRepr, slow_same_repr),
    Block("dynamic filter, grouped", GroupedFilter, slow_grouped),
    Block("dynamic filter, unfold", UnfoldedFilter, slow_unfolded),
    Block("coordinate attention", Coordinates, slow_coordinates),
    Block("strip pools", Strips, slow_strips),
    Block("branch for square maps", SquareBranch, slow_square),
    Block("gate in place on an own convolution", OnePoint, slow_one_point),
    Block("gate in place, return value ignored", IgnoredReturn, slow_ignored),
    Block("pool and gate in place, value ignored", IgnoredModules, slow_ignored_modules),
    Block("gate of another map", OtherMap, slow_map=slow_other_map),
    Block("residual block with a gate", Residual, slow_map=slow_residual),
    Block("weight-normed perceptron", WeightNormed, slow_weight_normed),
    Block(
        "old weight norm",
        lambda c: OldNorm(c, torch.nn.utils.weight_norm),
        slow_old_weight_norm,
    ),
    Block(
        "old spectral norm",
        lambda c: OldNorm(c, torch.nn.utils.spectral_norm),
        slow_spectral_norm,
    ),
    Block("blended experts", Experts, slow_experts),
    Block("experts, folded batch", FoldedExperts, slow_folded_experts),
    Block("dynamic convolution", DynamicConvolution, slow_dynamic),
)
