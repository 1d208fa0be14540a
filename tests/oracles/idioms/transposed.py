"""Attention between channels, by products over all pixels."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom
from oracles.idioms.parts import QKV, TokenQKV
from oracles.ops import local_channel_attention


def split_heads(t, heads):
    """(b, heads · d, h, w) to (b, heads, d, h · w)."""
    b, c, h, w = t.shape
    return t.reshape(b, heads, c // heads, h * w)


class MDTA(QKV):
    """Restormer's attention, with its depthwise convolution."""

    def __init__(self, channels=8, heads=2):
        super().__init__(channels, heads)
        wide = 3 * channels
        self.qkv_dwconv = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        q = split_heads(q, self.num_heads)
        k = split_heads(k, self.num_heads)
        v = split_heads(v, self.num_heads)
        q = torch.nn.functional.normalize(q, dim=-1)
        k = torch.nn.functional.normalize(k, dim=-1)
        attn = (q @ k.transpose(-2, -1)) * self.temperature
        out = attn.softmax(dim=-1) @ v
        return self.project_out(out.view(b, c, h, w))


def mdta(block, x, window):
    q, k, v = block.qkv_dwconv(block.qkv(x)).chunk(3, 1)
    q, k, v = (t.unflatten(1, (block.num_heads, -1)) for t in (q, k, v))
    return block.project_out(
        local_channel_attention(q, k, v, block.temperature, window).flatten(1, 2)
    )


class PreNormBlock(nn.Module):
    """Two residual halves: attention, then a gated feed-forward with a 3x3 convolution."""

    def __init__(self, channels=8):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = MDTA(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.project_in = nn.Conv2d(channels, 2 * channels, 1)
        self.dwconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.project_out = nn.Conv2d(channels, channels, 1)

    def normed(self, norm, x):
        return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def forward(self, x):
        x = x + self.attn(self.normed(self.norm1, x))
        y1, y2 = self.dwconv(self.project_in(self.normed(self.norm2, x))).chunk(2, dim=1)
        return x + self.project_out(F.gelu(y1) * y2)


def pre_norm_block(block, x, window):
    x = x + mdta(block.attn, block.normed(block.norm1, x), window)
    y1, y2 = block.dwconv(block.project_in(block.normed(block.norm2, x))).chunk(2, 1)
    return x + block.project_out(F.gelu(y1) * y2)


class CrossTransposed(nn.Module):
    """Queries of one map, keys and values of another, channel by channel."""

    def __init__(self, channels=8, heads=2):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.light = nn.Conv2d(channels, channels, 1)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = F.relu(self.light(x))
        b, c, h, w = x.shape
        q = self.q(x).view(b, self.heads, -1, h * w)
        k, v = (t.view(b, self.heads, -1, h * w) for t in self.kv(y).chunk(2, dim=1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attn = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) * self.temperature, dim=-1)
        return x + self.out(torch.matmul(attn, v).reshape(b, c, h, w))


class XCA(TokenQKV):
    """Cross-covariance attention on tokens (XCiT)."""

    def __init__(self, dim=8, heads=2):
        super().__init__(dim, heads)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        n = tokens.shape[1]
        qkv = self.to_qkv(tokens).reshape(b, n, 3, self.heads, c // self.heads)
        q, k, v = (t.transpose(-2, -1) for t in qkv.permute(2, 0, 3, 1, 4))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attn = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        tokens = self.proj((attn @ v).permute(0, 3, 1, 2).reshape(b, n, c))
        return x + tokens.transpose(1, 2).view(b, c, h, w)


class Spectral(TokenQKV):
    """RetinexFormer's layout: (b, h · w, heads, d), keys attend to queries."""

    def __init__(self, dim=8, heads=2):
        super().__init__(dim, heads)
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(b, h * w, c)
        q, k, v = (
            t.view(b, h * w, self.heads, -1).permute(0, 2, 3, 1)
            for t in self.to_qkv(tokens).chunk(3, dim=-1)
        )
        q, k = F.normalize(q, dim=-1, p=2), F.normalize(k, dim=-1, p=2)
        attn = (k @ q.transpose(-2, -1)) * self.rescale
        out = attn.softmax(dim=-1) @ v
        out = self.proj(out.permute(0, 3, 1, 2).reshape(b, h * w, c))
        return out.view(b, h, w, c).permute(0, 3, 1, 2)


class EinsumTransposed(QKV):
    def forward(self, x):
        b, _, h, w = x.shape
        q, k, v = self.qkv(x).view(b, 3, self.num_heads, -1, h * w).unbind(1)
        q = q / q.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        k = k / k.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        attn = torch.einsum("bncx,bndx->bncd", q, k) * self.temperature
        out = torch.einsum("bncd,bndx->bncx", attn.softmax(-1), v)
        return self.project_out(out.flatten(1, 2).unflatten(-1, (h, w)))


class ChannelAffinity(nn.Module):
    """DANet's channel attention: products of the raw maps, the largest affinity taken off."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        b, c, height, width = x.size()
        query = x.view(b, c, -1)
        energy = torch.bmm(query, x.view(b, c, -1).permute(0, 2, 1))
        energy = torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy
        out = torch.bmm(torch.softmax(energy / 8, dim=-1), x.view(b, c, -1))
        return self.gamma * out.view(b, c, height, width) + x


TRANSPOSED = (
    *(
        Idiom(name, make, "tiles")
        for name, make in {
            "cross_transposed": CrossTransposed,
            "xca": XCA,
            "retinexformer": Spectral,
            "einsum_transposed": EinsumTransposed,
            "channel_affinity": ChannelAffinity,
        }.items()
    ),
    Idiom("mdta", MDTA, "tiles", mdta),
    Idiom("pre_norm_mdta", PreNormBlock, None, pre_norm_block),
)
