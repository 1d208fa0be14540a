"""MPRNet, the three-stage network of "Multi-Stage Progressive Image Restoration".

Zamir, Arora, Khan, Hayat, Khan, Yang and Shao, CVPR 2021, arXiv 2102.02808. Module and parameter
names are those of the authors' release, so that its checkpoints load strictly; the release's
networks differ in widths only (deblurring 96/48/32, denoising 80/48/32, deraining 40/20/16 for
`n_feat`/`scale_unetfeats`/`scale_orsnetfeats`). The global operation is the average pool of each
`CALayer`. The file exceeds 300 lines because it holds the whole network, as the release does.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.errors import ArgumentError
from glocal.networks.padding import crop, pad_to_multiple

__all__ = ["CAB", "SAM", "CALayer", "MPRNet", "mprnet_hyperparameters"]


def _conv(channels_in: int, channels_out: int, kernel_size: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2, bias=bias)


class CALayer(nn.Module):
    """Channel attention, (b, c, h, w) → (b, c, h, w): the network's global operation.

    Each channel is scaled by a gate computed from the channels' means over all pixels.
    """

    def __init__(self, channel: int, reduction: int = 16, bias: bool = False) -> None:
        """Make the gate for `channel` channels, reduced to `channel // reduction`."""
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            _conv(channel, channel // reduction, 1, bias),
            nn.ReLU(),
            _conv(channel // reduction, channel, 1, bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate (b, c, h, w)."""
        gate: Tensor = self.conv_du(self.avg_pool(x))
        return x * gate


