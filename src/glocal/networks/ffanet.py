"""FFA-Net, the dehazing network of "FFA-Net: Feature Fusion Attention Network".

Qin, Wang, Bai, Xie and Jia, AAAI 2020, arXiv 1911.07559. Module and parameter names are those of
the authors' release, so that its checkpoints load strictly. The global operations are the average
pools of the channel attention: one in every block and one over the three groups. The release
trains on 240×240 crops.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError

__all__ = ["Block", "CALayer", "FFANet", "Group", "PALayer", "ffanet_hyperparameters"]

MEAN = (0.64, 0.6, 0.58)
STD = (0.14, 0.15, 0.152)


class CALayer(nn.Module):
    """Channel attention: a gate for each channel from its global mean."""

    def __init__(self, channel: int) -> None:
        """Make a layer for `channel` channels, squeezed to an eighth."""
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.ca = nn.Sequential(
            nn.Conv2d(channel, channel // 8, 1),
            nn.ReLU(),
            nn.Conv2d(channel // 8, channel, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, channel, h, w) → the same shape."""
        gate: Tensor = self.ca(self.avg_pool(x))
        return x * gate


class PALayer(nn.Module):
    """Pixel attention: a gate for each pixel, shared by its channels."""

    def __init__(self, channel: int) -> None:
        """Make a layer for `channel` channels, squeezed to an eighth."""
        super().__init__()
        self.pa = nn.Sequential(
            nn.Conv2d(channel, channel // 8, 1),
            nn.ReLU(),
            nn.Conv2d(channel // 8, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, channel, h, w) → the same shape."""
        gate: Tensor = self.pa(x)
        return x * gate


class Block(nn.Module):
    """Two convolutions with both attentions and two residuals (the basic block)."""

    def __init__(self, dim: int) -> None:
        """Make a block of `dim` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.calayer = CALayer(dim)
        self.palayer = PALayer(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(b, dim, h, w) → the same shape."""
        features = self.conv2(self.act1(self.conv1(x)) + x)
        attended: Tensor = self.palayer(self.calayer(features))
        return attended + x


class Group(nn.Module):
    """Blocks in a row, a convolution, and a residual around them."""

    def __init__(self, dim: int, blocks: int) -> None:
        """Make a group of `blocks` blocks of `dim` channels."""
        super().__init__()
        self.gp = nn.Sequential(
            *(Block(dim) for _ in range(blocks)), nn.Conv2d(dim, dim, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, dim, h, w) → the same shape."""
        features: Tensor = self.gp(x)
        return features + x


class FFANet(nn.Module):
    """FFA-Net: adds the attention-weighted features of three groups to the image.

    The release standardises its input outside the network. Here the network does it, so that it
    takes [0, 1] like all others.

    Example:
        >>> FFANet(blocks=1, dim=16)(torch.rand(1, 3, 13, 22)).shape
        torch.Size([1, 3, 13, 22])

    Args:
        gps: number of groups; must be 3.
        blocks: number of blocks in each group; 19 in the release.
        dim: feature channels, a multiple of 16; 64 in the release.

    Raises:
        ArgumentError: `gps` is not 3, or `dim` is not a multiple of 16.
    """

    def __init__(self, gps: int = 3, blocks: int = 19, *, dim: int = 64) -> None:
        """Make the network with random weights."""
        if gps != 3:
            raise ArgumentError(f"FFA-Net has 3 groups, got gps={gps}")
        if dim < 16 or dim % 16:
            raise ArgumentError(f"dim must be a multiple of 16, got {dim}")
        super().__init__()
        self.gps = gps
        self.dim = dim
        self.pre = nn.Sequential(nn.Conv2d(3, dim, 3, padding=1))
        self.g1 = Group(dim, blocks)
        self.g2 = Group(dim, blocks)
        self.g3 = Group(dim, blocks)
        self.ca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(dim * gps, dim // 16, 1),
            nn.ReLU(),
            nn.Conv2d(dim // 16, dim * gps, 1),
            nn.Sigmoid(),
        )
        self.palayer = PALayer(dim)
        self.post = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1), nn.Conv2d(dim, 3, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Restore (b, 3, h, w) in [0, 1]."""
        image = _standardised(x)
        first = self.g1(self.pre(image))
        second = self.g2(first)
        third = self.g3(second)
        groups = (first, second, third)
        # split along the channels only: with TLC, gates vary over the image
        gates = self.ca(torch.cat(groups, 1)).chunk(self.gps, 1)
        fused = gates[0] * first + gates[1] * second + gates[2] * third
        residual: Tensor = self.post(self.palayer(fused))
        # as in the release, which adds the standardised image
        return residual + image


def _standardised(x: Tensor) -> Tensor:
    # not buffers, which strict loading would expect in checkpoints
    mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (x - mean) / std


def ffanet_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `FFANet` that a state dict belongs to.

    Example:
        >>> ffanet_hyperparameters(FFANet(blocks=2, dim=32).state_dict())
        {'gps': 3, 'blocks': 2, 'dim': 32}

    Raises:
        KeyError: a tensor that every FFA-Net has is missing.
    """
    dim = int(state_dict["pre.0.weight"].shape[0])
    blocks = sum(f"g1.gp.{i}.conv1.weight" in state_dict for i in range(len(state_dict)))
    return {"gps": int(state_dict["ca.1.weight"].shape[1]) // dim, "blocks": blocks, "dim": dim}
