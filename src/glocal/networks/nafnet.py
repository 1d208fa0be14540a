"""NAFNet and Baseline, the networks of "Simple Baselines for Image Restoration".

Chen, Chu, Zhang and Sun, ECCV 2022, arXiv 2204.04676. Module and parameter names are those of
the authors' release, so that its checkpoints load strictly. The one global operation of each
block is the average pool of its channel attention (`sca` in NAFNet, `se` in Baseline). The
file exceeds 300 lines because the two networks share their frame and their blocks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.networks.norms import channel_norm
from glocal.networks.padding import crop, missing

__all__ = [
    "Baseline",
    "BaselineBlock",
    "LayerNorm2d",
    "NAFBlock",
    "NAFNet",
    "SimpleGate",
    "baseline_hyperparameters",
    "nafnet_hyperparameters",
]


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel of (b, c, h, w).

    Source: section 3.2 of the paper.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        """Make a norm for `channels` channels."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, c, h, w)."""
        return channel_norm(x, self.weight, self.bias, self.eps)


class SimpleGate(nn.Module):
    """Multiplies the two halves of the channels, (b, 2c, h, w) → (b, c, h, w).

    Source: section 3.3, figure 4c of the paper.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gate the first half of the channels by the second."""
        signal, gate = x.chunk(2, dim=1)
        return signal * gate


