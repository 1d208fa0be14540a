"""HINet, the two-stage network of "HINet: Half Instance Normalization Network".

Chen, Lu, Zhang, Chu and Chen, CVPR Workshops 2021, arXiv 2105.06086. Module and parameter names
are those of the authors' release, so that its checkpoints load strictly. The global operation
is the instance norm on half of the channels of a block.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.errors import ArgumentError
from glocal.networks.mprnet import SAM
from glocal.networks.padding import crop, pad_to_multiple

__all__ = ["HINBlock", "HINet", "hinet_hyperparameters"]


class HINBlock(nn.Module):
    """Residual block with instance norm on half of its channels (section 3).

    `norm`, if present, is the network's global operation: it normalises the first half
    of the channels by their mean and variance over all pixels.
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        relu_slope: float,
        *,
        downsample: bool = False,
        use_csff: bool = False,
        use_HIN: bool = False,
    ) -> None:
        """Make a block from `in_size` to `out_size` channels."""
        super().__init__()
        self.normed = out_size // 2
        self.identity = nn.Conv2d(in_size, out_size, 1)
        self.conv_1 = nn.Conv2d(in_size, out_size, 3, padding=1)
        self.relu_1 = nn.LeakyReLU(relu_slope)
        self.conv_2 = nn.Conv2d(out_size, out_size, 3, padding=1)
        self.relu_2 = nn.LeakyReLU(relu_slope)
        if use_csff:
            self.csff_enc = nn.Conv2d(out_size, out_size, 3, padding=1)
            self.csff_dec = nn.Conv2d(out_size, out_size, 3, padding=1)
        self.norm = nn.InstanceNorm2d(self.normed, affine=True) if use_HIN else None
        self.downsample = (
            nn.Conv2d(out_size, out_size, 4, stride=2, padding=1, bias=False)
            if downsample
            else None
        )

    def forward(
        self, x: Tensor, previous: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map features (b, in_size, h, w) to those of the next level and of this one.

        `previous` are encoder and decoder features of the previous stage. The two results are the
        same tensor if the block does not downsample.
        """
        inner = self.conv_1(x)
        if self.norm is not None:
            inner = torch.cat([self.norm(inner[:, : self.normed]), inner[:, self.normed :]], 1)
        inner = self.relu_2(self.conv_2(self.relu_1(inner)))
        result: Tensor = inner + self.identity(x)
        if previous is not None:
            encoded, decoded = previous
            result = result + self.csff_enc(encoded) + self.csff_dec(decoded)
        return (result if self.downsample is None else self.downsample(result)), result


class _UpBlock(nn.Module):
    """Upsampling by 2, concatenated with the skip connection."""

    def __init__(self, in_size: int, out_size: int, relu_slope: float) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_size, out_size, 2, stride=2)
        self.conv_block = HINBlock(in_size, out_size, relu_slope)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        result: Tensor = self.conv_block(torch.cat([self.up(x), skip], 1))[1]
        return result


class HINet(nn.Module):
    """Two U-shaped stages; the second uses the features of the first.

    Maps (b, in_chn, h, w) in [0, 1] to the same shape in eval mode; any h and w. In training
    mode the result is a list of restored images, [stage 1, stage 2], as in the release, each with
    its residual added. Source: section 3 of the paper.
    Inside, the image is padded to multiples of 2 ** (depth - 1).

    Example:
        >>> import torch
        >>> network = HINet(wf=4, depth=3)
        >>> [tuple(stage.shape) for stage in network(torch.rand(1, 3, 13, 22))]
        [(1, 3, 13, 22), (1, 3, 13, 22)]
        >>> network.eval()(torch.rand(2, 3, 13, 22)).shape
        torch.Size([2, 3, 13, 22])

    Args:
        in_chn: channels of the image, 3 or 1 (the image of the first stage always has 3).
        wf: channels at full resolution; they double with each level.
        depth: number of levels.
        relu_slope: negative slope of the leaky ReLUs.
        hin_position_left, hin_position_right: first and last level, from 0, whose encoder
            blocks have an instance norm. The authors' GoPro network has 3 and 4.

    Raises:
        ArgumentError: `in_chn` is neither 1 nor 3.
    """

    def __init__(
        self,
        in_chn: int = 3,
        wf: int = 64,
        depth: int = 5,
        relu_slope: float = 0.2,
        hin_position_left: int = 0,
        hin_position_right: int = 4,
    ) -> None:
        """Make the network with fresh weights."""
        super().__init__()
        if in_chn not in (1, 3):
            raise ArgumentError(f"HINet restores images of 1 or 3 channels, got in_chn={in_chn}")
        self.padder_size = 2 ** (depth - 1)
        self.down_path_1 = nn.ModuleList()
        self.down_path_2 = nn.ModuleList()
        self.conv_01 = nn.Conv2d(in_chn, wf, 3, padding=1)
        self.conv_02 = nn.Conv2d(in_chn, wf, 3, padding=1)
        widths = [wf * 2**level for level in range(depth)]
        for level, (before, width) in enumerate(zip([wf, *widths], widths, strict=False)):
            inner = level + 1 < depth
            use_HIN = hin_position_left <= level <= hin_position_right
            for path, csff in ((self.down_path_1, False), (self.down_path_2, inner)):
                path.append(
                    HINBlock(
                        before,
                        width,
                        relu_slope,
                        downsample=inner,
                        use_csff=csff,
                        use_HIN=use_HIN,
                    )
                )
        self.up_path_1 = nn.ModuleList()
        self.up_path_2 = nn.ModuleList()
        self.skip_conv_1 = nn.ModuleList()
        self.skip_conv_2 = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up_path_1.append(_UpBlock(2 * width, width, relu_slope))
            self.up_path_2.append(_UpBlock(2 * width, width, relu_slope))
            self.skip_conv_1.append(nn.Conv2d(width, width, 3, padding=1))
            self.skip_conv_2.append(nn.Conv2d(width, width, 3, padding=1))
        self.sam12 = SAM(wf, kernel_size=3, bias=True)
        self.cat12 = nn.Conv2d(2 * wf, wf, 1)
        self.last = nn.Conv2d(wf, in_chn, 3, padding=1)
        self._norm_at_bottom = hin_position_left < depth <= hin_position_right + 1

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Restore (b, in_chn, h, w); in training mode, one image per stage."""
        height, width = x.shape[-2:]
        image = self._pad(x)
        encoded = _descend(self.down_path_1, self.conv_01(image))
        decoded = _ascend(self.up_path_1, self.skip_conv_1, encoded)
        attended, first = self.sam12(decoded[0], image)

        features = self.cat12(torch.cat([self.conv_02(image), attended], 1))
        previous = list(zip(encoded, decoded, strict=True))[:-1]
        encoded = _descend(self.down_path_2, features, previous)
        decoded = _ascend(self.up_path_2, self.skip_conv_2, encoded)
        restored: Tensor = crop(self.last(decoded[0]) + image, height, width)
        if not self.training:
            return restored
        return [crop(first, height, width), restored]

    def _pad(self, x: Tensor) -> Tensor:
        size = self.padder_size
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, size)
        if self._norm_at_bottom and height <= size and width <= size:
            # InstanceNorm2d needs more than one pixel: keep two at the lowest level
            padded = F.pad(padded, (0, size, 0, 0), mode="replicate")
        return padded


