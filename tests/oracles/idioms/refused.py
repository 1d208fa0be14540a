"""Blocks whose global operation has no local form: they have to stay unchanged."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom


class TopKRouter(nn.Module):
    """Selects the channels with the highest scores, which are computed from a statistic."""

    def __init__(self, channels=8):
        super().__init__()
        self.score = nn.Linear(channels, channels)
        self.out = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x):
        _, c, h, w = x.shape
        scores = self.score(F.adaptive_avg_pool2d(x, 1).flatten(1))
        best = scores.topk(c // 2, dim=1).indices
        return self.out(torch.gather(x, 1, best[:, :, None, None].expand(-1, -1, h, w)))


REFUSED = tuple(
    Idiom(name, make, None, reason=reason)
    for name, make, reason in (
        ("top_k_router", TopKRouter, "each pixel would need other channels"),
    )
)
