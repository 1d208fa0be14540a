"""Restormer, "Efficient Transformer for High-Resolution Image Restoration".

Zamir, Arora, Khan, Hayat, Khan and Yang, CVPR 2022, arXiv 2111.09881. Module and parameter names
are those of the authors' release, so that its checkpoints load strictly. The global operation of
each block is its transposed attention (MDTA), the attention of channels to channels. The file
exceeds 300 lines because it holds the whole network, as the release does.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.errors import ArgumentError
from glocal.networks.norms import channel_norm
from glocal.networks.padding import crop, pad_to_multiple
from glocal.ops.numerics import sum_dtype

__all__ = ["Attention", "LayerNorm", "Restormer", "TransformerBlock", "restormer_hyperparameters"]

_EPS = 1e-5


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(sum_dtype(x))


class _BiasFreeNorm(nn.Module):
    """Divide by the standard deviation over the channels; keep the mean."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = _at_least_float32(x)
        variance = wide.var(1, keepdim=True, unbiased=False)
        normal = wide / torch.sqrt(variance + _EPS)
        return (normal * self.weight.view(-1, 1, 1)).to(x.dtype)


class _WithBiasNorm(nn.Module):
    """Subtract the mean over the channels and divide by the standard deviation."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.weight, self.bias, _EPS)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of (b, c, h, w).

    Statistics are computed in float32 at least; the result has the dtype of the input.
    """

    def __init__(self, dim: int, LayerNorm_type: str) -> None:
        """Make a norm of `dim` channels, 'BiasFree' or 'WithBias'."""
        super().__init__()
        self.body = _BiasFreeNorm(dim) if LayerNorm_type == "BiasFree" else _WithBiasNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, dim, h, w)."""
        result: Tensor = self.body(x)
        return result


class _FeedForward(nn.Module):
    """Gated feed-forward network with depth-wise convolutions (GDFN, equation 2)."""

    def __init__(self, dim: int, ffn_expansion_factor: float, bias: bool) -> None:
        super().__init__()
        hidden = int(dim * ffn_expansion_factor)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, signal = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        result: Tensor = self.project_out(F.gelu(gate) * signal)
        return result


class Attention(nn.Module):
    """Transposed self-attention (MDTA, equation 1), (b, c, h, w) → (b, c, h, w).

    The attention matrix of each head is (c / heads) × (c / heads): cosine similarities of
    channels over all pixels, times the learned `temperature`. It is the global operation.
    """

    def __init__(self, dim: int, num_heads: int, bias: bool) -> None:
        """Make the attention of `dim` channels in `num_heads` heads."""
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend (b, dim, h, w)."""
        batch, channels, height, width = x.shape
        per_head = (batch, self.num_heads, channels // self.num_heads, height * width)
        query, key, value = (
            part.reshape(per_head) for part in self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        )
        similarity = _unit(query) @ _unit(key).transpose(-2, -1)
        attention = (similarity * self.temperature).softmax(dim=-1)
        mixed = (attention @ value).reshape(batch, channels, height, width)
        result: Tensor = self.project_out(mixed)
        return result


def _unit(x: Tensor) -> Tensor:
    """Normalise the last axis to length 1, computed in float32 at least."""
    wide = _at_least_float32(x)
    return F.normalize(wide, dim=-1).to(x.dtype)


class TransformerBlock(nn.Module):
    """Attention and feed-forward network, each with layer norm and residual."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        ffn_expansion_factor: float,
        bias: bool,
        LayerNorm_type: str,
    ) -> None:
        """Make a block of `dim` channels."""
        super().__init__()
        self.norm1 = LayerNorm(dim, LayerNorm_type)
        self.attn = Attention(dim, num_heads, bias)
        self.norm2 = LayerNorm(dim, LayerNorm_type)
        self.ffn = _FeedForward(dim, ffn_expansion_factor, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine (b, dim, h, w)."""
        x = x + self.attn(self.norm1(x))
        result: Tensor = x + self.ffn(self.norm2(x))
        return result


class _PatchEmbed(nn.Module):
    """The first convolution; it never has a bias."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.proj(x)
        return result


class _Resize(nn.Module):
    """Pixel (un)shuffle by 2, with half or twice the channels."""

    def __init__(self, channels_in: int, channels_out: int, shuffle: nn.Module) -> None:
        super().__init__()
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, shuffle)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result


def _down(dim: int) -> _Resize:
    return _Resize(dim, dim // 2, nn.PixelUnshuffle(2))


def _up(dim: int) -> _Resize:
    return _Resize(dim, dim * 2, nn.PixelShuffle(2))


class Restormer(nn.Module):
    """Four-level U-shaped transformer for deblurring, denoising and deraining.

    Maps (b, inp_channels, h, w) in [0, 1], any h and w, to (b, out_channels, h, w), in training
    and eval mode alike (the release's network has a single output). Source: section 3, figure 2
    of the paper. Inside, the image is padded to multiples of 8.

    Example:
        >>> import torch
        >>> network = Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1)
        >>> network(torch.rand(1, 3, 13, 22)).shape
        torch.Size([1, 3, 13, 22])

    Args:
        inp_channels: channels of the image; 6 for a pair of dual-pixel views.
        out_channels: channels of the restored image.
        dim: channels at full resolution, a multiple of 2 and of each level's heads.
        num_blocks: blocks of each level, from full resolution down.
        num_refinement_blocks: blocks after the decoder, at full resolution.
        heads: attention heads of each level.
        ffn_expansion_factor: widening of the feed-forward networks.
        bias: whether the convolutions have a bias.
        LayerNorm_type: 'WithBias' or 'BiasFree' (the release's denoising networks).
        dual_pixel_task: add the first features instead of the image, whose channels may then
            differ from those of the result.

    Raises:
        ArgumentError: `LayerNorm_type` is unknown, or input and output channels do not match.
    """

    def __init__(
        self,
        inp_channels: int = 3,
        out_channels: int = 3,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        bias: bool = False,
        LayerNorm_type: str = "WithBias",
        dual_pixel_task: bool = False,
    ) -> None:
        """Make the network with fresh weights; the defaults are the deblurring network."""
        super().__init__()
        if LayerNorm_type not in ("WithBias", "BiasFree"):
            raise ArgumentError(
                f"LayerNorm_type must be 'WithBias' or 'BiasFree', got {LayerNorm_type!r}"
            )
        if not dual_pixel_task and inp_channels not in (1, out_channels):
            raise ArgumentError(
                f"Restormer adds its input to its output, so inp_channels={inp_channels} must be "
                f"1 or out_channels={out_channels}; dual_pixel_task=True adds nothing"
            )

        def stage(width: int, level: int, count: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    TransformerBlock(
                        width, heads[level], ffn_expansion_factor, bias, LayerNorm_type
                    )
                    for _ in range(count)
                )
            )

        self.patch_embed = _PatchEmbed(inp_channels, dim)
        self.encoder_level1 = stage(dim, 0, num_blocks[0])
        self.down1_2 = _down(dim)
        self.encoder_level2 = stage(2 * dim, 1, num_blocks[1])
        self.down2_3 = _down(2 * dim)
        self.encoder_level3 = stage(4 * dim, 2, num_blocks[2])
        self.down3_4 = _down(4 * dim)
        self.latent = stage(8 * dim, 3, num_blocks[3])
        self.up4_3 = _up(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = stage(4 * dim, 2, num_blocks[2])
        self.up3_2 = _up(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = stage(2 * dim, 1, num_blocks[1])
        self.up2_1 = _up(2 * dim)
        self.decoder_level1 = stage(2 * dim, 0, num_blocks[0])
        self.refinement = stage(2 * dim, 0, num_refinement_blocks)
        self.skip_conv = nn.Conv2d(dim, 2 * dim, 1, bias=bias) if dual_pixel_task else None
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Restore (b, inp_channels, h, w)."""
        height, width = x.shape[-2:]
        image = pad_to_multiple(x, 8)
        embedded = self.patch_embed(image)
        skip1 = self.encoder_level1(embedded)
        skip2 = self.encoder_level2(self.down1_2(skip1))
        skip3 = self.encoder_level3(self.down2_3(skip2))
        features = self.latent(self.down3_4(skip3))

        features = torch.cat([self.up4_3(features), skip3], 1)
        features = self.decoder_level3(self.reduce_chan_level3(features))
        features = torch.cat([self.up3_2(features), skip2], 1)
        features = self.decoder_level2(self.reduce_chan_level2(features))
        features = torch.cat([self.up2_1(features), skip1], 1)
        features = self.refinement(self.decoder_level1(features))

        restored: Tensor
        if self.skip_conv is not None:
            restored = self.output(features + self.skip_conv(embedded))
        else:
            restored = self.output(features) + image
        return crop(restored, height, width)


def restormer_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `Restormer` that a state dict belongs to.

    `ffn_expansion_factor` is the shortest decimal that explains the widths of all levels.

    Example:
        >>> network = Restormer(dim=8, num_blocks=(1, 2, 1, 1), num_refinement_blocks=1)
        >>> restormer_hyperparameters(network.state_dict())["num_blocks"]
        [1, 2, 1, 1]

    Raises:
        KeyError: a tensor that every Restormer has is missing.
        ValueError: no `ffn_expansion_factor` explains the widths of the feed-forward networks.
    """
    dim, inp_channels = state_dict["patch_embed.proj.weight"].shape[:2]
    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    hidden = {
        int(weight.shape[1]): int(weight.shape[0]) // 2
        for key, weight in state_dict.items()
        if key.endswith(".ffn.project_in.weight")
    }
    return {
        "inp_channels": int(inp_channels),
        "out_channels": int(state_dict["output.weight"].shape[0]),
        "dim": int(dim),
        "num_blocks": [_count_blocks(state_dict, level) for level in levels],
        "num_refinement_blocks": _count_blocks(state_dict, "refinement"),
        "heads": [int(state_dict[f"{level}.0.attn.temperature"].shape[0]) for level in levels],
        "ffn_expansion_factor": _expansion(hidden),
        "bias": "output.bias" in state_dict,
        "LayerNorm_type": (
            "WithBias" if "encoder_level1.0.norm1.body.bias" in state_dict else "BiasFree"
        ),
        "dual_pixel_task": "skip_conv.weight" in state_dict,
    }


def _count_blocks(state_dict: Mapping[str, Tensor], stage: str) -> int:
    ending = ".attn.temperature"
    return sum(key.startswith(f"{stage}.") and key.endswith(ending) for key in state_dict)


def _expansion(hidden: Mapping[int, int]) -> float:
    """The shortest decimal f with int(width * f) == hidden[width] for every width."""
    low = max((count / width for width, count in hidden.items()), default=1.0)
    for digits in range(16):
        scale: int = 10**digits
        factor = math.ceil(low * scale) / scale
        if all(int(width * factor) == count for width, count in hidden.items()):
            return factor
    raise ValueError(f"no ffn_expansion_factor gives the hidden widths {dict(hidden)}")
