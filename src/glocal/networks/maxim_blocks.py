"""The multi-axis MLPs of MAXIM: mixing across a grid of cells and inside blocks.

Tu, Talebi, Zhang, Yang, Milanfar, Bovik and Li, CVPR 2022, arXiv 2201.02973, sections 3.2 and 3.3.
Every module takes a map and returns a map, (b, c, h, w), and is named as in the authors' release.
`GridMixing` is the global operation: the grid has a fixed number of cells, so cells grow with the
image and mixing spans all of it.

A few lines above 300: the blocks are made of each other, as in the release.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.ops.programs import program_form

__all__ = [
    "BlockGmlpLayer",
    "BlockMixing",
    "CrossGatingBlock",
    "Dense",
    "GatingUnit",
    "GetSpatialGatingWeights",
    "GridGmlpLayer",
    "GridMixing",
    "LayerNorm",
    "SplitHeadMultiAxisGmlpLayer",
    "pointwise",
    "upsampler",
]


def gelu(x: Tensor) -> Tensor:
    """GELU in the tanh approximation, as used to train the published weights."""
    return F.gelu(x, approximate="tanh")


def _linear_gelu_of_any_kind(pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return gelu(F.linear(pixels, weight, bias))


@program_form(_linear_gelu_of_any_kind)
def _linear_gelu(pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU of a linear layer on (..., c).

    Where nobody records and no gradient is needed, oneDNN computes both in one pass on a CPU, which
    takes half the time.
    """
    fused = (
        pixels.device.type == "cpu"
        and pixels.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_function_stack()
        and torch.backends.mkldnn.is_available()
    )
    if not fused:
        return _linear_gelu_of_any_kind(pixels, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(pixels, weight, bias, "gelu", [], "tanh")
    return result


def pointwise(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 1×1 convolution."""
    return nn.Conv2d(channels_in, channels_out, 1)


def upsampler(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the size."""
    return nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2)


class Dense(nn.Linear):
    """A linear layer on the channels of each pixel, (b, c, h, w) → (b, c', h, w).

    `gelu_halves` and `of_halves` multiply by halves of the weight in place of splitting or joining
    maps, which would copy them.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map the channels of (b, c, h, w)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of the result."""
        return _linear_gelu(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)

    def gelu_halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """GELU of both halves of the channels of the result."""
        pixels = x.permute(0, 2, 3, 1)
        first, second = (
            _linear_gelu(pixels, weight, bias).permute(0, 3, 1, 2)
            for weight, bias in zip(self.weight.chunk(2), self.bias.chunk(2), strict=True)
        )
        return first, second

    def of_halves(self, first: Tensor, second: Tensor) -> Tensor:
        """The result for a map of which both halves of the channels are given."""
        of_first, of_second = self.weight.chunk(2, dim=1)
        mapped = F.linear(first.permute(0, 2, 3, 1), of_first, self.bias)
        return mapped.add_(F.linear(second.permute(0, 2, 3, 1), of_second)).permute(0, 3, 1, 2)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (b, c, h, w)."""

    def __init__(self, channels: int) -> None:
        """Make a norm of `channels` channels."""
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (b, c, h, w)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GridMixing(nn.Linear):
    """A linear layer across the cells of a grid of fixed size, on (b, c, h, w).

    The map is split into `grid_size` cells; pixels at the same position in their cells are mixed,
    separately for each channel. h and w must be multiples of the grid's. This is the global
    operation.

    Source: section 3.2 of the paper, the global branch of figure 3.
    """

    def __init__(self, grid_size: Sequence[int]) -> None:
        """Make a layer for (rows, columns) of cells."""
        self.grid_size = tuple(grid_size)
        rows, columns = self.grid_size
        super().__init__(rows * columns, rows * columns)

    def forward(self, input: Tensor) -> Tensor:
        """Mix the cells of (b, c, h, w)."""
        b, c, h, w = input.shape
        rows, columns = self.grid_size
        split = input.view(b, c, rows, h // rows, columns, w // columns)
        cells = split.permute(0, 2, 4, 3, 5, 1).reshape(b, rows * columns, -1)
        # cells are the rows, so the layer multiplies from the left and nothing is transposed
        mixed = torch.baddbmm(self.bias[:, None], self.weight.expand(b, -1, -1), cells)
        joined = mixed.view(b, rows, columns, h // rows, w // columns, c).permute(0, 1, 3, 2, 4, 5)
        return joined.reshape(b, h, w, c).permute(0, 3, 1, 2)


class BlockMixing(nn.Linear):
    """A linear layer across the pixels of blocks of fixed size, on (b, c, h, w).

    h and w must be multiples of the block's. It reaches no farther than a block, so it is local.

    Source: section 3.2 of the paper, the local branch of figure 3.
    """

    def __init__(self, block_size: Sequence[int]) -> None:
        """Make a layer for blocks of (height, width) pixels."""
        self.block_size = tuple(block_size)
        height, width = self.block_size
        super().__init__(height * width, height * width)

    def forward(self, input: Tensor) -> Tensor:
        """Mix the pixels of each block of (b, c, h, w)."""
        b, c, h, w = input.shape
        height, width = self.block_size
        rows, columns = h // height, w // width
        split = input.view(b, c, rows, height, columns, width).permute(0, 2, 4, 3, 5, 1)
        pixels = split.reshape(b * rows * columns, height * width, c)
        # pixels are the rows, as in `GridMixing`
        mixed = (self.weight @ pixels).add_(self.bias[:, None])
        joined = mixed.view(b, rows, columns, height, width, c).permute(0, 1, 3, 2, 4, 5)
        return joined.reshape(b, h, w, c).permute(0, 3, 1, 2)


class GatingUnit(nn.Module):
    """Gates half of the channels by the mixed other half of (b, 2c, h, w).

    Source: section 3.2 of the paper, after gMLP's spatial gating unit (arXiv 2105.08050).
    """

    def __init__(self, channels: int, mixing: nn.Module) -> None:
        """Make a unit that returns `channels` channels and mixes by `mixing`."""
        super().__init__()
        self.intermediate_layernorm = LayerNorm(channels)
        self.Dense_0 = mixing

    def forward(self, x: Tensor) -> Tensor:
        """Gate the first half of the channels of (b, 2c, h, w)."""
        return self.gated(*x.chunk(2, dim=1))

    def gated(self, signal: Tensor, gate: Tensor) -> Tensor:
        """Gate (b, c, h, w) by another map of this shape."""
        mixed = self.Dense_0(self.intermediate_layernorm(gate))
        return torch.addcmul(signal, signal, mixed)


class _GmlpLayer(nn.Module):
    """A gated MLP with a residual connection; a subclass names its gating unit."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.LayerNorm = LayerNorm(channels)
        self.in_project = Dense(channels, 2 * channels)
        self.out_project = Dense(channels, channels)

    def _apply_gated(self, x: Tensor, gating: GatingUnit) -> Tensor:
        signal, gate = self.in_project.gelu_halves(self.LayerNorm(x))
        result: Tensor = self.out_project(gating.gated(signal, gate)).add_(x)
        return result


class GridGmlpLayer(_GmlpLayer):
    """The gated MLP that mixes across the cells of a grid, on (b, c, h, w).

    Source: section 3.2 of the paper.
    """

    def __init__(self, channels: int, grid_size: Sequence[int]) -> None:
        """Make a layer of `channels` channels."""
        super().__init__(channels)
        self.GridGatingUnit = GatingUnit(channels, GridMixing(grid_size))

    def forward(self, x: Tensor) -> Tensor:
        """Mix (b, channels, h, w); h and w are multiples of the grid's."""
        return self._apply_gated(x, self.GridGatingUnit)


class BlockGmlpLayer(_GmlpLayer):
    """The gated MLP that mixes inside blocks, on (b, c, h, w).

    Source: section 3.2 of the paper.
    """

    def __init__(self, channels: int, block_size: Sequence[int]) -> None:
        """Make a layer of `channels` channels."""
        super().__init__(channels)
        self.BlockGatingUnit = GatingUnit(channels, BlockMixing(block_size))

    def forward(self, x: Tensor) -> Tensor:
        """Mix (b, channels, h, w); h and w are multiples of the block's."""
        return self._apply_gated(x, self.BlockGatingUnit)


class SplitHeadMultiAxisGmlpLayer(nn.Module):
    """Multi-axis gated MLP: half of the channels on the grid, half in blocks.

    Maps (b, c, h, w) to the same shape, with a residual connection. Source: section 3.2, figure 3
    of the paper.
    """

    def __init__(self, channels: int, block_size: Sequence[int], grid_size: Sequence[int]) -> None:
        """Make a layer of `channels` channels."""
        super().__init__()
        self.LayerNorm_in = LayerNorm(channels)
        self.in_project = Dense(channels, 2 * channels)
        self.GridGmlpLayer = GridGmlpLayer(channels, grid_size)
        self.BlockGmlpLayer = BlockGmlpLayer(channels, block_size)
        self.out_project = Dense(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (b, channels, h, w); h and w are multiples of the grid's and block's."""
        on_grid, in_blocks = self.in_project.gelu_halves(self.LayerNorm_in(x))
        mixed = self.GridGmlpLayer(on_grid), self.BlockGmlpLayer(in_blocks)
        return self.out_project.of_halves(*mixed).add_(x)


class GetSpatialGatingWeights(nn.Module):
    """A gate for another map, mixed on the grid and in blocks of (b, c, h, w).

    Unlike the gated MLPs, it has no gating unit: `Dense_0` mixes the cells of the grid,
    `Dense_1` the pixels of blocks.

    Source: section 3.3 of the paper.
    """

    def __init__(self, channels: int, block_size: Sequence[int], grid_size: Sequence[int]) -> None:
        """Make a gate of `channels` channels."""
        super().__init__()
        self.LayerNorm_in = LayerNorm(channels)
        self.in_project = Dense(channels, 2 * channels)
        self.Dense_0 = GridMixing(grid_size)
        self.Dense_1 = BlockMixing(block_size)
        self.out_project = Dense(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gate; h and w are multiples of the grid's and block's."""
        on_grid, in_blocks = self.in_project.gelu_halves(self.LayerNorm_in(x))
        return self.out_project.of_halves(self.Dense_0(on_grid), self.Dense_1(in_blocks))


class CrossGatingBlock(nn.Module):
    """Two maps gate each other.

    Maps (b, c, h, w) and (b, c', h', w') become two of (b, features, h, w). With `upsample_y` the
    second map has half the size and is doubled first. The first result contains both maps, the
    second only the gated second map.

    Source: section 3.3, figure 2c of the paper.
    """

    def __init__(
        self,
        channels_x: int,
        channels_y: int,
        features: int,
        block_size: Sequence[int],
        grid_size: Sequence[int],
        *,
        upsample_y: bool = False,
    ) -> None:
        """Make a block for maps of `channels_x` and `channels_y` channels."""
        super().__init__()
        self.ConvTranspose_0 = upsampler(channels_y, features) if upsample_y else None
        self.Conv_0 = pointwise(channels_x, features)
        self.Conv_1 = pointwise(features if upsample_y else channels_y, features)
        self.LayerNorm_x = LayerNorm(features)
        self.in_project_x = Dense(features, features)
        self.SplitHeadMultiAxisGating_x = GetSpatialGatingWeights(features, block_size, grid_size)
        self.LayerNorm_y = LayerNorm(features)
        self.in_project_y = Dense(features, features)
        self.SplitHeadMultiAxisGating_y = GetSpatialGatingWeights(features, block_size, grid_size)
        self.out_project_y = Dense(features, features)
        self.out_project_x = Dense(features, features)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Gate `x` by `y` and `y` by `x`."""
        if self.ConvTranspose_0 is not None:
            y = self.ConvTranspose_0(y)
        x, y = self.Conv_0(x), self.Conv_1(y)
        inner_x = self.in_project_x.gelu(self.LayerNorm_x(x))
        inner_y = self.in_project_y.gelu(self.LayerNorm_y(y))
        gate_x = self.SplitHeadMultiAxisGating_x(inner_x)
        gate_y = self.SplitHeadMultiAxisGating_y(inner_y)
        gated_y = self.out_project_y(inner_y * gate_x).add_(y)
        gated_x = self.out_project_x(inner_x * gate_y).add_(x)
        return gated_x.add_(gated_y), gated_y