def _descend(
    path: Iterable[nn.Module], x: Tensor, previous: Sequence[tuple[Tensor, Tensor]] = ()
) -> list[Tensor]:
    """Encoder features of each level, from full resolution down."""
    features: list[Tensor] = []
    for level, block in enumerate(path):
        x, full = block(x, previous[level] if level < len(previous) else None)
        features.append(full)
    return features


def _ascend(
    path: Iterable[nn.Module], skips: Iterable[nn.Module], encoded: Sequence[Tensor]
) -> list[Tensor]:
    """Decoder features of each level, from full resolution down."""
    features = [encoded[-1]]
    for up, skip, bridge in zip(path, skips, reversed(encoded[:-1]), strict=True):
        features.insert(0, up(features[0], skip(bridge)))
    return features


def hinet_hyperparameters(state_dict: Mapping[str, Tensor]) -> dict[str, object]:
    """The constructor arguments of the `HINet` that a state dict belongs to.

    `relu_slope` cannot be inferred from the tensors and is left at its default.

    Example:
        >>> network = HINet(wf=4, depth=3, hin_position_left=1)
        >>> hinet_hyperparameters(network.state_dict())
        {'in_chn': 3, 'wf': 4, 'depth': 3, 'hin_position_left': 1, 'hin_position_right': 2}

    Raises:
        KeyError: a tensor that every HINet has is missing.
        ValueError: the levels with an instance norm are not consecutive.
    """
    wf, in_chn = state_dict["conv_01.weight"].shape[:2]
    depth = sum(f"down_path_1.{i}.conv_1.weight" in state_dict for i in range(len(state_dict)))
    normed = [i for i in range(depth) if f"down_path_1.{i}.norm.weight" in state_dict]
    if normed and normed != list(range(normed[0], normed[-1] + 1)):
        raise ValueError(f"levels with an instance norm are not consecutive: {normed}")
    return {
        "in_chn": int(in_chn),
        "wf": int(wf),
        "depth": depth,
        "hin_position_left": normed[0] if normed else 0,
        "hin_position_right": normed[-1] if normed else -1,
    }
