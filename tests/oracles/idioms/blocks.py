"""Blocks that combine statistics and maps in other ways than one gate."""

import torch
import torch.nn.functional as F
from torch import nn

from oracles.idioms.idiom import Idiom, halved, statistic
from oracles.idioms.pools import ConvGate, LinearGate


class SelectiveFusion(nn.Module):
    """MIRNet's SKFF as one function: a softmax over two branches."""

    def __init__(self, channels=8):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.squeeze = nn.Conv2d(channels, 4, 1, bias=False)
        self.fcs = nn.ModuleList(nn.Conv2d(4, channels, 1, bias=False) for _ in range(2))

    def forward(self, x):
        b, c, h, w = x.shape
        feats = torch.cat([branch(x) for branch in self.branches], dim=1).view(b, 2, c, h, w)
        z = F.leaky_relu(self.squeeze(F.adaptive_avg_pool2d(torch.sum(feats, dim=1), 1)), 0.2)
        attention = torch.cat([fc(z) for fc in self.fcs], dim=1).view(b, 2, c, 1, 1)
        return torch.sum(feats * F.softmax(attention, dim=1), dim=1)


class SelectiveLinear(nn.Module):
    """SKNet's form: vectors, stacked weights."""

    def __init__(self, channels=8):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 1)
        self.b = nn.Conv2d(channels, channels, 1)
        self.fc = nn.Linear(channels, 4)
        self.fcs = nn.ModuleList(nn.Linear(4, channels) for _ in range(2))

    def forward(self, x):
        feats = torch.stack([self.a(x), self.b(x)], dim=1)
        z = self.fc(feats.sum(1).mean(-1).mean(-1))
        weights = torch.cat([fc(z).unsqueeze_(dim=1) for fc in self.fcs], dim=1).softmax(1)
        return (feats * weights.unsqueeze(-1).unsqueeze(-1)).sum(dim=1)


class ConcatBroadcast(nn.Module):
    """Concatenates the statistic to the channels of the map."""

    def __init__(self, how, channels=8):
        super().__init__()
        self.how = how
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        y = x.mean((2, 3), keepdim=True)
        if self.how == "expand":
            y = y.expand(-1, -1, h, w)
        elif self.how == "expand_as":
            y = y.expand_as(x)
        elif self.how == "repeat":
            y = y.repeat(1, 1, h, w)
        elif self.how == "nearest":
            y = F.interpolate(y, size=(h, w), mode="nearest")
        else:
            y = F.interpolate(y, x.size()[2:], mode="bilinear", align_corners=self.how == "corners")
        return F.gelu(self.fuse(torch.cat([x, y], dim=1)))


class ConcatConv(nn.Module):
    """The same with a 3x3 convolution, which also sees zero padding, after it."""

    def __init__(self, channels=8):
        super().__init__()
        self.fuse = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x):
        y = torch.mean(x, dim=[2, 3], keepdim=True).expand_as(x)
        return F.relu(self.fuse(torch.cat((x, y), 1)))


def concat_conv(block, x, window):
    y = statistic(lambda p: p.mean((2, 3)), x, window)
    return F.relu(block.fuse(torch.cat([x, y], 1)))


class ImagePooling(nn.Module):
    """ASPP: 1x1 and dilated branches and the pooled image, upsampled again."""

    def __init__(self, channels=8):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.atrous = nn.Conv2d(channels, channels, 3, padding=2, dilation=2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.project = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x):
        size = x.shape[-2:]
        y = F.relu(self.pool(x))
        y = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
        return self.project(torch.cat([self.conv1(x), F.relu(self.atrous(x)), y], dim=1))


def image_pooling(block, x, window):
    pooled = statistic(lambda p: p.mean((2, 3)), x, window)
    y = block.pool[1](pooled).relu()
    return block.project(torch.cat([block.conv1(x), block.atrous(x).relu(), y], 1))


