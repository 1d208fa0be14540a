"""Base classes of the attention blocks."""

import torch
from torch import nn


class QKV(nn.Module):
    """Layers of attention on maps: 1x1 convolutions."""

    def __init__(self, channels=8, heads=2):
        super().__init__()
        self.num_heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1)


class TokenQKV(nn.Module):
    """Layers of attention on (b, n, c) tokens."""

    def __init__(self, dim=8, heads=2):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
