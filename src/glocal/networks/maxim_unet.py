"""The blocks of MAXIM's U-shaped networks.

Tu, Talebi, Zhang, Yang, Milanfar, Bovik and Li, CVPR 2022, arXiv 2201.02973, sections 3.1 and 3.4.
Every module takes maps and returns maps, (b, c, h, w), and is named as in the authors' release. The
pool of `CALayer` is a global operation, and so is the grid mixing inside `Scale.mixing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.networks.maxim_blocks import (
    CrossGatingBlock,
    Dense,
    LayerNorm,
    SplitHeadMultiAxisGmlpLayer,
    pointwise,
    upsampler,
)
from glocal.ops.numerics import sum_dtype

__all__ = [
    "SAM",
    "BottleneckBlock",
    "CALayer",
    "Scale",
    "UNetDecoderBlock",
    "UNetEncoderBlock",
    "UpSampleRatio",
    "conv3x3",
]


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 3×3 convolution with padding 1."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


class CALayer(nn.Module):
    """Channel attention, (b, c, h, w) → (b, c, h, w); its pool is a global operation.

    Source: squeeze-and-excitation, arXiv 1709.01507, which section 3.1 of the paper adopts.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        """Make the attention of `channels` channels, squeezed by `reduction`."""
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.Conv_0 = pointwise(channels, channels // reduction)
        self.Conv_1 = pointwise(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (b, c, h, w)."""
        gate: Tensor = torch.sigmoid(self.Conv_1(F.relu(self.Conv_0(self.pool(x)))))
        return x * gate


class _RCAB(nn.Module):
    """Residual block with channel attention, after two convolutions (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.LayerNorm = LayerNorm(channels)
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.channel_attention = CALayer(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.leaky_relu(self.conv1(self.LayerNorm(x)), 0.2, inplace=True)
        result: Tensor = self.channel_attention(self.conv2(inner)) + x
        return result


class _MlpBlock(nn.Module):
    """Two dense layers on each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Dense_0 = Dense(channels, channels)
        self.Dense_1 = Dense(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.Dense_1(self.Dense_0.gelu(x))
        return result


class _RDCAB(nn.Module):
    """As `_RCAB`, with dense layers in place of the convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.LayerNorm = LayerNorm(channels)
        self.channel_mixing = _MlpBlock(channels)
        self.channel_attention = CALayer(channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.channel_attention(self.channel_mixing(self.LayerNorm(x)))
        return result


@dataclass(frozen=True)
class Scale:
    """Sizes that the blocks of one scale share.

    Attributes:
        channels: channels of the maps.
        block_size: (height, width) in pixels of the blocks that are mixed.
        grid_size: (rows, columns) of the grid whose cells are mixed.
    """

    channels: int
    block_size: Sequence[int]
    grid_size: Sequence[int]

    def mixing(self) -> SplitHeadMultiAxisGmlpLayer:
        """A mixing layer of this scale."""
        return SplitHeadMultiAxisGmlpLayer(self.channels, self.block_size, self.grid_size)

    def cross_gating(
        self, channels_x: int, channels_y: int, *, upsample_y: bool = False
    ) -> CrossGatingBlock:
        """A cross-gating block of this scale."""
        return CrossGatingBlock(
            channels_x,
            channels_y,
            self.channels,
            self.block_size,
            self.grid_size,
            upsample_y=upsample_y,
        )


class UNetEncoderBlock(nn.Module):
    """Concatenates two maps and mixes them; if `gated`, a third map gates the result.

    Source: section 3.1, figure 2b of the paper.
    """

    def __init__(
        self, channels_in: int, scale: Scale, num_groups: int, *, downsample: bool, gated: bool
    ) -> None:
        """Make a block for maps of `channels_in` channels together."""
        super().__init__()
        channels = scale.channels
        self.num_groups = num_groups
        self.Conv_0 = pointwise(channels_in, channels)
        for i in range(num_groups):
            self.add_module(f"SplitHeadMultiAxisGmlpLayer_{i}", scale.mixing())
            self.add_module(f"channel_attention_block_1{i}", _RCAB(channels))
        self.cross_gating_block = scale.cross_gating(channels, channels) if gated else None
        self.Conv_1 = nn.Conv2d(channels, channels, 4, 2, 1) if downsample else None

    def forward(
        self, x: Tensor, joined: Tensor, gate: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return features for the next block (halved with `downsample`) and the skip."""
        start = self.Conv_0(torch.cat([x, joined], dim=1))
        features = start
        for i in range(self.num_groups):
            features = getattr(self, f"SplitHeadMultiAxisGmlpLayer_{i}")(features)
            features = getattr(self, f"channel_attention_block_1{i}")(features)
        features = features + start
        if self.cross_gating_block is not None:
            features, _ = self.cross_gating_block(features, gate)
        return features if self.Conv_1 is None else self.Conv_1(features), features


class UNetDecoderBlock(nn.Module):
    """Doubles the size of a map, then works as an encoder block (section 3.1)."""

    def __init__(
        self, channels_in: int, channels_joined: int, scale: Scale, num_groups: int
    ) -> None:
        """Make a block for `channels_in` channels, joined with others at twice the size."""
        super().__init__()
        channels = scale.channels
        self.ConvTranspose_0 = upsampler(channels_in, channels)
        self.UNetEncoderBlock_0 = UNetEncoderBlock(
            channels + channels_joined, scale, num_groups, downsample=False, gated=False
        )

    def forward(self, x: Tensor, joined: Tensor) -> Tensor:
        """Map (b, channels_in, h, w) and the joined maps to (b, channels, 2h, 2w)."""
        result: Tensor = self.UNetEncoderBlock_0(self.ConvTranspose_0(x), joined)[1]
        return result


class BottleneckBlock(nn.Module):
    """Mixing at the lowest resolution (section 3.1 of the paper)."""

    def __init__(self, scale: Scale, num_groups: int) -> None:
        """Make a block of `num_groups` mixing layers."""
        super().__init__()
        self.num_groups = num_groups
        self.input_proj = pointwise(scale.channels, scale.channels)
        for i in range(num_groups):
            self.add_module(f"SplitHeadMultiAxisGmlpLayer_{i}", scale.mixing())
            self.add_module(f"channel_attention_block_1_{i}", _RDCAB(scale.channels))

    def forward(self, x: Tensor) -> Tensor:
        """Mix (b, channels, h, w)."""
        start: Tensor = self.input_proj(x)
        features = start
        for i in range(self.num_groups):
            features = getattr(self, f"SplitHeadMultiAxisGmlpLayer_{i}")(features)
            features = getattr(self, f"channel_attention_block_1_{i}")(features)
        return features + start


class UpSampleRatio(nn.Module):
    """Bilinear resizing and a 1×1 convolution to (b, c', ratio·h, ratio·w).

    Resizing is that of `jax.image.resize`: pixel centres are aligned and shrinking is antialiased.
    """

    def __init__(self, channels_in: int, channels_out: int, ratio: float) -> None:
        """Make a layer; `ratio` is a power of 2, and h and w are multiples of 1 / ratio."""
        super().__init__()
        self.ratio = ratio
        self.Conv_0 = pointwise(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Resize (b, channels_in, h, w)."""
        if self.ratio > 1:
            x = F.interpolate(x, scale_factor=self.ratio, mode="bilinear")
        elif self.ratio < 1:
            wide = x.to(sum_dtype(x))  # no half precision on CPUs
            small = F.interpolate(wide, scale_factor=self.ratio, mode="bilinear", antialias=True)
            x = small.to(x.dtype)
        result: Tensor = self.Conv_0(x)
        return result


class SAM(nn.Module):
    """Supervised attention: refines features by the restored image they predict.

    Source: MPRNet (arXiv 2102.02808), which section 3.4 of the paper adopts.
    """

    def __init__(self, channels: int) -> None:
        """Make a module for `channels` channels."""
        super().__init__()
        self.Conv_0 = conv3x3(channels, channels)
        self.Conv_1 = conv3x3(channels, 3)
        self.Conv_2 = conv3x3(3, channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Refine features (b, channels, h, w) of the degraded image (b, 3, h, w)."""
        restored = self.Conv_1(x) + image
        result: Tensor = self.Conv_0(x) * torch.sigmoid(self.Conv_2(restored)) + x
        return result
