"""Blocks that mix pixels (tiles, grids, bins), and blocks without global operations.

More than 300 lines: it is one table.
"""

import torch
import torch.nn.functional as F
from torch import nn

from random_networks.norms import block
from random_networks.spelling import Block


class Attention(nn.Module):
    """Parts that all attentions share."""

    def __init__(self, channels):
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)
        self.temperature = nn.Parameter(torch.ones(2, 1, 1))


class Transposed(Attention):
    """Restormer: channels attend to channels, (b, heads, c, h · w)."""

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, 2, c // 2, h * w) for t in self.qkv(x).chunk(3, dim=1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attn = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        return self.out((attn @ v).reshape(b, c, h, w))


class TransposedTokens(Attention):
    """RetinexFormer's layout: tokens (b, h · w, c)."""

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = self.qkv(x).permute(0, 2, 3, 1).reshape(b, h * w, 3 * c)
        q, k, v = (
            t.reshape(b, h * w, 2, c // 2).permute(0, 2, 3, 1) for t in tokens.chunk(3, dim=-1)
        )
        attn = F.normalize(k, dim=-1, p=2) @ F.normalize(q, dim=-1, p=2).transpose(-2, -1)
        y = (attn * self.temperature).softmax(dim=-1) @ v
        y = y.permute(0, 3, 1, 2).reshape(b, h * w, c).view(b, h, w, c)
        return x + self.out(y.permute(0, 3, 1, 2))


class TransposedEinsum(Attention):
    """Channel attention without heads, by einsum."""

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=1)
        n = x.shape[-1] * x.shape[-2]
        gram = torch.einsum("bchw,bdhw->bcd", q, k) / n
        return self.out(torch.einsum("bcd,bdhw->bchw", gram.softmax(-1), v))


class Gram(Attention):
    """DANet's channel attention of the map itself."""

    def forward(self, x):
        b, c, h, w = x.size()
        q = x.view(b, c, -1)
        energy = torch.bmm(q, q.permute(0, 2, 1)) / (h * w)
        attn = torch.softmax(energy.max(-1, keepdim=True)[0].expand_as(energy) - energy, dim=-1)
        return x + torch.bmm(attn, q).view(b, c, h, w)


class NonLocal(Attention):
    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).flatten(2).chunk(3, dim=1)
        attn = torch.softmax(q.transpose(1, 2) @ k / c**0.5, dim=-1)
        return x + self.out((v @ attn.transpose(1, 2)).view(b, c, h, w))


class ScaledDot(Attention):
    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, c, h, w)
        return x + self.out(y)


