"""The local variants of the published networks, as plain functions of a state dict.

More than 300 lines: one definition per network, side by side.

All take (state, image, train_size, base) and return the restored image in float64:

- state: the official state dict. Its keys and shapes give widths, depths and numbers of heads.
- image: (b, c, h, w). NAFNet and Baseline pad it; the others need multiples of a size.
- train_size, base: int or (height, width) in image pixels. A layer whose map is h×w for an image of
  train_size has the window floor(h · base / train_size), at least 1 pixel, along each axis.
- base None: the global original.

One long file, because the networks share most of their parts and nothing else uses them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from oracles.ops import instance_norm_by_sums, local_channel_attention, mean_by_sums

Size = int | tuple[int, int]
State = Mapping[str, Tensor]


def nafnet_local(
    state: State, image: Tensor, train_size: Size | None = None, base: Size | None = None
) -> Tensor:
    """NAFNet (Chen et al., ECCV 2022); pads to a multiple of 2^levels with zeros."""
    return _plain_unet(state, image, train_size, base, _naf_block)


def baseline_local(
    state: State, image: Tensor, train_size: Size | None = None, base: Size | None = None
) -> Tensor:
    """Baseline of the same paper: GELU and squeeze-and-excitation instead of gates."""
    return _plain_unet(state, image, train_size, base, _baseline_block)


def hinet_local(
    state: State,
    image: Tensor,
    train_size: Size | None = None,
    base: Size | None = None,
    *,
    relu_slope: float = 0.2,
) -> Tensor:
    """HINet (Chen et al., CVPRW 2021), image after the last stage. Multiples of 2^(depth - 1)."""
    net = _Part.of(state)
    image = image.double()
    field = _Field.of(train_size, base)
    multiple = 2 ** (net.at("down_path_1").count() - 1)
    _check_multiples(multiple, image, field)

    x = net.conv("conv_01", image)
    encoded, decoded = _hinet_stage(net, "1", x, field, relu_slope, None)
    supervised = _supervise(net.at("sam12"), decoded[0], image)
    x = net.conv("cat12", torch.cat([net.conv("conv_02", image), supervised], 1))
    _, decoded = _hinet_stage(net, "2", x, field, relu_slope, (encoded, decoded))
    return net.conv("last", decoded[0]) + image


def mprnet_local(
    state: State, image: Tensor, train_size: Size | None = None, base: Size | None = None
) -> Tensor:
    """MPRNet (Zamir et al., CVPR 2021; deblurring), image after the last stage. Multiples of 8.

    The first encoder runs on quarters of the image, the first decoder and the second encoder on its
    upper and lower halves, and everything later on the whole image.
    """
    net = _Part.of(state)
    image = image.double()
    whole = _Field.of(train_size, base)
    half, quarter = whole.over(2, 1), whole.over(2, 2)
    _check_multiples(8, image, whole)
    halves = image.chunk(2, 2)

    stage1 = []
    for pixels in halves:
        corners = []
        for corner in pixels.chunk(2, 3):
            x = _shallow(net.at("shallow_feat1"), corner, quarter)
            corners.append(_mpr_encoder(net.at("stage1_encoder"), x, quarter, None))
        encoded = [torch.cat(pair, 3) for pair in zip(*corners, strict=True)]
        stage1.append((encoded, _mpr_decoder(net.at("stage1_decoder"), encoded, half)))

    bands = []
    for pixels, (encoded, decoded) in zip(halves, stage1, strict=True):
        supervised = _supervise(net.at("sam12"), decoded[0], pixels)
        x = _shallow(net.at("shallow_feat2"), pixels, half)
        x = net.conv("concat12", torch.cat([x, supervised], 1))
        bands.append(_mpr_encoder(net.at("stage2_encoder"), x, half, (encoded, decoded)))
    encoded = [torch.cat(pair, 2) for pair in zip(*bands, strict=True)]
    decoded = _mpr_decoder(net.at("stage2_decoder"), encoded, whole)

    supervised = _supervise(net.at("sam23"), decoded[0], image)
    x = _shallow(net.at("shallow_feat3"), image, whole)
    x = net.conv("concat23", torch.cat([x, supervised], 1))
    x = _original_resolution(net.at("stage3_orsnet"), x, whole, encoded, decoded)
    return net.conv("tail", x) + image


def restormer_local(
    state: State, image: Tensor, train_size: Size | None = None, base: Size | None = None
) -> Tensor:
    """Restormer (Zamir et al., CVPR 2022). Multiples of 8."""
    net = _Part.of(state)
    image = image.double()
    field = _Field.of(train_size, base)
    _check_multiples(8, image, field)

    embedded = x = net.conv("patch_embed.proj", image)
    skips = []
    for level, down in enumerate(["down1_2", "down2_3", "down3_4"]):
        x = _transformer(net.at(f"encoder_level{level + 1}"), x, field.over(2**level))
        skips.append(x)
        x = F.pixel_unshuffle(net.conv(f"{down}.body.0", x), 2)
    x = _transformer(net.at("latent"), x, field.over(8))
    for level, up in reversed(list(enumerate(["up2_1", "up3_2", "up4_3"]))):
        x = F.pixel_shuffle(net.conv(f"{up}.body.0", x), 2)
        x = torch.cat([x, skips[level]], 1)
        if level > 0:
            x = net.conv(f"reduce_chan_level{level + 1}", x)
        x = _transformer(net.at(f"decoder_level{level + 1}"), x, field.over(2**level))
    x = _transformer(net.at("refinement"), x, field)
    if "skip_conv" in net:  # dual-pixel defocus: two views in, so no image to add to
        return net.conv("output", x + net.conv("skip_conv", embedded))
    return net.conv("output", x) + image


# Parts of all networks


@dataclass(frozen=True)
class _Part:
    """The entries of a state dict below a prefix."""

    state: State
    prefix: str = ""

    @classmethod
    def of(cls, state: State) -> "_Part":
        return cls({key: tensor.detach().double() for key, tensor in state.items()})

    def at(self, name: str) -> "_Part":
        return _Part(self.state, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.state[self.prefix + name]

    def get(self, name: str) -> Tensor | None:
        return self.state.get(self.prefix + name)

    def __contains__(self, name: str) -> bool:
        return any(key.startswith(f"{self.prefix}{name}.") for key in self.state)

    def count(self) -> int:
        """The number of children 0, 1, 2, ..."""
        n = 0
        while str(n) in self:
            n += 1
        return n

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        """Convolution; by default padded to keep the size, grouped as the weights are."""
        weight = self[f"{name}.weight"]
        if padding is None:
            padding = weight.shape[2] // 2
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, self.get(f"{name}.bias"), stride, padding, groups=groups)


@dataclass(frozen=True)
class _Field:
    """The size of a layer's map in training, and the window that follows from it."""

    feature: tuple[int, int]
    train: tuple[int, int]
    base: tuple[int, int] | None

    @classmethod
    def of(cls, train_size: Size | None, base: Size | None) -> "_Field":
        if base is None:
            return cls((0, 0), (0, 0), None)
        if train_size is None:
            raise ValueError("a local network needs train_size, got base alone")
        train = _pair(train_size)
        return cls(train, train, _pair(base))

    def over(self, rows: int, columns: int | None = None) -> "_Field":
        """The field of a map that is smaller by these factors."""
        columns = rows if columns is None else columns
        return replace(self, feature=(self.feature[0] // rows, self.feature[1] // columns))

    def padded(self, multiple: int) -> "_Field":
        h, w = self.feature
        return replace(self, feature=(h + -h % multiple, w + -w % multiple))

    @property
    def window(self) -> tuple[int, int] | None:
        if self.base is None:
            return None
        h = self.feature[0] * self.base[0] // self.train[0]
        w = self.feature[1] * self.base[1] // self.train[1]
        return max(h, 1), max(w, 1)


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _check_multiples(multiple: int, image: Tensor, field: _Field) -> None:
    for size in (*image.shape[2:], *field.feature):
        if size % multiple:
            raise ValueError(
                f"this oracle needs sizes that are multiples of {multiple}, got {size}"
            )


def _pool(x: Tensor, field: _Field) -> Tensor:
    if field.window is None:
        return x.mean((2, 3), keepdim=True)
    return mean_by_sums(x, field.window)


def _supervise(net: _Part, x: Tensor, image: Tensor) -> Tensor:
    """Supervised attention: features gated by the image that the stage has restored."""
    restored = net.conv("conv2", x) + image
    return x + net.conv("conv1", x) * torch.sigmoid(net.conv("conv3", restored))


# NAFNet, Baseline


def _plain_unet(
    state: State,
    image: Tensor,
    train_size: Size | None,
    base: Size | None,
    block: Callable[[_Part, Tensor, _Field], Tensor],
) -> Tensor:
    net = _Part.of(state)
    levels = net.at("downs").count()
    h, w = image.shape[2:]
    image = F.pad(image.double(), (0, -w % 2**levels, 0, -h % 2**levels))
    field = _Field.of(train_size, base).padded(2**levels)

    def blocks(name: str, x: Tensor, level: int) -> Tensor:
        part = net.at(name)
        for i in range(part.count()):
            x = block(part.at(str(i)), x, field.over(2**level))
        return x

    x = net.conv("intro", image)
    skips = []
    for level in range(levels):
        x = blocks(f"encoders.{level}", x, level)
        skips.append(x)
        x = net.conv(f"downs.{level}", x, stride=2, padding=0)
    x = blocks("middle_blks", x, levels)
    for i, level in enumerate(reversed(range(levels))):
        x = F.pixel_shuffle(net.conv(f"ups.{i}.0", x), 2) + skips[level]
        x = blocks(f"decoders.{i}", x, level)
    return (net.conv("ending", x) + image)[:, :, :h, :w]


def _naf_block(net: _Part, x: Tensor, field: _Field) -> Tensor:
    y = net.conv("conv2", net.conv("conv1", _norm_channels(net.at("norm1"), x, 1e-6)))
    y = _gate(y)
    y = y * net.conv("sca.1", _pool(y, field))
    x = x + net.conv("conv3", y) * net["beta"]
    y = _gate(net.conv("conv4", _norm_channels(net.at("norm2"), x, 1e-6)))
    return x + net.conv("conv5", y) * net["gamma"]


def _baseline_block(net: _Part, x: Tensor, field: _Field) -> Tensor:
    y = net.conv("conv2", net.conv("conv1", _norm_channels(net.at("norm1"), x, 1e-6)))
    y = F.gelu(y)
    squeezed = F.relu(net.conv("se.1", _pool(y, field)))
    y = y * torch.sigmoid(net.conv("se.3", squeezed))
    x = x + net.conv("conv3", y) * net["beta"]
    y = F.gelu(net.conv("conv4", _norm_channels(net.at("norm2"), x, 1e-6)))
    return x + net.conv("conv5", y) * net["gamma"]


def _gate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return first * second


def _norm_channels(net: _Part, x: Tensor, eps: float) -> Tensor:
    """Layer norm over the channels of each pixel. Without a bias, the mean is not subtracted."""
    mean = x.mean(1, keepdim=True)
    var = (x - mean).square().mean(1, keepdim=True)
    weight, bias = net["weight"][:, None, None], net.get("bias")
    if bias is None:
        return x / torch.sqrt(var + eps) * weight
    return (x - mean) / torch.sqrt(var + eps) * weight + bias[:, None, None]


# HINet


def _hinet_stage(
    net: _Part,
    stage: str,
    x: Tensor,
    field: _Field,
    slope: float,
    earlier: tuple[list[Tensor], list[Tensor]] | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Encoder and decoder maps of one U-Net, largest first."""
    down = net.at(f"down_path_{stage}")
    depth = down.count()
    encoded: list[Tensor] = []
    for level in range(depth):
        part = down.at(str(level))
        x = _half_norm_block(part, x, field.over(2**level), slope)
        if level < depth - 1:
            if earlier is not None:
                x = x + part.conv("csff_enc", earlier[0][level])
                x = x + part.conv("csff_dec", earlier[1][level])
            encoded.append(x)
            x = part.conv("downsample", x, stride=2, padding=1)
    decoded: list[Tensor] = []
    for i, level in enumerate(reversed(range(depth - 1))):
        part = net.at(f"up_path_{stage}.{i}")
        up = F.conv_transpose2d(x, part["up.weight"], part["up.bias"], stride=2)
        skip = net.conv(f"skip_conv_{stage}.{i}", encoded[level])
        x = torch.cat([up, skip], 1)
        x = _half_norm_block(part.at("conv_block"), x, field.over(2**level), slope)
        decoded.insert(0, x)
    return encoded, decoded


def _half_norm_block(net: _Part, x: Tensor, field: _Field, slope: float) -> Tensor:
    y = net.conv("conv_1", x)
    if "norm" in net:
        normed, kept = y.chunk(2, 1)
        window = field.window or (y.shape[2], y.shape[3])
        normed = instance_norm_by_sums(normed, window, net["norm.weight"], net["norm.bias"], 1e-5)
        y = torch.cat([normed, kept], 1)
    y = F.leaky_relu(y, slope)
    y = F.leaky_relu(net.conv("conv_2", y), slope)
    return y + net.conv("identity", x)


# MPRNet


def _attention_block(net: _Part, x: Tensor, field: _Field) -> Tensor:
    y = net.conv("body.2", F.prelu(net.conv("body.0", x), net["body.1.weight"]))
    squeezed = F.relu(net.conv("CA.conv_du.0", _pool(y, field)))
    return x + y * torch.sigmoid(net.conv("CA.conv_du.2", squeezed))


def _attention_blocks(net: _Part, x: Tensor, field: _Field, count: int = 2) -> Tensor:
    for i in range(count):
        x = _attention_block(net.at(str(i)), x, field)
    return x


def _shallow(net: _Part, pixels: Tensor, field: _Field) -> Tensor:
    return _attention_block(net.at("1"), net.conv("0", pixels), field)


def _resize(net: _Part, x: Tensor, factor: float) -> Tensor:
    """Bilinear resize, then a 1×1 convolution, which is child 1 after the Upsample layer."""
    x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return net.conv("1", x)


def _mpr_encoder(
    net: _Part,
    x: Tensor,
    field: _Field,
    earlier: tuple[Sequence[Tensor], Sequence[Tensor]] | None,
) -> list[Tensor]:
    encoded = []
    for level in range(3):
        if level > 0:
            x = _resize(net.at(f"down{level}{level + 1}.down"), x, 0.5)
        x = _attention_blocks(net.at(f"encoder_level{level + 1}"), x, field.over(2**level))
        if earlier is not None:
            x = x + net.conv(f"csff_enc{level + 1}", earlier[0][level])
            x = x + net.conv(f"csff_dec{level + 1}", earlier[1][level])
        encoded.append(x)
    return encoded


def _mpr_decoder(net: _Part, encoded: Sequence[Tensor], field: _Field) -> list[Tensor]:
    decoded: list[Tensor] = []
    x = encoded[2]
    for level in (2, 1, 0):
        here = field.over(2**level)
        if level < 2:
            skip = _attention_block(net.at(f"skip_attn{level + 1}"), encoded[level], here)
            x = _resize(net.at(f"up{level + 2}{level + 1}.up"), x, 2) + skip
        x = _attention_blocks(net.at(f"decoder_level{level + 1}"), x, here)
        decoded.insert(0, x)
    return decoded


def _original_resolution(
    net: _Part, x: Tensor, field: _Field, encoded: Sequence[Tensor], decoded: Sequence[Tensor]
) -> Tensor:
    for level in range(3):
        body = net.at(f"orb{level + 1}.body")
        blocks = body.count() - 1
        x = x + body.conv(str(blocks), _attention_blocks(body, x, field, blocks))
        for kind, maps in (("enc", encoded), ("dec", decoded)):
            y = maps[level]
            if level == 1:
                y = _resize(net.at(f"up_{kind}1.up"), y, 2)
            elif level == 2:
                y = _resize(net.at(f"up_{kind}2.0.up"), y, 2)
                y = _resize(net.at(f"up_{kind}2.1.up"), y, 2)
            x = x + net.conv(f"conv_{kind}{level + 1}", y)
    return x


# Restormer


def _transformer(net: _Part, x: Tensor, field: _Field) -> Tensor:
    for i in range(net.count()):
        block = net.at(str(i))
        x = x + _mdta(block.at("attn"), _norm_channels(block.at("norm1.body"), x, 1e-5), field)
        ffn = block.at("ffn")
        y = ffn.conv("project_in", _norm_channels(block.at("norm2.body"), x, 1e-5))
        first, second = ffn.conv("dwconv", y).chunk(2, 1)
        x = x + ffn.conv("project_out", F.gelu(first) * second)
    return x


def _mdta(net: _Part, x: Tensor, field: _Field) -> Tensor:
    heads = net["temperature"].shape[0]
    qkv = net.conv("qkv_dwconv", net.conv("qkv", x))
    q, k, v = (t.unflatten(1, (heads, -1)) for t in qkv.chunk(3, 1))
    window = field.window or (x.shape[2], x.shape[3])
    y = local_channel_attention(q, k, v, net["temperature"], window)
    return net.conv("project_out", y.flatten(1, 2))