class GCBlock(nn.Module):
    """GCNet's global context: softmax over all pixels, a bottleneck with LayerNorm([c, 1, 1])."""

    def __init__(self, channels=8, planes=4):
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(channels, planes, 1),
            nn.LayerNorm([planes, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(planes, channels, 1),
        )

    def forward(self, x):
        batch, channel, height, width = x.size()
        inputs = x.view(batch, channel, height * width).unsqueeze(1)
        mask = self.conv_mask(x).view(batch, 1, height * width)
        mask = F.softmax(mask, dim=2).unsqueeze(-1)
        context = torch.matmul(inputs, mask).view(batch, channel, 1, 1)
        return x + self.channel_add_conv(context)


class SoftmaxPoolSum(LinearGate):
    """The same by a product and a sum."""

    def __init__(self, channels=8):
        super().__init__(channels)
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        flat = x.flatten(2)
        weight = torch.softmax(self.score(x).flatten(2), dim=-1)
        return x * self.fc((flat * weight).sum(-1))[:, :, None, None]


class FiLM(nn.Module):
    """The pooled vector becomes a scale and a shift."""

    def __init__(self, channels=8):
        super().__init__()
        self.to_film = nn.Sequential(nn.SiLU(), nn.Linear(channels, 2 * channels))

    def forward(self, x):
        scale, shift = self.to_film(x.mean(dim=(2, 3)))[..., None, None].chunk(2, dim=1)
        return F.gelu(x * (scale + 1) + shift)


class SEResBlock(ConvGate):
    def __init__(self, channels=8):
        super().__init__(channels)
        self.body1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.body2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        res = self.body2(F.relu(self.body1(x), inplace=True))
        res = res * self.excite(F.adaptive_avg_pool2d(res, (1, 1)))
        res += x
        return res


def se_res_block(block, x, window):
    res = block.body2(block.body1(x).relu())
    gate = statistic(lambda p: block.excite(p.mean((2, 3), keepdim=True)).flatten(1), res, window)
    return x + res * gate


class GateOfAnotherMap(LinearGate):
    """The statistic of one map gates another."""

    def __init__(self, channels=8):
        super().__init__(channels)
        self.body = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        gate = self.fc(x.mean((2, 3)))
        return x + self.body(x) * gate[:, :, None, None]


def gate_of_another_map(block, x, window):
    gate = statistic(lambda p: block.fc(p.mean((2, 3))), x, window)
    return x + block.body(x) * gate


class HalfScale(nn.Module):
    """Computes a gate at half the size and upsamples it to the size of the map."""

    def __init__(self, how, channels=8):
        super().__init__()
        self.how = how
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.fc = nn.Linear(channels, channels)
        self.up = nn.Conv2d(channels, 4 * channels, 1)

    def forward(self, x):
        y = self.down(x)
        gate = self.fc(y.mean((2, 3)))[:, :, None, None]
        if self.how == "shuffle":
            y = F.pixel_shuffle(self.up(y * gate), 2)
        elif self.how == "nearest":
            y = F.interpolate(y * gate, scale_factor=2, mode="nearest")
        else:  # the statistic itself is upsampled to the size of x
            y = F.interpolate(gate, size=x.shape[2:], mode="nearest")
        return x * torch.sigmoid(y)


def half_scale(block, x, window):
    y = block.down(x)
    gate = statistic(lambda p: block.fc(p.mean((2, 3))), y, halved(window))
    y = gate if block.how == "size" else y * gate
    if block.how == "shuffle":
        y = block.up(y)
        b, c, h, w = y.shape
        y = y.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)
    else:
        y = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return x * torch.sigmoid(y)


BLOCKS = (
    *(
        Idiom(f"concat_{how}", lambda how=how: ConcatBroadcast(how), "windows")
        for how in ("expand", "expand_as", "repeat", "nearest", "bilinear", "corners")
    ),
    Idiom("concat_conv3x3", ConcatConv, "windows", concat_conv),
    Idiom("image_pooling", ImagePooling, "windows", image_pooling),
    Idiom("selective_fusion", SelectiveFusion, "windows"),
    Idiom("selective_fusion_linear", SelectiveLinear, "windows"),
    Idiom("global_context", GCBlock, "windows"),
    Idiom("softmax_pool_sum", SoftmaxPoolSum, "windows"),
    Idiom("film", FiLM, "windows"),
    Idiom("gate_of_another_map", GateOfAnotherMap, "windows", gate_of_another_map),
    Idiom("se_residual_block", SEResBlock, "windows", se_res_block),
    *(
        Idiom(f"half_scale_{how}", lambda how=how: HalfScale(how), None, half_scale, multiple=2)
        for how in ("nearest", "shuffle", "size")
    ),
)