class Linear(Attention):
    """Linear attention with a positive feature map."""

    def forward(self, x):
        q, k, v = (t.flatten(2) for t in self.qkv(x).chunk(3, dim=1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        context = torch.einsum("bcn,bdn->bcd", k, v)
        y = (
            torch.einsum("bcn,bcd->bdn", q, context)
            / torch.einsum("bcn,bc->bn", q, k.sum(-1))[:, None]
        )
        return self.out(y.view_as(x))


class Efficient(Attention):
    """Keys by a softmax over pixels, queries by one over channels."""

    def forward(self, x):
        q, k, v = (t.flatten(2) for t in self.qkv(x).chunk(3, dim=1))
        context = k.softmax(dim=2) @ v.transpose(1, 2)
        return self.out((context.transpose(1, 2) @ q.softmax(dim=1)).view(x.shape))


class Rows(Attention):
    """Pixels of a row attend to each other (axis attention)."""

    def forward(self, x):
        q, k, v = (t.permute(0, 2, 3, 1) for t in self.qkv(x).chunk(3, dim=1))
        y = (q @ k.transpose(-1, -2) / x.shape[1] ** 0.5).softmax(-1) @ v
        return x + self.out(y.permute(0, 3, 1, 2))


class Columns(Attention):
    """Columns folded into the batch (Stripformer, LLFormer)."""

    def forward(self, x):
        b, c, h, w = x.shape
        t = self.qkv(x).permute(0, 3, 2, 1).reshape(b * w, h, 3 * c)
        q, k, v = t.chunk(3, dim=-1)
        y = torch.softmax(q @ k.transpose(1, 2) / c**0.5, -1) @ v
        return x + self.out(y.view(b, w, h, c).permute(0, 3, 2, 1))


class Grid(nn.Module):
    """MAXIM's grid mixing: 4x4 cells, a dense layer over them."""

    def __init__(self, channels):
        super().__init__()
        self.dense = nn.Linear(16, 16)

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c, 4, h // 4, 4, w // 4).permute(0, 1, 3, 5, 2, 4)
        y = self.dense(y.reshape(b, c, h // 4, w // 4, 16)).view(b, c, h // 4, w // 4, 4, 4)
        return x + y.permute(0, 1, 4, 2, 5, 3).reshape(b, c, h, w)


class Pyramid(nn.Module):
    """PSP's bins: a pool to 2x2, upsampled to the map."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.conv(F.adaptive_avg_pool2d(x, 2))
        return x + F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class Prompt(nn.Module):
    """PromptIR: a blend of learned maps, resized to the map."""

    def __init__(self, channels):
        super().__init__()
        self.maps = nn.Parameter(torch.randn(1, 3, channels, 5, 5))
        self.weigh = nn.Linear(channels, 3)

    def forward(self, x):
        b, _, h, w = x.shape
        weights = F.softmax(self.weigh(x.mean(dim=(-2, -1))), dim=1)
        maps = self.maps.unsqueeze(0).repeat(b, 1, 1, 1, 1, 1).squeeze(1)
        prompt = torch.sum(weights[:, :, None, None, None] * maps, dim=1)
        return x + F.interpolate(prompt, (h, w), mode="bilinear")


class PooledKeys(Attention):
    """Pixels attend to a pool of the map (pyramid attention)."""

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=1)
        k, v = (F.adaptive_avg_pool2d(t, 4).flatten(2) for t in (k, v))
        attn = (q.flatten(2).transpose(1, 2) @ k / c**0.5).softmax(-1)
        return x + self.out((attn @ v.transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w))


class BySize(nn.Module):
    """Works at half size where the image is large."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        y = x
        if min(x.shape[2:]) > 40:
            y = F.avg_pool2d(y, 2)
        return x * self.fc(y.std((2, 3)))[..., None, None]


class AsDeepAsTheSize(nn.Module):
    """Halves the map until it is small."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        y = x
        while min(y.shape[2:]) >= 8:
            y = F.avg_pool2d(y, 2)
        return x * self.fc(y.amax((2, 3)))[..., None, None].sigmoid()


class PadsToMultiple(nn.Module):
    """Pads to a multiple of 4 by reflection, gates, and crops."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        y = F.pad(x, (0, (4 - w % 4) % 4, 0, (4 - h % 4) % 4), mode="reflect")
        y = y * self.fc(y.mean((2, 3), keepdim=True)).sigmoid()
        return y[..., :h, :w]


def neighbourhood(net, x):
    k = (x.shape[2] - 1) | 1, (x.shape[3] - 1) | 1
    return x - F.avg_pool2d(x, k, 1, (k[0] // 2, k[1] // 2))


def growing_neighbourhood(net, x):
    h, w = x.shape[2] // 2, x.shape[3] // 2
    return x - F.avg_pool2d(x, (2 * h + 1, 2 * w + 1), 1, (h, w), count_include_pad=False)


def softmax_map(net, x):
    return x * x.flatten(2).softmax(-1).view_as(x) * 64


def flipped(net, x):
    return x + 0.5 * x.flip(3)


def rolled(net, x):
    return x + 0.5 * torch.roll(x, x.shape[3] // 2, 3)


def mirrored_samples(net, x):
    theta = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=x.dtype)
    grid = F.affine_grid(theta.expand(x.shape[0], 2, 3), list(x.shape), align_corners=False)
    return x + 0.5 * F.grid_sample(x, grid, align_corners=False)


def pixel_axis_cumsum(net, x):
    return x.cumsum(3) / (x.shape[3] + 1)


# local already


def circular(net, x):
    y = F.pad(x, (1, 1, 1, 1), mode="circular")
    return x - F.avg_pool2d(y, 3, 1)


def tensor_unfold(net, x):
    patches = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return (patches * patches.mean(1, keepdim=True)).sum(-1)


def slow_tensor_unfold(block, w):
    near = [w.near(i // 3 - 1, i % 3 - 1) for i in range(9)]
    return sum(p * p.mean(1, keepdim=True) for p in near)


def channel_norm(net, x):
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / (var + 1e-3).sqrt() * net.weight[None, :, None, None]


def slow_channel_norm(block, w):
    mean = w.pixel.mean(1, keepdim=True)
    var = ((w.pixel - mean) ** 2).mean(1, keepdim=True)
    return (w.pixel - mean) / (var + 1e-3) ** 0.5 * block.weight


def loose(name, make, **how):
    return Block(name, make, law="loose", **how)


def loose_function(name, function, **how):
    return block(name, function, None, law="loose", **how)


MIXING = (
    loose("transposed attention", Transposed),
    loose("transposed attention of tokens", TransposedTokens),
    loose("transposed attention by einsum", TransposedEinsum),
    loose("channel gram attention", Gram),
    loose("non-local attention", NonLocal),
    loose("scaled_dot_product_attention", ScaledDot),
    loose("linear attention", Linear),
    loose("efficient attention", Efficient),
    loose("row attention", Rows),
    loose("column attention in the batch", Columns),
    Block("grid mixing", Grid, law="grid", multiple=4),
    Block("pool to 2x2, upsampled", Pyramid, law="grid"),
    loose("prompt of the size of the map", Prompt),
    Block("attention to a pooled map", PooledKeys, law="grid", converts=False),
    loose("half size where large", BySize, converts=False),
    loose("as deep as the size allows", AsDeepAsTheSize, converts=False),
    loose("pads to a multiple and crops", PadsToMultiple, converts=False),
    loose_function("softmax of the map", softmax_map),
    loose_function("pool kernel follows the map", neighbourhood, converts=False),
    loose_function("pool kernel grows, no padding counted", growing_neighbourhood, converts=False),
    loose_function("flipped map", flipped, converts=False),
    loose_function("rolled map", rolled, converts=False),
    loose_function("mirrored grid_sample", mirrored_samples, converts=False),
    loose_function("cumulative sum along a row", pixel_axis_cumsum, converts=False),
)

LOCAL = (
    block("circular padding", circular, None, law="wraps"),
    block("Tensor.unfold", tensor_unfold, slow_tensor_unfold),
    block("channel norm by hand", channel_norm, slow_channel_norm),
)
