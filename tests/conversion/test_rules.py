"""Every default rule keeps the laws, on the module forms that the field uses.

More than 300 lines: tests mirror the modules, one file for each.
"""

import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import glocal
from glocal.conversion.rules import DEFAULT_RULES, Rule
from glocal.ops import fold_windows, unfold_windows
from glocal.testing import check_rule

RULES = {rule.name: rule for rule in DEFAULT_RULES}


class LinearSE(nn.Module):
    """Classic squeeze-and-excitation: pool, view, Linear, view."""

    def __init__(self, channels=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 2, bias=False), nn.ReLU(), nn.Linear(2, channels), nn.Sigmoid()
        )

    def forward(self, x):
        b, c, _, _ = x.shape
        return x * self.fc(self.avg_pool(x).view(b, c)).view(b, c, 1, 1).expand_as(x)


class ChannelLayerNorm(nn.Module):
    """Layer norm over C, H, W with an affine step by channel."""

    def __init__(self, channels=4):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.eps = 1e-3

    def forward(self, x):
        mean = x.mean((1, 2, 3), keepdim=True)
        variance = (x - mean).pow(2).mean((1, 2, 3), keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


class RescaleNorm(ChannelLayerNorm):
    """DehazeFormer's norm, which hands on how to undo it."""

    def __init__(self, channels=4):
        super().__init__(channels)
        self.meta1 = nn.Conv2d(1, channels, 1)
        self.meta2 = nn.Conv2d(1, channels, 1)

    def forward(self, x):
        mean = x.mean((1, 2, 3), keepdim=True)
        std = torch.sqrt((x - mean).pow(2).mean((1, 2, 3), keepdim=True) + self.eps)
        return (x - mean) / std * self.weight + self.bias, self.meta1(std), self.meta2(mean)


class RescaleBlock(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.norm = RescaleNorm(channels)
        self.body = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y, rescale, rebias = self.norm(x)
        return x + self.body(y) * rescale + rebias


class TransposedAttention(nn.Module):
    """Restormer's MDTA under other names, written with other functions."""

    def __init__(self, channels=4, heads=2, names=("t", "a", "b", "c"), bias=True):
        super().__init__()
        self.names = names
        self.register_parameter(names[0], nn.Parameter(torch.ones(heads, 1, 1)))
        self.add_module(names[1], nn.Conv2d(channels, 3 * channels, 1, bias=bias))
        wide = 3 * channels
        self.add_module(names[2], nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=bias))
        self.add_module(names[3], nn.Conv2d(channels, channels, 1, bias=bias))

    def forward(self, x):
        t, a, b, c = (getattr(self, name) for name in self.names)
        heads = t.shape[0]
        q, k, v = b(a(x)).reshape(x.shape[0], 3, heads, -1, x.shape[2] * x.shape[3]).unbind(1)
        q, k = (y / y.norm(dim=-1, keepdim=True).clamp_min(1e-12) for y in (q, k))
        out = torch.einsum(
            "bhij,bhjp->bhip", (torch.einsum("bhip,bhjp->bhij", q, k) * t).softmax(-1), v
        )
        return c(out.reshape(x.shape))


class SpectralAttention(nn.Module):
    """RetinexFormer's attention (b, h, w, c), with or without illumination features."""

    def __init__(self, channels=4, heads=2, per_head=2, illuminated=True):
        super().__init__()
        self.num_heads, self.illuminated = heads, illuminated
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(channels, heads * per_head, bias=False) for _ in range(3)
        )
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.proj = nn.Linear(heads * per_head, channels)
        conv = {"kernel_size": 3, "padding": 1, "groups": channels, "bias": False}
        self.pos_emb = nn.Sequential(
            nn.Conv2d(channels, channels, **conv), nn.GELU(), nn.Conv2d(channels, channels, **conv)
        )

    def forward(self, x, illumination=None):
        b, h, w, c = x.shape
        tokens = x.reshape(b, h * w, c)
        plain = self.to_v(tokens)
        q, k, v = self.to_q(tokens), self.to_k(tokens), plain
        if self.illuminated:
            v = v * illumination.flatten(1, 2)
        q, k, v = (t.reshape(b, h * w, self.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        q, k, v = (t.transpose(-2, -1) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1, p=2), F.normalize(k, dim=-1, p=2)
        out = ((k @ q.transpose(-2, -1)) * self.rescale).softmax(-1) @ v
        out = out.permute(0, 3, 1, 2).reshape(b, h * w, -1)
        out = self.proj(out).view(b, h, w, c)
        return out + self.pos_emb(plain.reshape(b, h, w, c).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SelectiveFusion(nn.Module):
    """MIRNet's SKFF."""

    def __init__(self, channels=4, height=2):
        super().__init__()
        self.height = height
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(nn.Conv2d(channels, 2, 1, bias=False), nn.LeakyReLU(0.2))
        self.fcs = nn.ModuleList(nn.Conv2d(2, channels, 1, bias=False) for _ in range(height))
        self.softmax = nn.Softmax(dim=1)

    def forward(self, branches):
        b, c = branches[0].shape[:2]
        stacked = torch.cat(branches, dim=1).view(b, self.height, c, *branches[0].shape[2:])
        squeezed = self.conv_du(self.avg_pool(stacked.sum(1)))
        weights = torch.cat([fc(squeezed) for fc in self.fcs], dim=1)
        weights = self.softmax(weights.view(b, self.height, c, 1, 1))
        return (stacked * weights).sum(1)


class Fusing(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(2))
        self.fusion = SelectiveFusion()

    def forward(self, x):
        return self.fusion([branch(x) for branch in self.branches])


class ConvGate(nn.Module):
    """CALayer, SCA, and CBAM's channel attention when `maximum`."""

    def __init__(self, channels=4, size=1, maximum=False):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(size)
        self.max_pool = nn.AdaptiveMaxPool2d(size) if maximum else None
        self.du = nn.Sequential(
            nn.Conv2d(channels, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, channels, 1)
        )

    def forward(self, x):
        y = self.du(self.avg_pool(x))
        if self.max_pool is not None:
            y = y + self.du(self.max_pool(x))
        return x * y.sigmoid()


PROVEN = {
    "average pool": [
        (nn.AdaptiveAvgPool2d(1), "windows"),
        (nn.AdaptiveAvgPool2d((1, 1)), "windows"),
    ],
    "max pool": [(nn.AdaptiveMaxPool2d(1), "windows"), (nn.AdaptiveMaxPool2d((1, 1)), "windows")],
    "instance norm": [
        (nn.InstanceNorm2d(4), "windows"),
        (nn.InstanceNorm2d(4, eps=1e-2, affine=True), "windows"),
    ],
    "group norm": [
        (nn.GroupNorm(2, 4), "windows"),
        (nn.GroupNorm(1, 4, affine=False), "windows"),
        (nn.GroupNorm(4, 4), "windows"),
    ],
    "layer norm over C,H,W": [(ChannelLayerNorm(), "windows")],
    "squeeze-and-excitation": [(LinearSE(), "windows")],
    "transposed attention": [
        (TransposedAttention(), "equality"),
        (TransposedAttention(6, 3, ("temperature", "qkv", "dw", "out"), bias=False), "equality"),
    ],
}


@pytest.mark.parametrize(
    ("name", "index"), [(name, i) for name, cases in PROVEN.items() for i in range(len(cases))]
)
def test_rule_keeps_the_laws(name, index):
    module, law = PROVEN[name][index]
    channels = next((p.shape[1] for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1), 4)
    check_rule(RULES[name], module, channels, law=law)


def crops_agree(net, window, size=(20, 24), channels=3):
    """A gate or norm between 1x1 layers: the local net at p is the net on p's window at p."""
    from glocal.testing import check_law_of_windows

    net = net.double()
    x = torch.randn(2, channels, *size, dtype=torch.float64) + torch.linspace(0, 3, size[1])
    local = glocal.localize(net, 8, window=window)
    with torch.no_grad():
        check_law_of_windows(local, net, x, (window, window))
        assert torch.allclose(
            local(x[..., :window, :window]), net(x[..., :window, :window]), atol=1e-12
        )
    return local


@pytest.mark.parametrize(
    ("block", "rules"),
    [
        (ConvGate(3), {"average pool"}),
        (ConvGate(3, size=(1, 1)), {"average pool"}),
        (ConvGate(3, maximum=True), {"average pool", "max pool"}),
        (LinearSE(3), {"squeeze-and-excitation"}),
        (ChannelLayerNorm(3), {"layer norm over C,H,W"}),
        (RescaleBlock(), {"rescale layer norm"}),
        (Fusing(), {"selective fusion"}),
        (nn.GroupNorm(1, 3), {"group norm"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_blocks_are_recognised_and_keep_the_law_of_windows(block, rules):
    torch.manual_seed(0)
    local = crops_agree(nn.Sequential(block), 7)
    assert {row.how for row in glocal.plan_of(local).rows} == rules


@pytest.mark.parametrize("illuminated", [True, False])
def test_spectral_attention_of_windows_is_averaged(illuminated):
    class Enhancing(nn.Module):
        def __init__(self):
            super().__init__()
            self.expand = nn.Conv2d(3, 4, 1)
            self.attention = SpectralAttention(illuminated=illuminated)

        def forward(self, x):
            y = self.expand(x).permute(0, 2, 3, 1)
            return self.attention(y, y.sigmoid()) if illuminated else self.attention(y)

    torch.manual_seed(0)
    net = Enhancing().double()
    nn.init.zeros_(net.attention.pos_emb[2].weight)  # what is left mixes pixels in no other way
    local = glocal.localize(net, 8, window=9)
    assert [row.how for row in glocal.plan_of(local).rows] == [
        "transposed attention, channels last"
    ]
    x = torch.randn(2, 3, 15, 20, dtype=torch.float64) + torch.linspace(0, 2, 20)

    with torch.no_grad():
        windows = net(unfold_windows(x, (9, 9))).permute(0, 3, 1, 2)
        wanted = fold_windows(windows, (15, 20)).permute(0, 2, 3, 1)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-9)


def test_a_lookalike_is_not_converted_wrongly():
    class Lookalike(TransposedAttention):
        """The same parts, but attention takes the square of q."""

        def forward(self, x):
            q, k, v = self.b(self.a(x)).flatten(2).chunk(3, 1)
            return self.c((((q * q) @ k.transpose(1, 2)).softmax(-1) @ v).view_as(x))

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Lookalike()).double()
    local = glocal.localize(net, 32, window=9)
    assert {row.how for row in glocal.plan_of(local).rows} == {"rewrite of 1"}  # and no rule
    x = oracles.ramp_noise(2, 4, 15, 20)
    with torch.no_grad():
        b = net[1].b(net[1].a(x))
        q, k, v = (unfold_windows(t, (9, 9)).flatten(2) for t in b.chunk(3, 1))
        out = (((q * q) @ k.transpose(1, 2)).softmax(-1) @ v).unflatten(-1, (9, 9))
        wanted = net[1].c(fold_windows(out, (15, 20)))
        torch.testing.assert_close(local[1](x), wanted, rtol=1e-9, atol=1e-9)


def test_own_rules_come_first():
    class Halving(nn.AdaptiveAvgPool2d):
        def forward(self, x):
            return super().forward(x) / 2

    class LocalHalving(glocal.conversion.rules.Local, Halving):
        def forward(self, x):
            return glocal.ops.local_mean(x, self.window) / 2

    mine = Rule("halving pool", lambda m: isinstance(m, Halving), LocalHalving.of, yields_map=True)
    check_rule(mine, Halving(1), channels=3)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = Halving(1)

        def forward(self, x):
            return x * self.pool(x)

    local = glocal.localize(Net(), 16, rules=(mine, *DEFAULT_RULES))
    assert type(local.pool) is LocalHalving
    # Without it, the pool is no plain one, and the general rule must not be used.
    general = glocal.localize(Net(), 16)
    assert glocal.plan_of(general).rows[0].how == "rewrite of the network"
    x = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(general(x), local(x))


def test_a_broken_rule_is_caught_by_the_harness():
    broken = Rule(
        "mean over the whole map", lambda m: True, lambda m, window: nn.AdaptiveAvgPool2d(1)
    )
    with pytest.raises(AssertionError, match=r"pixel \(0, 0\) of 9x12, window \(4, 5\): differs"):
        check_rule(broken, nn.AdaptiveAvgPool2d(1), channels=2)


def test_a_module_that_takes_no_small_maps_is_checked_at_its_own_size():
    class Picky(nn.InstanceNorm2d):
        def forward(self, x):
            if min(x.shape[-2:]) < 32:
                raise ValueError("too small")
            return super().forward(x)

    local = glocal.localize(nn.Sequential(nn.Conv2d(3, 4, 1), Picky(4)), 32)
    (row,) = glocal.plan_of(local).rows
    assert row.how == "instance norm"
