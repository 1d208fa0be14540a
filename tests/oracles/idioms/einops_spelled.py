"""Blocks written with einops, where it is installed."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom
from oracles.idioms.parts import QKV
from oracles.idioms.pools import LinearGate
from oracles.idioms.transposed import MDTA, mdta

try:
    from einops import rearrange, reduce, repeat
except ImportError:  # the tests of these blocks skip
    rearrange = reduce = repeat = None


class ReduceMean(LinearGate):
    def forward(self, x):
        gate = self.fc(reduce(x, "b c h w -> b c", "mean"))
        return x * rearrange(gate, "b c -> b c 1 1")


class ReduceMax(LinearGate):
    def forward(self, x):
        gate = self.fc(reduce(x, "b c h w -> b c", "max"))
        return x * rearrange(gate, "b c -> b c () ()")


class RepeatBack(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        h, w = x.shape[-2:]
        pooled = repeat(reduce(x, "b c h w -> b c", "mean"), "b c -> b c h w", h=h, w=w)
        return self.fuse(torch.cat([x, pooled], dim=1))


class EinopsMDTA(MDTA):
    def forward(self, x):
        h, w = x.shape[-2:]
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        q = rearrange(q, "b (head c) h w -> b head c (h w)", head=self.num_heads)
        k = rearrange(k, "b (head c) h w -> b head c (h w)", head=self.num_heads)
        v = rearrange(v, "b (head c) h w -> b head c (h w)", head=self.num_heads)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        out = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1) @ v
        out = rearrange(out, "b head c (h w) -> b (head c) h w", h=h, w=w)
        return self.project_out(out)


class EinopsTokens(QKV):
    """Attention over pixels."""

    def forward(self, x):
        h, w = x.shape[-2:]
        heads = self.num_heads
        qkv = rearrange(self.qkv(x), "b (t n d) h w -> t b n (h w) d", t=3, n=heads)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = torch.einsum("b n i d, b n j d -> b n i j", q, k).softmax(dim=-1)
        out = torch.einsum("b n i j, b n j d -> b n i d", attn, v)
        return self.project_out(rearrange(out, "b n (h w) d -> b (n d) h w", h=h, w=w))


EINOPS = (
    Idiom("einops_reduce_mean", ReduceMean, "windows", needs="einops"),
    Idiom("einops_reduce_max", ReduceMax, "windows", needs="einops"),
    Idiom("einops_repeat", RepeatBack, "windows", needs="einops"),
    Idiom("einops_mdta", EinopsMDTA, "tiles", mdta, needs="einops"),
    Idiom("einops_tokens", EinopsTokens, "tiles", needs="einops"),
)
