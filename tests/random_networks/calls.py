"""Blocks whose modules are called in unusual ways."""

import warnings

import torch
import torch.nn.functional as F
from torch import nn

from random_networks.contacts import dense
from random_networks.statistics import flat, slow_mean


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
