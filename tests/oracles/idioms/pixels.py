"""Attention between pixels."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom, by_tiles
from oracles.idioms.parts import QKV, TokenQKV


class NonLocal(nn.Module):
    """Every pixel attends to every pixel, by softmax or by a plain product divided by n."""

    def __init__(self, embedded=True, channels=8, inter=4):
        super().__init__()
        self.embedded, self.inter = embedded, inter
        self.g = nn.Conv2d(channels, inter, 1)
        self.theta = nn.Conv2d(channels, inter, 1)
        self.phi = nn.Conv2d(channels, inter, 1)
        self.W = nn.Conv2d(inter, channels, 1)

    def mixed(self, x):
        batch = x.size(0)
        g = self.g(x).view(batch, self.inter, -1).permute(0, 2, 1)
        theta = self.theta(x).view(batch, self.inter, -1).permute(0, 2, 1)
        f = torch.matmul(theta, self.phi(x).view(batch, self.inter, -1))
        f = F.softmax(f, dim=-1) if self.embedded else f / f.size(-1)
        y = torch.matmul(f, g).permute(0, 2, 1).contiguous()
        return y.view(batch, self.inter, *x.size()[2:])

    def forward(self, x):
        return self.W(self.mixed(x)) + x


class NonLocalGate(NonLocal):
    """Attention before an operation that is not linear: windows are averaged before it."""

    def forward(self, x):
        return x * torch.sigmoid(self.W(self.mixed(x)))


def non_local_gate(block, x, window):
    return x * torch.sigmoid(block.W(by_tiles(block.mixed, x, window=window)))


class EinsumNonLocal(QKV):
    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, self.num_heads, -1, h * w) for t in self.qkv(x).chunk(3, dim=1))
        sim = torch.einsum("bhdi,bhdj->bhij", q * 0.5, k)
        sim = sim - sim.amax(dim=-1, keepdim=True).detach()
        out = torch.einsum("bhij,bhdj->bhid", sim.softmax(dim=-1), v)
        return self.project_out(out.transpose(2, 3).reshape(b, c, h, w))


class ScaledDotProduct(TokenQKV):
    def forward(self, x):
        b, c, h, w = x.shape
        qkv = self.to_qkv(x.flatten(2).mT).view(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        out = self.proj(out.transpose(1, 2).reshape(b, h * w, c))
        return x + out.transpose(1, 2).reshape(b, c, h, w)


class ScaledDotProductMap(QKV):
    """The same from a map, one head, as diffusion networks have it."""

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, 1, c, h * w).transpose(2, 3) for t in self.qkv(x).chunk(3, 1))
        out = F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
        return x + self.project_out(out.transpose(2, 3).reshape(b, c, h, w))


class MultiheadModule(nn.Module):
    """torch's own module, after a norm of the tokens."""

    def __init__(self, dim=8, heads=2):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).permute(0, 2, 1))
        out, _ = self.attn(tokens, tokens, tokens, need_weights=False)
        return x + out.permute(0, 2, 1).view(b, c, h, w)


PIXELS = (
    *(
        Idiom(name, make, "tiles")
        for name, make in {
            "non_local_softmax": NonLocal,
            "non_local_product": lambda: NonLocal(embedded=False),
            "einsum_non_local": EinsumNonLocal,
            "scaled_dot_product": ScaledDotProduct,
            "scaled_dot_product_map": ScaledDotProductMap,
            "multihead_module": MultiheadModule,
        }.items()
    ),
    Idiom("non_local_gate", NonLocalGate, None, non_local_gate),
)
