"""Mixing of the cells of a grid whose cells grow with the image."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom

GRID = 4


def to_grid(x, grid):
    """(b, h, w, c) to (b, cells, pixels of a cell, c)."""
    b, h, w, c = x.shape
    fh, fw = h // grid, w // grid
    x = x.reshape(b, grid, fh, grid, fw, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, grid * grid, fh * fw, c)


def from_grid(x, grid, h, w):
    """Undo `to_grid`."""
    b, c = x.shape[0], x.shape[-1]
    fh, fw = h // grid, w // grid
    x = x.reshape(b, grid, grid, fh, fw, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h, w, c)


class GridGatingUnit(nn.Module):
    def __init__(self, channels, cells):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.dense = nn.Linear(cells, cells)

    def forward(self, x):
        u, v = x.chunk(2, dim=-1)
        v = self.norm(v)
        v = self.dense(v.transpose(-1, -3)).transpose(-1, -3)
        return u * (v + 1.0)


class GridGmlp(nn.Module):
    """MAXIM's grid branch."""

    def __init__(self, channels=8):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.dense1 = nn.Linear(channels, 2 * channels)
        self.gating = GridGatingUnit(channels, GRID * GRID)
        self.dense2 = nn.Linear(channels, channels)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        h, w = x.shape[1], x.shape[2]
        x = to_grid(x, GRID)
        y = self.gating(F.gelu(self.dense1(self.norm(x)), approximate="tanh"))
        x = x + self.dense2(y)
        return from_grid(x, GRID, h, w).permute(0, 3, 1, 2)


class GridMixNCHW(nn.Module):
    """One layer that mixes cells, on maps with channels first, by einsum."""

    def __init__(self, channels=8):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(GRID * GRID))
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c, GRID, h // GRID, GRID, w // GRID).transpose(3, 4)
        y = torch.einsum("bcgp,gk->bckp", y.reshape(b, c, GRID * GRID, -1), self.weight)
        y = y.reshape(b, c, GRID, GRID, h // GRID, w // GRID).transpose(3, 4).reshape(b, c, h, w)
        return x + self.out(y)


class GridAttention(nn.Module):
    """MaxViT's: the tokens at one place of all cells attend to each other."""

    def __init__(self, channels=8, heads=2):
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c, GRID, h // GRID, GRID, w // GRID)
        y = y.permute(0, 3, 5, 2, 4, 1).contiguous().view(-1, GRID * GRID, c)
        n, t, _ = y.shape
        qkv = self.qkv(self.norm(y)).reshape(n, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attn = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1)
        y = self.proj((attn @ v).transpose(1, 2).reshape(n, t, c))
        y = y.view(b, h // GRID, w // GRID, GRID, GRID, c)
        return x + y.permute(0, 5, 3, 1, 4, 2).contiguous().view(b, c, h, w)


class GridAttentionSDPA(GridAttention):
    """The same on channels-last maps and torch's attention."""

    def forward(self, x):
        h, w = x.shape[2:]
        y = to_grid(x.permute(0, 2, 3, 1), GRID).transpose(1, 2)
        qkv = self.qkv(self.norm(y)).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        out = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(2, 3).flatten(3)
        y = self.proj(out).transpose(1, 2)
        return x + from_grid(y, GRID, h, w).permute(0, 3, 1, 2)


GRIDS = tuple(
    Idiom(name, make, "grid", train=2 * GRID, multiple=GRID)
    for name, make in {
        "grid_gmlp": GridGmlp,
        "grid_mix_einsum": GridMixNCHW,
        "grid_attention": GridAttention,
        "grid_attention_sdpa": GridAttentionSDPA,
    }.items()
)
