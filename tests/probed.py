"""Tiny networks with known statistics, shared by the tests of probes."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glocal.conversion.localize import localize
from glocal.scanning.discover import Scan
from glocal.scanning.example import scan_network

TRAIN, WINDOW = (16, 16), (24, 24)


class Block(nn.Module):
    """A 1x1 convolution before and after `mix`, which a test defines."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        self.to_features = nn.Conv2d(3, 4, 1)
        self.to_image = nn.Conv2d(4, 3, 1)
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.to_image(self.mix(self.to_features(x)))

    def mix(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class SqueezeExcite(Block):
    def __init__(self) -> None:
        gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        super().__init__(gate=gate)

    def mix(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class FunctionalMean(Block):
    def mix(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class TwoMeans(Block):
    def mix(self, x: Tensor) -> Tensor:
        return x * x.mean(3).mean(2)[..., None, None].sigmoid()


class SumOverArea(Block):
    def mix(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x * (x.sum((2, 3)) / (h * w)).view(b, c, 1, 1).sigmoid()


class TwoSums(Block):
    def mix(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x * (x.sum(3).sum(2) / (h * w)).view(b, c, 1, 1).sigmoid()


class ResponseNorm(Block):
    def mix(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        return x * norm / (norm.mean(1, keepdim=True) + 1e-6)


class Instance(Block):
    def __init__(self) -> None:
        super().__init__(norm=nn.InstanceNorm2d(4, affine=True))

    def mix(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Group(Block):
    def __init__(self) -> None:
        super().__init__(norm=nn.GroupNorm(2, 4))

    def mix(self, x: Tensor) -> Tensor:
        return self.norm(x)


class HandWrittenVariance(Block):
    def mix(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        variance = (x - mean).square().mean((2, 3), keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()


class TransposedAttention(Block):
    def __init__(self) -> None:
        super().__init__(qkv=nn.Conv2d(4, 12, 1))

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = (t.flatten(2).unflatten(1, (2, 2)) for t in self.qkv(x).chunk(3, 1))
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        return (attention.softmax(-1) @ v).flatten(1, 2).view_as(x)


class FusedTransposedAttention(Block):
    def __init__(self) -> None:
        super().__init__(qkv=nn.Conv2d(4, 12, 1))

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = (t.flatten(2).unflatten(1, (2, 2)) for t in self.qkv(x).chunk(3, 1))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0).flatten(1, 2).view_as(x)


class GlobalContext(Block):
    """GCNet: pixels weighted by a softmax over them."""

    def __init__(self) -> None:
        super().__init__(mask=nn.Conv2d(4, 1, 1))

    def mix(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(-1)
        return x + (x.flatten(2) @ weights.mT)[..., None]


class Twice(Block):
    """One module, called with two maps."""

    def __init__(self) -> None:
        super().__init__(norm=nn.InstanceNorm2d(4))

    def mix(self, x: Tensor) -> Tensor:
        return self.norm(2 * self.norm(x) + x)


class Halved(nn.Module):
    """A pool over a map of half the size; accepts only even sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 2, 2), nn.ConvTranspose2d(8, 3, 2, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        return x + self.up(y * self.pool(y))


NETWORKS = [
    SqueezeExcite, FunctionalMean, TwoMeans, SumOverArea, TwoSums, ResponseNorm, Instance, Group,
    HandWrittenVariance, TransposedAttention, FusedTransposedAttention, GlobalContext, Twice,
]  # fmt: skip


@functools.cache
def build(network: Callable[[], nn.Module]) -> tuple[nn.Module, Scan]:
    torch.manual_seed(0)
    model = network().eval()
    return model, scan_network(model, TRAIN, None)


@functools.cache
def local_form(network: Callable[[], nn.Module]) -> nn.Module:
    return localize(build(network)[0], TRAIN, window=WINDOW)


def photo(height: int, width: int) -> Tensor:
    """Noise on a ramp, so that windows differ."""
    random = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(0.2, 1, width)
    return 0.7 * ramp + 0.3 * torch.rand(1, 3, height, width, generator=random)


def features(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.to_features(x)