class CAB(nn.Module):
    """Channel attention block (CAB, section 3.2), with a residual connection."""

    def __init__(
        self, n_feat: int, kernel_size: int, reduction: int, bias: bool, act: nn.Module
    ) -> None:
        """Make a block of `n_feat` channels; `act` may be shared with other blocks."""
        super().__init__()
        self.CA = CALayer(n_feat, reduction, bias)
        self.body = nn.Sequential(
            _conv(n_feat, n_feat, kernel_size, bias), act, _conv(n_feat, n_feat, kernel_size, bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine (b, n_feat, h, w)."""
        attended: Tensor = self.CA(self.body(x))
        return attended + x


class SAM(nn.Module):
    """Supervised attention module (section 3.4): refines features and an image.

    The image always has 3 channels, as in the release; a grey one is broadcast.
    """

    def __init__(self, n_feat: int, kernel_size: int, bias: bool) -> None:
        """Make the module for features of `n_feat` channels."""
        super().__init__()
        self.conv1 = _conv(n_feat, n_feat, kernel_size, bias)
        self.conv2 = _conv(n_feat, 3, kernel_size, bias)
        self.conv3 = _conv(3, n_feat, kernel_size, bias)

    def forward(self, x: Tensor, x_img: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (b, n_feat, h, w) and the image to features and a stage image."""
        restored: Tensor = self.conv2(x) + x_img
        attention = torch.sigmoid(self.conv3(restored))
        return self.conv1(x) * attention + x, restored


class _Blocks:
    """Makes a network's blocks, which share kernel size, reduction, bias and PReLU."""

    def __init__(self, kernel_size: int, reduction: int, bias: bool) -> None:
        self.kernel_size, self.reduction, self.bias = kernel_size, reduction, bias
        self.act = nn.PReLU()

    def cab(self, channels: int) -> CAB:
        return CAB(channels, self.kernel_size, self.reduction, self.bias, self.act)

    def pair(self, channels: int) -> nn.Sequential:
        return nn.Sequential(self.cab(channels), self.cab(channels))

    def shallow(self, channels_in: int, channels: int) -> nn.Sequential:
        return nn.Sequential(
            _conv(channels_in, channels, self.kernel_size, self.bias), self.cab(channels)
        )

    def conv(self, channels_in: int, channels_out: int) -> nn.Conv2d:
        return _conv(channels_in, channels_out, self.kernel_size, self.bias)


class _Scale(nn.Module):
    """Bilinear resizing by 2 or 1/2, to an integer size that exporters can follow."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        size = (2 * height, 2 * width) if self.factor == 2 else (height // 2, width // 2)
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


def _resize(factor: float, channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(_Scale(factor), _conv(channels_in, channels_out, 1))


class _Down(nn.Module):
    """Downsampling by 2, with more channels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.down = _resize(0.5, channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down(x)
        return result


class _Up(nn.Module):
    """Upsampling by 2, with fewer channels; adds the skip connection, if any."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.up = _resize(2.0, channels_in, channels_out)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        result: Tensor = self.up(x)
        return result if skip is None else result + skip


class _Encoder(nn.Module):
    """Encoder of three levels; with `csff`, each adds features of the previous stage."""

    def __init__(self, blocks: _Blocks, widths: Sequence[int], csff: bool) -> None:
        super().__init__()
        first, second, third = widths
        self.encoder_level1 = blocks.pair(first)
        self.encoder_level2 = blocks.pair(second)
        self.encoder_level3 = blocks.pair(third)
        self.down12 = _Down(first, second)
        self.down23 = _Down(second, third)
        if csff:
            self.csff_enc1 = _conv(first, first, 1, blocks.bias)
            self.csff_enc2 = _conv(second, second, 1, blocks.bias)
            self.csff_enc3 = _conv(third, third, 1, blocks.bias)
            self.csff_dec1 = _conv(first, first, 1, blocks.bias)
            self.csff_dec2 = _conv(second, second, 1, blocks.bias)
            self.csff_dec3 = _conv(third, third, 1, blocks.bias)

    def forward(
        self, x: Tensor, previous: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
    ) -> list[Tensor]:
        level1 = self.encoder_level1(x)
        if previous is not None:
            encoded, decoded = previous
            level1 = level1 + self.csff_enc1(encoded[0]) + self.csff_dec1(decoded[0])
        level2 = self.encoder_level2(self.down12(level1))
        if previous is not None:
            level2 = level2 + self.csff_enc2(encoded[1]) + self.csff_dec2(decoded[1])
        level3 = self.encoder_level3(self.down23(level2))
        if previous is not None:
            level3 = level3 + self.csff_enc3(encoded[2]) + self.csff_dec3(decoded[2])
        return [level1, level2, level3]


class _Decoder(nn.Module):
    """Decoder of three levels; skip connections have channel attention."""

    def __init__(self, blocks: _Blocks, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third = widths
        self.decoder_level1 = blocks.pair(first)
        self.decoder_level2 = blocks.pair(second)
        self.decoder_level3 = blocks.pair(third)
        self.skip_attn1 = blocks.cab(first)
        self.skip_attn2 = blocks.cab(second)
        self.up21 = _Up(second, first)
        self.up32 = _Up(third, second)

    def forward(self, encoded: Sequence[Tensor]) -> list[Tensor]:
        level3 = self.decoder_level3(encoded[2])
        level2 = self.decoder_level2(self.up32(level3, self.skip_attn2(encoded[1])))
        level1 = self.decoder_level1(self.up21(level2, self.skip_attn1(encoded[0])))
        return [level1, level2, level3]


class _ORB(nn.Module):
    """Original-resolution block: CABs in sequence, with a residual connection."""

    def __init__(self, blocks: _Blocks, channels: int, num_cab: int) -> None:
        super().__init__()
        row = [blocks.cab(channels) for _ in range(num_cab)]
        self.body = nn.Sequential(*row, _conv(channels, channels, blocks.kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result + x


class _ORSNet(nn.Module):
    """Third stage, at full resolution; adds the second stage's features."""

    def __init__(self, blocks: _Blocks, widths: Sequence[int], channels: int, num_cab: int) -> None:
        super().__init__()
        first, second, third = widths
        self.orb1 = _ORB(blocks, channels, num_cab)
        self.orb2 = _ORB(blocks, channels, num_cab)
        self.orb3 = _ORB(blocks, channels, num_cab)
        self.up_enc1 = _Up(second, first)
        self.up_dec1 = _Up(second, first)
        self.up_enc2 = nn.Sequential(_Up(third, second), _Up(second, first))
        self.up_dec2 = nn.Sequential(_Up(third, second), _Up(second, first))
        self.conv_enc1 = _conv(first, channels, 1, blocks.bias)
        self.conv_enc2 = _conv(first, channels, 1, blocks.bias)
        self.conv_enc3 = _conv(first, channels, 1, blocks.bias)
        self.conv_dec1 = _conv(first, channels, 1, blocks.bias)
        self.conv_dec2 = _conv(first, channels, 1, blocks.bias)
        self.conv_dec3 = _conv(first, channels, 1, blocks.bias)

    def forward(self, x: Tensor, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        x = self.orb1(x) + self.conv_enc1(encoded[0]) + self.conv_dec1(decoded[0])
        enc, dec = self.up_enc1(encoded[1]), self.up_dec1(decoded[1])
        x = self.orb2(x) + self.conv_enc2(enc) + self.conv_dec2(dec)
        enc, dec = self.up_enc2(encoded[2]), self.up_dec2(decoded[2])
        result: Tensor = self.orb3(x) + self.conv_enc3(enc) + self.conv_dec3(dec)
        return result


def _split(x: Tensor, dim: int) -> Tensor:
    """Split an axis in two and stack the halves on the batch."""
    half = x.shape[dim] // 2  # not chunk, whose number of results depends on the size
    return torch.cat([x.narrow(dim, 0, half), x.narrow(dim, half, half)], 0)


def _join(x: Tensor, dim: int) -> Tensor:
    """Undo `_split`."""
    batch = x.shape[0] // 2  # chunk(2, 0) would tie torch.export to one batch size
    return torch.cat([x[:batch], x[batch:]], dim)


class MPRNet(nn.Module):
    """Three stages: quarters of the image, halves, the whole image.

    Maps (b, in_c, h, w) in [0, 1], any h and w, to (b, out_c, h, w) in eval mode. In training
    mode the result is a list of restored images, [stage 3, stage 2, stage 1], as in the release,
    each with its residual added. Source: section 3, figure 2 of the
    paper. Inside, the image is padded to multiples of 8; the patches of stages 1 and 2 are
    stacked on the batch. All activations share one PReLU parameter.

    Example:
        >>> import torch
        >>> network = MPRNet(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1)
        >>> [tuple(stage.shape) for stage in network(torch.rand(1, 3, 13, 22))]
        [(1, 3, 13, 22), (1, 3, 13, 22), (1, 3, 13, 22)]
        >>> network.eval()(torch.rand(2, 3, 13, 22)).shape
        torch.Size([2, 3, 13, 22])

    Args:
        in_c: channels of the image, 1 or 3.
        out_c: channels of the restored image: `in_c`, or 3 for a grey image.
        n_feat: channels at full resolution.
        scale_unetfeats: channels that each lower level of stages 1 and 2 adds.
        scale_orsnetfeats: channels that stage 3 adds.
        num_cab: channel attention blocks in each of the three blocks of stage 3.
        kernel_size: size of the convolutions in the blocks, odd.
        reduction: reduction factor of the channel attention.
        bias: whether the convolutions have a bias.

    Raises:
        ArgumentError: no residual connects `in_c` and `out_c`.
    """

    def __init__(
        self,
        in_c: int = 3,
        out_c: int = 3,
        n_feat: int = 96,
        scale_unetfeats: int = 48,
        scale_orsnetfeats: int = 32,
        num_cab: int = 8,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
    ) -> None:
        """Make the network with fresh weights; the defaults are the deblurring network."""
        super().__init__()
        if (in_c, out_c) not in {(1, 1), (1, 3), (3, 3)}:
            raise ArgumentError(
                f"MPRNet adds its input to its output, so (in_c, out_c) must be "
                f"(3, 3), (1, 1) or (1, 3), got ({in_c}, {out_c})"
            )
        blocks = _Blocks(kernel_size, reduction, bias)
        widths = [n_feat + level * scale_unetfeats for level in range(3)]
        wide = n_feat + scale_orsnetfeats
        self.shallow_feat1 = blocks.shallow(in_c, n_feat)
        self.shallow_feat2 = blocks.shallow(in_c, n_feat)
        self.shallow_feat3 = blocks.shallow(in_c, n_feat)
        self.stage1_encoder = _Encoder(blocks, widths, csff=False)
        self.stage1_decoder = _Decoder(blocks, widths)
        self.stage2_encoder = _Encoder(blocks, widths, csff=True)
        self.stage2_decoder = _Decoder(blocks, widths)
        self.stage3_orsnet = _ORSNet(blocks, widths, wide, num_cab)
        self.sam12 = SAM(n_feat, kernel_size=1, bias=bias)
        self.sam23 = SAM(n_feat, kernel_size=1, bias=bias)
        self.concat12 = blocks.conv(2 * n_feat, n_feat)
        self.concat23 = blocks.conv(2 * n_feat, wide)
        self.tail = blocks.conv(wide, out_c)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Restore (b, in_c, h, w); in training mode, one image per stage."""
        height, width = x.shape[-2:]
        whole = pad_to_multiple(x, 8)
        halves = _split(whole, 2)
        quarters = _split(halves, 3)

        encoded = [_join(f, 3) for f in self.stage1_encoder(self.shallow_feat1(quarters))]
        decoded = self.stage1_decoder(encoded)
        attended, image1 = self.sam12(decoded[0], halves)

        features = self.concat12(torch.cat([self.shallow_feat2(halves), attended], 1))
        features = self.stage2_encoder(features, (encoded, decoded))
        encoded = [_join(f, 2) for f in features]
        decoded = self.stage2_decoder(encoded)
        attended, image2 = self.sam23(decoded[0], whole)

        features = self.concat23(torch.cat([self.shallow_feat3(whole), attended], 1))
        features = self.stage3_orsnet(features, encoded, decoded)
        restored: Tensor = crop(self.tail(features) + whole, height, width)
        if not self.training:
            return restored
        earlier = [image2, _join(image1, 2)]
        return [restored, *(crop(image, height, width) for image in earlier)]


def mprnet_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `MPRNet` that a state dict belongs to.

    If several values of `reduction` give the same shapes, the most common one is returned.

    Example:
        >>> network = MPRNet(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1)
        >>> mprnet_hyperparameters(network.state_dict())["scale_unetfeats"]
        4

    Raises:
        KeyError: a tensor that every MPRNet has is missing.
        ValueError: no `reduction` explains the widths of the channel attention.
    """
    n_feat, in_c, kernel_size = state_dict["shallow_feat1.0.weight"].shape[:3]
    out_c, wide = state_dict["tail.weight"].shape[:2]
    second = state_dict["stage1_encoder.down12.down.1.weight"].shape[0]
    start, end = "stage3_orsnet.orb1.body.", ".CA.conv_du.0.weight"
    return {
        "in_c": int(in_c),
        "out_c": int(out_c),
        "n_feat": int(n_feat),
        "scale_unetfeats": int(second - n_feat),
        "scale_orsnetfeats": int(wide - n_feat),
        "num_cab": sum(key.startswith(start) and key.endswith(end) for key in state_dict),
        "kernel_size": int(kernel_size),
        "reduction": _reduction(state_dict),
        "bias": "shallow_feat1.0.bias" in state_dict,
    }


def _reduction(state_dict: Mapping[str, Tensor]) -> int:
    shapes = {
        tuple(weight.shape[:2])
        for key, weight in state_dict.items()
        if key.endswith(".CA.conv_du.0.weight")
    }
    widest = max((channels for _, channels in shapes), default=0)
    candidates: list[int] = [4, 16, 8, 2, *range(1, widest + 1)]
    for reduction in candidates:
        if all(channels // reduction == narrow for narrow, channels in shapes):
            return reduction
    raise ValueError(f"no reduction gives the (narrow, wide) channel attention {sorted(shapes)}")