def _pointwise(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


def _dropout(rate: float) -> nn.Module:
    return nn.Dropout(rate) if rate > 0 else nn.Identity()


class NAFBlock(nn.Module):
    """NAFNet's block, with gates instead of activation functions, on (b, c, h, w).

    Source: figure 3d of the paper. `sca` (simplified channel attention, equation 6) scales each
    channel by a 1×1 convolution of the mean over all pixels. It is the global operation.
    """

    def __init__(
        self, c: int, dw_expand: int = 2, ffn_expand: int = 2, drop_out_rate: float = 0.0
    ) -> None:
        """Make a block of `c` channels; the factors widen its two halves."""
        super().__init__()
        wide, ffn_wide = c * dw_expand, c * ffn_expand
        self.conv1 = _pointwise(c, wide)
        self.conv2 = _depthwise(wide)
        self.conv3 = _pointwise(wide // 2, c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), _pointwise(wide // 2, wide // 2))
        self.sg = SimpleGate()
        self.conv4 = _pointwise(c, ffn_wide)
        self.conv5 = _pointwise(ffn_wide // 2, c)
        self.norm1 = LayerNorm2d(c)
        self.norm2 = LayerNorm2d(c)
        self.dropout1 = _dropout(drop_out_rate)
        self.dropout2 = _dropout(drop_out_rate)
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, inp: Tensor) -> Tensor:
        """Apply the spatial and attention half, then the feed-forward half (residual)."""
        gated = self.sg(self.conv2(self.conv1(self.norm1(inp))))
        spatial = self.dropout1(self.conv3(gated * self.sca(gated)))
        middle = inp + spatial * self.beta
        channel = self.dropout2(self.conv5(self.sg(self.conv4(self.norm2(middle)))))
        out: Tensor = middle + channel * self.gamma
        return out


class BaselineBlock(nn.Module):
    """Baseline's block: GELU and full channel attention, (b, c, h, w) → (b, c, h, w).

    Source: figure 3c of the paper. `se` (equation 5) is the global operation.
    """

    def __init__(
        self, c: int, dw_expand: int = 1, ffn_expand: int = 2, drop_out_rate: float = 0.0
    ) -> None:
        """Make a block of `c` channels; the factors widen its two halves."""
        super().__init__()
        wide, ffn_wide = c * dw_expand, c * ffn_expand
        self.conv1 = _pointwise(c, wide)
        self.conv2 = _depthwise(wide)
        self.conv3 = _pointwise(wide, c)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            _pointwise(wide, wide // 2),
            nn.ReLU(),
            _pointwise(wide // 2, wide),
            nn.Sigmoid(),
        )
        self.gelu = nn.GELU()
        self.conv4 = _pointwise(c, ffn_wide)
        self.conv5 = _pointwise(ffn_wide, c)
        self.norm1 = LayerNorm2d(c)
        self.norm2 = LayerNorm2d(c)
        self.dropout1 = _dropout(drop_out_rate)
        self.dropout2 = _dropout(drop_out_rate)
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, inp: Tensor) -> Tensor:
        """Apply the spatial and attention half, then the feed-forward half (residual)."""
        active = self.gelu(self.conv2(self.conv1(self.norm1(inp))))
        spatial = self.dropout1(self.conv3(active * self.se(active)))
        middle = inp + spatial * self.beta
        channel = self.dropout2(self.conv5(self.gelu(self.conv4(self.norm2(middle)))))
        out: Tensor = middle + channel * self.gamma
        return out


class _SimpleUNet(nn.Module):
    """The U-shaped frame of both networks (figure 2c), which differ in the block."""

    def __init__(
        self,
        block: Callable[[int], nn.Module],
        img_channel: int,
        width: int,
        middle_blk_num: int,
        enc_blk_nums: Sequence[int],
        dec_blk_nums: Sequence[int],
    ) -> None:
        super().__init__()

        def stage(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(block(channels) for _ in range(count)))

        self.intro = nn.Conv2d(img_channel, width, 3, padding=1)
        self.ending = nn.Conv2d(width, img_channel, 3, padding=1)
        self.encoders = nn.ModuleList()
        self.decoders = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.downs = nn.ModuleList()
        channels = width
        for count in enc_blk_nums:
            self.encoders.append(stage(channels, count))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.middle_blks = stage(channels, middle_blk_num)
        for count in dec_blk_nums:
            up = nn.Conv2d(channels, 2 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(up, nn.PixelShuffle(2)))
            channels //= 2
            self.decoders.append(stage(channels, count))
        self.padder_size = 2 ** len(self.encoders)

    def forward(self, inp: Tensor) -> Tensor:
        """Restore (b, img_channel, h, w) in [0, 1] at the same size; any h and w."""
        height, width = inp.shape[-2:]
        image = self.check_image_size(inp)
        x = self.intro(image)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        restored: Tensor = self.ending(x) + image
        return crop(restored, height, width)

    def check_image_size(self, x: Tensor) -> Tensor:
        """Pad (b, c, h, w) with zeros below and right to multiples of `padder_size`."""
        height, width = x.shape[-2:]
        bottom, right = (missing(size, self.padder_size) for size in (height, width))
        return F.pad(x, (0, right, 0, bottom))


class NAFNet(_SimpleUNet):
    """Nonlinear-activation-free network for deblurring and denoising.

    Maps (b, img_channel, h, w) in [0, 1] to the same shape; any h and w. Source: sections 3.1
    and 3.3 of the paper. Inside, the image is padded to a multiple of 2 ** (number of encoder
    stages).

    Example:
        >>> import torch
        >>> network = NAFNet(width=8, enc_blk_nums=(1, 1), dec_blk_nums=(1, 1))
        >>> network(torch.rand(1, 3, 30, 41)).shape
        torch.Size([1, 3, 30, 41])

    Args:
        img_channel: channels of the image.
        width: channels at full resolution; they double with each encoder stage.
        middle_blk_num: blocks at the lowest resolution.
        enc_blk_nums: blocks of each encoder stage, from full resolution down.
        dec_blk_nums: blocks of each decoder stage, from the lowest resolution up; as many
            stages as the encoder has.
    """

    def __init__(
        self,
        img_channel: int = 3,
        width: int = 16,
        middle_blk_num: int = 1,
        enc_blk_nums: Sequence[int] = (),
        dec_blk_nums: Sequence[int] = (),
    ) -> None:
        """Make the network with fresh weights (each block starts as the identity)."""
        super().__init__(NAFBlock, img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums)


class Baseline(_SimpleUNet):
    """The paper's baseline: NAFNet's frame with GELU and squeeze-and-excitation.

    Maps (b, img_channel, h, w) in [0, 1] to the same shape; any h and w. Source: sections 3.1
    and 3.2 of the paper.

    Example:
        >>> import torch
        >>> network = Baseline(width=8, enc_blk_nums=(1, 1), dec_blk_nums=(1, 1))
        >>> network(torch.rand(1, 3, 30, 41)).shape
        torch.Size([1, 3, 30, 41])

    Args:
        img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums: as in `NAFNet`.
        dw_expand: widening of the depth-wise half of each block.
        ffn_expand: widening of the feed-forward half.
    """

    def __init__(
        self,
        img_channel: int = 3,
        width: int = 16,
        middle_blk_num: int = 1,
        enc_blk_nums: Sequence[int] = (),
        dec_blk_nums: Sequence[int] = (),
        dw_expand: int = 1,
        ffn_expand: int = 2,
    ) -> None:
        """Make the network with fresh weights (each block starts as the identity)."""

        def block(channels: int) -> BaselineBlock:
            return BaselineBlock(channels, dw_expand, ffn_expand)

        super().__init__(block, img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums)


def nafnet_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `NAFNet` that a state dict belongs to.

    Example:
        >>> network = NAFNet(width=8, enc_blk_nums=(1, 2), dec_blk_nums=(1, 1))
        >>> nafnet_hyperparameters(network.state_dict())["enc_blk_nums"]
        [1, 2]

    Raises:
        KeyError: a tensor that every NAFNet has is missing.
        ValueError: the numbers of encoder and decoder stages differ.
    """
    return _frame_hyperparameters(state_dict)


def baseline_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `Baseline` that a state dict belongs to.

    The widening factors are those of the first block, or the defaults if there is none.

    Raises:
        KeyError: a tensor that every Baseline has is missing.
        ValueError: the numbers of encoder and decoder stages differ.
    """
    found = _frame_hyperparameters(state_dict)
    ending = ".conv1.weight"
    first = next((key.removesuffix(ending) for key in state_dict if key.endswith(ending)), None)
    if first is not None:
        wide, channels = state_dict[f"{first}.conv1.weight"].shape[:2]
        found["dw_expand"] = wide // channels
        found["ffn_expand"] = state_dict[f"{first}.conv4.weight"].shape[0] // channels
    return found


def _frame_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    width, img_channel = state_dict["intro.weight"].shape[:2]
    stages = _count(state_dict, "downs.")
    if _count(state_dict, "ups.") != stages:
        raise ValueError(f"{stages} encoder stages but {_count(state_dict, 'ups.')} decoder stages")
    return {
        "img_channel": int(img_channel),
        "width": int(width),
        "middle_blk_num": _count(state_dict, "middle_blks."),
        "enc_blk_nums": [_count(state_dict, f"encoders.{i}.") for i in range(stages)],
        "dec_blk_nums": [_count(state_dict, f"decoders.{i}.") for i in range(stages)],
    }


def _count(keys: Iterable[str], prefix: str) -> int:
    """The number of submodules, numbered from 0, below `prefix`."""
    numbers = {key.removeprefix(prefix).split(".")[0] for key in keys if key.startswith(prefix)}
    return len(numbers)
