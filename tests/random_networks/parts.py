"""Parts of a random network, each in the ordinary form and as a slow local reference.

`forward` runs as people write it; `slow` follows the law of windows. Only the blocks of the grammar
in `Site` have global operations.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.spelling import Size, by_windows


@dataclass(frozen=True)
class Sizes:
    """Training size and window in input pixels, and how much smaller a map is."""

    train: Size
    window: Size
    scale: int = 1

    def on_map(self) -> Size:
        """The window on the map: (feature size in training) · window // training size."""
        first, second = (
            (t // self.scale) * w // t for t, w in zip(self.train, self.window, strict=True)
        )
        return (first, second)


class Conv(nn.Conv2d):
    """A convolution that keeps the size, or halves it."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1):
        super().__init__(before, after, kernel, stride, kernel // 2)

    def slow(self, x: Tensor, sizes: Sizes) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Act(nn.GELU):
    def slow(self, x: Tensor, sizes: Sizes) -> Tensor:
        return F.gelu(x)


class Site(nn.Module):
    """A block of the grammar in its surroundings."""

    def __init__(self, block: nn.Module, slow, inline: bool = False, slow_map=None):
        super().__init__()
        self.block, self.by_law, self.by_map, self.inline = block, slow, slow_map, inline

    def forward(self, x):
        return self.block.forward(x) if self.inline else self.block(x)

    def slow(self, x: Tensor, sizes: Sizes) -> Tensor:
        if self.by_map is not None:
            return self.by_map(self.block, x, sizes.on_map())
        if self.by_law is None:  # it has no global operation
            return self.block(x)
        pads_to = getattr(self.block, "pads_to", 1)
        return by_windows(lambda w: self.by_law(self.block, w), x, sizes.on_map(), pads_to)


class Chain(nn.Sequential):
    def slow(self, x, sizes):
        for part in self:
            x = part.slow(x, sizes)
        return x


class Listed(nn.Module):
    """The same as a ModuleList and a loop."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for i in range(len(self.parts)):
            x = self.parts[i](x)
        return x

    def slow(self, x, sizes):
        return Chain.slow(self.parts, x, sizes)


class Skip(nn.Module):
    """x + body(x)."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)

    def slow(self, x, sizes):
        return self.body.slow(x, sizes) + x


class Twice(nn.Module):
    """One body, called twice."""

    def __init__(self, body, channels):
        super().__init__()
        self.body, self.between = body, Conv(channels, channels, 1)

    def forward(self, x):
        return self.body(self.between(self.body(x)))

    def slow(self, x, sizes):
        return self.body.slow(self.between.slow(self.body.slow(x, sizes), sizes), sizes)


class Halved(nn.Module):
    """A body at half the size, upsampled and added."""

    def __init__(self, body, channels, how):
        super().__init__()
        self.down, self.body, self.how = Conv(channels, channels, 3, 2), body, how
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, x):
        return x + self.upsample(self.body(self.down(x)), x)

    def slow(self, x, sizes):
        half = Sizes(sizes.train, sizes.window, 2 * sizes.scale)
        return x + self.upsample(self.body.slow(self.down.slow(x, sizes), half), x)

    def upsample(self, y, x):
        if self.how == "transposed":
            return self.up(y)[..., : x.shape[2], : x.shape[3]]
        if self.how == "nearest":
            return F.interpolate(y, size=x.shape[2:], mode="nearest")
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class Network(nn.Module):
    """Head, body and tail, with or without a skip of the image."""

    def __init__(self, channels, kernel, body, skip):
        super().__init__()
        self.head, self.body = Conv(3, channels, kernel), body
        self.tail, self.skip = Conv(channels, 3, kernel), skip

    def forward(self, x):
        y = self.tail(self.body(self.head(x)))
        return x + y if self.skip else y

    def slow(self, x, sizes):
        y = self.tail.slow(self.body.slow(self.head.slow(x, sizes), sizes), sizes)
        return x + y if self.skip else y
