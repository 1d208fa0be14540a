"""Attention between pixels with a cost linear in their number."""

import torch
import torch.nn.functional as F

from oracles.idioms.idiom import Idiom
from oracles.idioms.parts import QKV, TokenQKV


class LinearAttention(TokenQKV):
    """elu + 1 as feature map, divided by the sum of the weights."""

    def forward(self, x):
        b, c, h, w = x.shape
        qkv = self.to_qkv(x.flatten(2).transpose(1, 2)).chunk(3, dim=-1)
        q, k, v = (t.reshape(b, h * w, self.heads, -1).transpose(1, 2) for t in qkv)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        z = 1 / (q @ k.mean(dim=-2, keepdim=True).transpose(-2, -1) + 1e-6)
        kv = (k.transpose(-2, -1) * ((h * w) ** -0.5)) @ (v * ((h * w) ** -0.5))
        out = (q @ kv * z).transpose(1, 2).reshape(b, h * w, c)
        return x + self.proj(out).transpose(1, 2).reshape(b, c, h, w)


class EinsumLinearAttention(QKV):
    """The same as the linear transformer writes it."""

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, self.num_heads, -1, h * w).mT for t in self.qkv(x).chunk(3, 1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        kv = torch.einsum("nhsd,nhsm->nhmd", k, v)
        z = 1 / (torch.einsum("nhld,nhd->nhl", q, k.sum(dim=2)) + 1e-6)
        out = torch.einsum("nhld,nhmd,nhl->nhlm", q, kv, z)
        return self.project_out(out.mT.reshape(b, c, h, w))


class EfficientAttention(QKV):
    """Keys are softmaxed over the pixels, queries over the channels, head by head in a loop."""

    def forward(self, x):
        n, c, h, w = x.size()
        queries, keys, values = (t.reshape(n, c, h * w) for t in self.qkv(x).chunk(3, dim=1))
        wide = c // self.num_heads
        attended = []
        for i in range(self.num_heads):
            here = slice(i * wide, (i + 1) * wide)
            key = F.softmax(keys[:, here, :], dim=2)
            query = F.softmax(queries[:, here, :], dim=1)
            context = key @ values[:, here, :].transpose(1, 2)
            attended.append((context.transpose(1, 2) @ query).reshape(n, wide, h, w))
        return self.project_out(torch.cat(attended, dim=1)) + x


class DoubleAttention(QKV):
    """Gather by a softmax over the pixels, distribute by one over the channels (A2-Net)."""

    def forward(self, x):
        b, c, h, w = x.shape
        a, maps, vectors = torch.split(self.qkv(x), c, dim=1)
        maps = F.softmax(maps.view(b, c, -1), dim=-1)
        gathered = torch.bmm(a.view(b, c, -1), maps.permute(0, 2, 1))
        out = gathered.matmul(F.softmax(vectors.view(b, c, -1), dim=1))
        return self.project_out(out.view(b, c, h, w))


LINEAR = tuple(
    Idiom(name, make, "tiles")
    for name, make in {
        "linear_attention": LinearAttention,
        "einsum_linear_attention": EinsumLinearAttention,
        "efficient_attention": EfficientAttention,
        "double_attention": DoubleAttention,
    }.items()
)
