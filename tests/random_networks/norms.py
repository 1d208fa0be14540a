"""Spellings of normalisations as whole blocks.

More than 300 lines: it is one table.
"""

import torch
import torch.nn.functional as F
from torch import nn

from random_networks.spelling import Block
from random_networks.statistics import flat, slow_least, slow_mean, slow_norm, slow_peak, slow_var

EPS = 1e-3


class Function(nn.Module):
    """A function of the map and of the module's parameters, whose forward is that function."""

    def __init__(self, function, channels):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(channels))
        self.bias = nn.Parameter(0.3 * torch.randn(channels))

    def forward(self, x):
        return self.function(self, x)


def block(name, function, slow, **how):
    return Block(name, lambda c: Function(function, c), slow, **how)


def module(name, make, slow, **how):
    return Block(name, make, slow, **how)


# slow forms: (block, windows) to (n, c)


def slow_instance(block, w, eps=EPS):
    return (w.pixel - slow_mean(w.patches)) / (slow_var(w.patches) + eps) ** 0.5


def slow_affine(block, w):
    return slow_instance(block, w) * block.weight + block.bias


def slow_std_norm(block, w):
    return (w.pixel - slow_mean(w.patches)) / (slow_var(w.patches, 1) ** 0.5 + EPS)


def slow_group(groups, weight=None):
    def slow(block, w):
        n, c = w.pixel.shape
        t = w.patches.reshape(n, groups, -1)
        mean, var = slow_mean(t), slow_var(t)
        y = (w.pixel.reshape(n, groups, -1) - mean[..., None]) / (var[..., None] + EPS) ** 0.5
        y = y.reshape(n, c)
        return y * block.weight + block.bias if weight else y

    return slow


def slow_centred(block, w):
    return w.pixel - slow_mean(w.patches)


# ordinary forms


def instance_functional(net, x):
    return F.instance_norm(x, eps=EPS)


def one_expression(net, x):
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + EPS) * net.weight[None, :, None, None] + net.bias.view(
        1, -1, 1, 1
    )


def two_steps(net, x):
    x = x - x.mean((2, 3), keepdim=True)
    return x / (x.std((2, 3), keepdim=True) + EPS)


def two_steps_square(net, x):
    x = x - x.mean(dim=(2, 3), keepdim=True)
    return x * torch.rsqrt((x * x).mean(dim=(2, 3), keepdim=True) + EPS)


def three_steps(net, x):
    centred = x - torch.mean(x, (-2, -1), True)
    scaled = centred / (centred.pow(2).mean((-2, -1), True) + EPS).sqrt()
    return scaled - scaled.mean((2, 3), keepdim=True) + scaled.amax((2, 3), keepdim=True)


def slow_three_steps(block, w):
    y = slow_instance(block, w)
    peak = (slow_peak(w.patches) - slow_mean(w.patches)) / (slow_var(w.patches) + EPS) ** 0.5
    return y + peak


def steps_in_place(net, x):
    y = x.clone()
    y -= y.mean((2, 3), keepdim=True)
    y.div_(y.std((2, 3), keepdim=True).add_(EPS))
    return y


def variance_of_centred(net, x):
    y = x - x.mean((2, 3), keepdim=True)
    v = (y * y).mean((2, 3), keepdim=True) - y.mean((2, 3), keepdim=True) ** 2
    return y * (v + EPS).rsqrt()


def by_moments(net, x):
    mean = x.mean((2, 3), keepdim=True)
    var = (x**2).mean((2, 3), keepdim=True) - mean**2
    return (x - mean) / (var + EPS).sqrt()


def by_std_mean(net, x):
    std, mean = torch.std_mean(x, (2, 3), keepdim=True)
    return (x - mean) / (std + EPS)


def by_var_mean(net, x):
    var, mean = torch.var_mean(x, dim=[2, 3], keepdim=True, unbiased=False)
    return (x - mean) / (var + EPS) ** 0.5


def by_batch_norm(net, x):
    b, c = x.size(0), x.size(1)
    y = x.contiguous().view(1, b * c, *x.size()[2:])
    y = F.batch_norm(y, None, None, net.weight.repeat(b), net.bias.repeat(b), True, 0.1, EPS)
    return y.view(b, c, *x.size()[2:])


def by_layer_norm(net, x):
    return F.layer_norm(x, x.shape[2:], eps=EPS)


def by_flat_layer_norm(net, x):
    t = x.flatten(2)
    return F.layer_norm(t, (t.shape[-1],), eps=EPS).view_as(x)


def of_flat_map(net, x):
    b, c, h, w = x.shape
    t = x.view(b, c, -1)
    mean, var = t.mean(-1, keepdim=True), t.var(-1, keepdim=True, unbiased=False)
    return ((t - mean) / (var + EPS).sqrt()).view(b, c, h, w)


