"""MAXIM, the multi-stage network of "MAXIM: Multi-Axis MLP for Image Processing".

Tu, Talebi, Zhang, Yang, Milanfar, Bovik and Li, CVPR 2022, arXiv 2201.02973. Module names are those
of the authors' release, with dots for nesting, so that converted weights load strictly; kernels and
scales are named `weight` and have torch's memory layout. There are two global operations:
the average pool of every channel attention, and the grid mixing of `maxim_blocks`.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.networks.maxim_unet import (
    SAM,
    BottleneckBlock,
    Scale,
    UNetDecoderBlock,
    UNetEncoderBlock,
    UpSampleRatio,
    conv3x3,
)
from glocal.networks.padding import missing

__all__ = ["MAXIM", "maxim_hyperparameters"]


@dataclass(frozen=True)
class _Features:
    """Features that a stage passes to the next, from full resolution down."""

    encoded: list[Tensor]
    decoded: list[Tensor]


class MAXIM(nn.Module):
    """Multi-axis MLP network for image restoration and enhancement.

    Maps (b, 3, h, w) in [0, 1], any h and w, to the last stage's image of the same size, in
    training and eval mode alike. Inside, the image is padded on all sides, as by the release's
    evaluation, to multiples of `padder_size` (64 for the published networks). Source: section 3,
    figure 2 of the paper.

    Example:
        >>> import torch
        >>> network = MAXIM(features=4, depth=1, num_stages=1, num_groups=1)
        >>> network(torch.rand(1, 3, 13, 22)).shape
        torch.Size([1, 3, 13, 22])

    Args:
        features: channels at full resolution, a multiple of 4; they double with each scale.
        depth: scales, each half the size of the one before.
        num_stages: U-shaped networks in a row; 3 in MAXIM-3S.
        num_groups: mixing layers of each block.
        num_bottleneck_blocks: blocks at the lowest resolution, at least 1.
        high_res_stages: number of scales, from full resolution down, with the `_hr` sizes.
        block_size_hr, block_size_lr: (height, width) in pixels of the blocks that are mixed.
        grid_size_hr, grid_size_lr: (rows, columns) of the grids whose cells are mixed.
    """

    def __init__(
        self,
        features: int = 32,
        depth: int = 3,
        num_stages: int = 3,
        num_groups: int = 2,
        num_bottleneck_blocks: int = 2,
        high_res_stages: int = 2,
        block_size_hr: Sequence[int] = (16, 16),
        block_size_lr: Sequence[int] = (8, 8),
        grid_size_hr: Sequence[int] = (16, 16),
        grid_size_lr: Sequence[int] = (8, 8),
    ) -> None:
        """Make the network with fresh weights; the defaults are MAXIM-3S."""
        super().__init__()
        self.depth = depth
        self.num_stages = num_stages
        self.num_bottleneck_blocks = num_bottleneck_blocks
        high, low = (block_size_hr, grid_size_hr), (block_size_lr, grid_size_lr)
        scales = [
            Scale(features * 2**i, *(high if i < high_res_stages else low)) for i in range(depth)
        ]
        lowest = Scale(scales[-1].channels, *low)
        self.padder_size = math.lcm(
            *(
                2**i * side
                for i, scale in enumerate([*scales, lowest])
                for side in (*scale.block_size, *scale.grid_size)
            )
        )
        for stage in range(num_stages):
            self._add_stage(stage, scales, lowest, num_groups)

    def _add_stage(
        self, stage: int, scales: Sequence[Scale], lowest: Scale, num_groups: int
    ) -> None:
        is_first, is_last = stage == 0, stage == self.num_stages - 1
        below = [*scales[1:], lowest]

        def add(name: str, module: nn.Module) -> None:
            self.add_module(f"stage_{stage}_{name}", module)

        for i, scale in enumerate(scales):
            c = scale.channels
            wide = self.depth * c
            add(f"input_conv_{i}", conv3x3(3, c))
            if not is_first:
                add(f"input_fuse_sam_{i}", scale.cross_gating(c, c))
            above = scales[max(i - 1, 0)].channels
            add(
                f"encoder_block_{i}",
                UNetEncoderBlock(c + above, scale, num_groups, downsample=True, gated=not is_first),
            )
            add(
                f"cross_gating_block_{i}",
                scale.cross_gating(wide, below[i].channels, upsample_y=True),
            )
            add(
                f"decoder_block_{i}",
                UNetDecoderBlock(below[i].channels, wide, scale, num_groups),
            )
            if not is_last:
                add(f"supervised_attention_module_{i}", SAM(c))
            for j, other in enumerate(scales):
                for name in self._resizers(stage, i, j):
                    self.add_module(name, UpSampleRatio(other.channels, c, 2.0 ** (j - i)))
        for i in range(self.num_bottleneck_blocks):
            add(f"global_block_{i}", BottleneckBlock(lowest, num_groups))
        if is_last:
            add("output_conv_0", conv3x3(scales[0].channels, 3))

    def _resizers(self, stage: int, target: int, source: int) -> tuple[str, str]:
        """Return the names of the layers that resize one scale to another.

        The release numbers them in the order in which it calls them: targets from the lowest
        resolution up, sources from full resolution down for the skips and up for the decoder.
        """
        row = self.depth * (2 * self.depth * stage + self.depth - 1 - target)
        skip, decoder = row + source, row + self.depth**2 + self.depth - 1 - source
        return f"UpSampleRatio_{skip}", f"UpSampleRatio_{decoder}"

    def forward(self, x: Tensor) -> Tensor:
        """Restore (b, 3, h, w)."""
        height, width = x.shape[-2:]
        image, top, left = _pad_around(x, self.padder_size)
        # as jax.image.resize with "nearest": the pixel below and right of the centre
        smaller = (image[..., 2**i // 2 :: 2**i, 2**i // 2 :: 2**i] for i in range(1, self.depth))
        images = [image, *smaller]
        features: _Features | None = None
        for stage in range(self.num_stages):
            features = self._run_stage(stage, images, features)
        assert features is not None
        restored: Tensor = self._layer(self.num_stages - 1, "output_conv_0")(features.decoded[0])
        return (restored + image).narrow(-2, top, height).narrow(-1, left, width)

    def _layer(self, stage: int, name: str) -> nn.Module:
        layer: nn.Module = getattr(self, f"stage_{stage}_{name}")
        return layer

    def _run_stage(
        self, stage: int, images: Sequence[Tensor], previous: _Features | None
    ) -> _Features:
        """One U-shaped network over the images of all scales."""
        x: Tensor | None = None
        encoded: list[Tensor] = []
        for i, image in enumerate(images):
            joined: Tensor = self._layer(stage, f"input_conv_{i}")(image)
            gate = None
            if previous is not None:
                sam = self._layer(stage - 1, f"supervised_attention_module_{i}")
                fuse = self._layer(stage, f"input_fuse_sam_{i}")
                joined, _ = fuse(joined, sam(previous.decoded[i], image))
                gate = previous.encoded[i] + previous.decoded[i]
            encoder = self._layer(stage, f"encoder_block_{i}")
            x, skip = encoder(joined if x is None else x, joined, gate)
            encoded.append(skip)
        for i in range(self.num_bottleneck_blocks):
            x = self._layer(stage, f"global_block_{i}")(x)

        scales = range(self.depth)
        skips: dict[int, Tensor] = {}
        signal = x
        for i in reversed(scales):
            at_scale = [getattr(self, self._resizers(stage, i, j)[0])(encoded[j]) for j in scales]
            cross_gating = self._layer(stage, f"cross_gating_block_{i}")
            skips[i], signal = cross_gating(torch.cat(at_scale, dim=1), signal)
        decoded: dict[int, Tensor] = {}
        for i in reversed(scales):
            at_scale = [
                getattr(self, self._resizers(stage, i, j)[1])(skips[j]) for j in reversed(scales)
            ]
            x = self._layer(stage, f"decoder_block_{i}")(x, torch.cat(at_scale, dim=1))
            decoded[i] = x
        return _Features(encoded, [decoded[i] for i in scales])


def _pad_around(x: Tensor, multiple: int) -> tuple[Tensor, int, int]:
    """Pad h and w to multiples; also return the number of rows above, columns left.

    The border is reflected, or replicated if the image is too small. The position of the image
    matters: grid cells and blocks start at the padded corner.
    """
    height, width = x.shape[-2:]
    rows, columns = missing(height, multiple), missing(width, multiple)
    if rows == 0 and columns == 0:
        return x, 0, 0
    top, left = rows // 2, columns // 2
    bottom, right = rows - top, columns - left
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (left, right, top, bottom), mode=mode), top, left


def maxim_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `MAXIM` that a state dict belongs to.

    Blocks and grids are assumed to be square: the tensors show only their numbers of elements.

    Example:
        >>> network = MAXIM(features=4, depth=1, num_stages=2, num_groups=1)
        >>> maxim_hyperparameters(network.state_dict())["num_stages"]
        2

    Raises:
        KeyError: a tensor that every MAXIM has is missing.
    """

    def sizes(block: str) -> tuple[list[int], list[int]]:
        layer = f"stage_0_{block}.SplitHeadMultiAxisGmlpLayer_0"
        cells = state_dict[f"{layer}.GridGmlpLayer.GridGatingUnit.Dense_0.bias"].numel()
        pixels = state_dict[f"{layer}.BlockGmlpLayer.BlockGatingUnit.Dense_0.bias"].numel()
        return [math.isqrt(pixels)] * 2, [math.isqrt(cells)] * 2

    features = int(state_dict["stage_0_input_conv_0.weight"].shape[0])
    depth = _count(state_dict, r"stage_0_input_conv_(\d+)\.weight")
    scales = [sizes(f"encoder_block_{i}") for i in range(depth)]
    high, low = scales[0], sizes("global_block_0")
    groups = r"stage_0_global_block_0\.channel_attention_block_1_(\d+)\."
    return {
        "features": features,
        "depth": depth,
        "num_stages": _count(state_dict, r"stage_(\d+)_input_conv_0\.weight"),
        "num_groups": _count(state_dict, groups),
        "num_bottleneck_blocks": _count(state_dict, r"stage_0_global_block_(\d+)\."),
        "high_res_stages": len(list(itertools.takewhile(high.__eq__, scales))),
        "block_size_hr": high[0],
        "block_size_lr": low[0],
        "grid_size_hr": high[1],
        "grid_size_lr": low[1],
    }


def _count(keys: Iterable[str], pattern: str) -> int:
    """The number of different values of the group of `pattern` among the keys."""
    return len({match[1] for key in keys if (match := re.match(pattern, key))})