def of_channels_last(net, x):
    y = x.permute(0, 2, 3, 1)
    mean = y.mean((1, 2), keepdim=True)
    var = (y - mean).square().mean((1, 2), keepdim=True)
    y = (y - mean) / (var + EPS).sqrt() * net.weight + net.bias
    return y.permute(0, 3, 1, 2).contiguous()


def volume(net, x):
    return F.instance_norm(x.unsqueeze(2), eps=EPS).squeeze(2)


def by_sum_and_size(net, x):
    n = x.shape[2] * x.shape[3]
    mean = (x.sum((2, 3)) / n)[:, :, None, None]
    var = ((x - mean) ** 2).sum((2, 3), keepdim=True) / n
    return (x - mean) * (var + EPS).rsqrt()


def group_functional(net, x):
    return F.group_norm(x, 2, net.weight, net.bias, EPS)


def group_by_hand(net, x):
    b, c, h, w = x.shape
    t = x.reshape(b, 2, c // 2, h, w)
    mean = t.mean(dim=(2, 3, 4), keepdim=True)
    var = t.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    return ((t - mean) / torch.sqrt(var + EPS)).view(b, c, h, w)


def group_by_flat(net, x):
    t = x.reshape(x.shape[0], 2, -1)
    t = t - t.mean(2, keepdim=True)
    t = t / (t.square().mean(2, keepdim=True) + EPS).sqrt()
    return t.reshape(x.shape)


def layer_by_hand(net, x):
    mean = x.mean((1, 2, 3), keepdim=True)
    std = (x - mean).pow(2).mean((1, 2, 3), keepdim=True).add(EPS).sqrt()
    return (x - mean) / std


def layer_functional(net, x):
    return F.layer_norm(x, x.shape[1:], eps=EPS)


def slow_layer(block, w):
    return slow_group(1)(block, w)


def adain(net, x):
    content_std, content_mean = torch.std_mean(x.flatten(2), dim=2, keepdim=True)
    b, c = x.shape[:2]
    y = (x - content_mean.view(b, c, 1, 1)) / (content_std.view(b, c, 1, 1) + EPS)
    return y * net.weight.view(1, c, 1, 1) + net.bias.view(1, c, 1, 1)


def grn(net, x):
    y = x.permute(0, 2, 3, 1)
    g = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
    y = net.weight * (y * (g / (g.mean(dim=-1, keepdim=True) + 1e-6))) + net.bias + y
    return y.permute(0, 3, 1, 2)


def grn_channels_first(net, x):
    g = x.pow(2).sum((2, 3), keepdim=True).sqrt()
    n = g / (g.mean(1, keepdim=True) + 1e-6)
    return net.weight[:, None, None] * (x * n) + net.bias[:, None, None] + x


def slow_grn(block, w):
    g = slow_norm(w.patches)
    return block.weight * w.pixel * g / (g.mean(1, keepdim=True) + 1e-6) + block.bias + w.pixel


def unit_maps(net, x):
    return F.normalize(x.flatten(2), dim=-1).view_as(x) * 8


def min_max(net, x):
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return (x - low) / (high - low + EPS)


def min_max_steps(net, x):
    x = x - x.amin((2, 3), keepdim=True)
    return x / (x.amax((2, 3), keepdim=True) + EPS)


def min_max_flat(net, x):
    t = x.flatten(2)
    low, high = t.min(dim=2, keepdim=True)[0], t.max(dim=2, keepdim=True)[0]
    return ((t - low) / (high - low + EPS)).reshape(x.shape)


def slow_min_max(block, w):
    low, high = slow_least(w.patches), slow_peak(w.patches)
    return (w.pixel - low) / (high - low + EPS)


def min_max_all(net, x):
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low + EPS)


def slow_min_max_all(block, w):
    t = w.patches.flatten(1).sort(-1).values
    return (w.pixel - t[:, :1]) / (t[:, -1:] - t[:, :1] + EPS)


def centred(net, x):
    return x - x.mean(dim=(2, 3), keepdim=True).expand_as(x)


def mean_and_peak(net, x):
    return x / (x.abs().amax((2, 3), keepdim=True) + EPS)


class Rescaled(nn.Module):
    """DehazeFormer's layer norm that gives its statistics back."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(1, channels, 1, 1))
        self.bias = nn.Parameter(0.3 * torch.randn(1, channels, 1, 1))
        self.scale, self.shift = nn.Conv2d(1, channels, 1), nn.Conv2d(1, channels, 1)

    def forward(self, x):
        mean = torch.mean(x, dim=(1, 2, 3), keepdim=True)
        std = torch.sqrt((x - mean).pow(2).mean(dim=(1, 2, 3), keepdim=True) + EPS)
        y = (x - mean) / std * self.weight + self.bias
        return y * self.scale(std) + self.shift(mean)


def slow_rescaled(block, w):
    t = w.patches.flatten(1)
    mean = t.sum(-1) / t.shape[-1]
    std = (((t - mean[:, None]) ** 2).sum(-1) / t.shape[-1] + EPS) ** 0.5
    y = (w.pixel - mean[:, None]) / std[:, None] * block.weight.flatten() + block.bias.flatten()
    scale = std[:, None] * block.scale.weight.flatten() + block.scale.bias
    return y * scale + mean[:, None] * block.shift.weight.flatten() + block.shift.bias


class HalfInstance(nn.Module):
    """HINet: half of the channels normalised."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels // 2, affine=True, eps=EPS)

    def forward(self, x):
        a, b = torch.chunk(x, 2, dim=1)
        return torch.cat([self.norm(a), b], dim=1)


def slow_half_instance(block, w):
    c = w.pixel.shape[1] // 2
    y = slow_instance(block, w)[:, :c] * block.norm.weight + block.norm.bias
    return torch.cat([y, w.pixel[:, c:]], 1)


class ByPoolModules(nn.Module):
    """An instance norm made of two calls of one pool."""

    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        mean = self.pool(x)
        return (x - mean) / (self.pool((x - mean) ** 2) + EPS).sqrt()


class InstanceLoop(nn.Module):
    """Image after image."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        out = []
        for image in x:
            mean = image.mean((1, 2), keepdim=True)
            out.append((image - mean) / (image - mean).square().mean((1, 2), True).add(EPS).sqrt())
        return torch.stack(out)


def running(channels):
    return nn.InstanceNorm2d(channels, eps=EPS, track_running_stats=True, momentum=0.0)


NORMS = (
    module("InstanceNorm2d", lambda c: nn.InstanceNorm2d(c, eps=EPS), slow_instance),
    module("InstanceNorm2d affine", lambda c: nn.InstanceNorm2d(c, EPS, affine=True), slow_affine),
    module("instance norm in train mode", running, slow_instance, train_mode=True),
    block("F.instance_norm", instance_functional, slow_instance),
    block("instance norm by hand", one_expression, slow_affine),
    block("instance norm in two steps", two_steps, slow_std_norm),
    block("instance norm in two steps, square", two_steps_square, slow_instance),
    block("instance norm in three steps", three_steps, slow_three_steps),
    block("instance norm in place", steps_in_place, slow_std_norm),
    block("instance norm, variance of the centred map", variance_of_centred, slow_instance),
    block("instance norm by moments", by_moments, slow_instance),
    block("instance norm by std_mean", by_std_mean, slow_std_norm),
    block("instance norm by var_mean", by_var_mean, slow_instance),
    block("instance norm by batch_norm", by_batch_norm, slow_affine),
    block("instance norm by layer_norm", by_layer_norm, slow_instance),
    block("instance norm by a flat layer_norm", by_flat_layer_norm, slow_instance),
    block("instance norm of a flat map", of_flat_map, slow_instance),
    block("instance norm of channels last", of_channels_last, slow_affine),
    block("instance norm of a volume", volume, slow_instance),
    block("instance norm by sums", by_sum_and_size, slow_instance),
    module("instance norm by pool modules", ByPoolModules, slow_instance),
    module("instance norm, image after image", InstanceLoop, slow_instance),
    module("half instance norm", HalfInstance, slow_half_instance),
    module("GroupNorm", lambda c: nn.GroupNorm(2, c, EPS), slow_group(2, True)),
    module("GroupNorm of one group", lambda c: nn.GroupNorm(1, c, EPS), slow_group(1, True)),
    block("F.group_norm", group_functional, slow_group(2, True)),
    block("group norm by hand", group_by_hand, slow_group(2)),
    block("group norm of a flat map, two steps", group_by_flat, slow_group(2)),
    block("layer norm of C, H, W by hand", layer_by_hand, slow_layer),
    block("F.layer_norm of C, H, W", layer_functional, slow_layer),
    module("rescaled layer norm", Rescaled, slow_rescaled),
    block("AdaIN", adain, lambda b, w: slow_std_norm(b, w) * b.weight + b.bias),
    block("GRN of channels last", grn, slow_grn),
    block("GRN of channels first", grn_channels_first, slow_grn),
    block("F.normalize of a flat map", unit_maps, lambda b, w: 8 * w.pixel / slow_norm(w.patches)),
    block("min-max", min_max, slow_min_max),
    block("min-max in two steps", min_max_steps, slow_min_max),
    block("min-max of a flat map", min_max_flat, slow_min_max),
    block("min-max of the image", min_max_all, slow_min_max_all),
    block("centred, expand_as", centred, slow_centred),
    block(
        "divided by the peak",
        mean_and_peak,
        lambda b, w: w.pixel / (slow_peak(flat(w.patches).abs()[..., None]) + EPS),
    ),
)
