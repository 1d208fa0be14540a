"""Where statistics come from: by kind of operation, by pattern, and what refuses crops."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import glocal
from glocal.conversion import localize as localize_module
from glocal.conversion.rules.rule import Local
from glocal.conversion.sources import Sources
from glocal.errors import ArgumentError
from glocal.networks import MAXIM
from glocal.networks.restormer import Attention
from glocal.ops.crops import crop_starts


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.weigh(x)


class Centred(nn.Module):
    """A norm by hand: its variance follows from the mean."""

    def forward(self, x):
        centred = x - x.mean((2, 3), keepdim=True)
        return centred / (centred.square().mean((2, 3), keepdim=True) + 0.1).sqrt()


class SpatialAttention(nn.Module):
    def forward(self, x):
        flat = x.flatten(2)
        weights = (flat.mT @ flat).softmax(-1)
        return x + (flat @ weights).view_as(x)


class Strips(nn.Module):
    def forward(self, x):
        return x - x.mean(3, keepdim=True)


def sources(model, statistics, size=16, **options):
    plan = glocal.scan(model, size, statistics=statistics, **options)
    return {row.path: row.source for row in plan.rows}


def mixed():
    """A pool, a norm, transposed attention, and a norm by hand."""
    torch.manual_seed(0)
    layers = {
        "embed": nn.Conv2d(3, 4, 3, padding=1),
        "gate": Gate(),
        "norm": nn.InstanceNorm2d(4),
        "attn": Attention(4, 2, bias=True),
        "inner": Centred(),
    }
    return nn.Sequential(OrderedDict(layers)).eval()


@pytest.mark.parametrize(
    ("statistics", "on_crops"),
    [
        ("windows", ""),
        ("crops", "gate norm attn inner"),
        ("auto", "norm attn inner"),
        ({"pools": "crops"}, "gate"),
        ({"norms": "crops", "inn*": "windows"}, "norm"),
        ({"gate*": "crops", "attention": "crops"}, "gate attn"),
    ],
)
def test_sources_by_kind_and_pattern(statistics, on_crops):
    found = sources(mixed(), statistics)
    names = {path.split(".")[0] for path, source in found.items() if source == "crops"}
    assert names == set(on_crops.split())
    assert {path.split(".")[0] for path in found} == {"gate", "norm", "attn", "inner"}


def test_a_mixed_network_equals_the_original_on_one_crop():
    model = mixed()
    local = glocal.localize(model, 16, statistics="auto")
    x = torch.rand(2, 3, 16, 13)
    torch.testing.assert_close(local(x), model(x), atol=1e-5, rtol=1e-5)


def test_modules_on_windows_have_them_and_modules_on_crops_have_none():
    plan = glocal.scan(mixed(), 16, statistics="auto", window=32)
    text = str(plan)
    assert "crops at most 16x16 apart" in text
    assert [row.window for row in plan.rows if row.source == "windows"] == [(32, 32)]
    assert text.count("  crops  ") == len([r for r in plan.rows if r.source == "crops"])


class HandWrittenAttention(nn.Module):
    """Transposed attention in a form that no rule knows."""

    def forward(self, x):
        flat = x.flatten(2)
        mixing = (flat @ flat.mT / flat.shape[-1]).softmax(-1)
        return (mixing @ flat).view_as(x)

    def recorded(self, x):
        return (x.flatten(2) @ x.flatten(2).mT / x[0, 0].numel()).softmax(-1)

    def meet(self, x, attention):
        return torch.einsum("bdchw,bchw->bdhw", attention, x)


class VectorThroughModules(nn.Module):
    """A pooled vector passes through linear layers to another module, as in FBCNN."""

    class Modulation(nn.Module):
        def forward(self, x, vector):
            scale, shift = vector[..., None, None].chunk(2, 1)
            return x * scale + shift

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3, 6), nn.ReLU())
        self.modulation = self.Modulation()

    def forward(self, x):
        return self.modulation(x, self.layers(F.adaptive_avg_pool2d(x, 1)))

    def recorded(self, x):
        return self.layers(x.mean((2, 3)))

    def meet(self, x, vector):  # (b, 6, h, w)
        scale, shift = vector.chunk(2, 1)
        return x * scale + shift


class Rank(nn.Module):
    """A statistic that is selected by rank."""

    def forward(self, x):
        return x - self.recorded(x)[..., None, None]

    def recorded(self, x):
        return x.flatten(2).median(-1).values

    def meet(self, x, median):
        return x - median


class LeftHalf(nn.Module):
    """A statistic of a part of the map."""

    def forward(self, x):
        return x * self.recorded(x)[..., None, None]

    def recorded(self, x):
        return x[..., : x.shape[-1] // 2].mean((2, 3))

    def meet(self, x, mean):
        return x * mean


class PredictedFilter(nn.Module):
    """Kernels that are mixed by pooled weights, one for each image."""

    def __init__(self):
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(2, 3, 3, 3, 3))
        self.router = nn.Linear(3, 2)

    def recorded(self, x):
        weights = self.router(x.mean((2, 3))).softmax(-1)
        return torch.einsum("bk,koihw->boihw", weights, self.kernels)

    def forward(self, x):
        b, c, h, w = x.shape
        filters = self.recorded(x).reshape(-1, c, 3, 3)
        return F.conv2d(x.reshape(1, -1, h, w), filters, padding=1, groups=b).view(b, c, h, w)

    def meet(self, x, filters):  # (b, o, i, 3, 3, h, w)
        taps = F.unfold(x, 3, padding=1).view(x.shape[0], x.shape[1], 3, 3, *x.shape[2:])
        return torch.einsum("boiklhw,biklhw->bohw", filters, taps)


def interpolated(block, x, crop, stride):
    """The law of crops, slowly: what each crop records, interpolated for each pixel."""
    weights, starts = [], []
    for size in x.shape[2:]:
        at = crop_starts(size, crop, stride)
        centres = torch.tensor(at, dtype=x.dtype) + (crop - 1) / 2
        rows = torch.zeros(size, len(at), dtype=x.dtype)
        for p in range(size):
            right = int((centres < p).sum())
            if right in (0, len(at)):
                rows[p, min(right, len(at) - 1)] = 1
                continue
            share = (p - centres[right - 1]) / (centres[right] - centres[right - 1])
            rows[p, right - 1], rows[p, right] = 1 - share, share
        weights.append(rows)
        starts.append(at)
    grid = torch.stack(
        [
            torch.stack([block.recorded(x[..., t : t + crop, s : s + crop]) for s in starts[1]])
            for t in starts[0]
        ]
    )
    maps = torch.einsum("hy,wx,yx...->...hw", *weights, grid)
    return block.meet(x, maps)


@pytest.mark.parametrize(
    "block", [HandWrittenAttention, VectorThroughModules, Rank, LeftHalf, PredictedFilter]
)
@pytest.mark.parametrize("grad", [False, True])
def test_any_statistic_is_recorded_where_it_meets_the_map(block, grad):
    torch.manual_seed(0)
    network = block().double()
    local = glocal.localize(network, 16, statistics="crops")
    assert {row.source for row in glocal.plan_of(local).rows} == {"crops"}
    x = torch.randn(2, 3, 41, 23, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        got = local(x)
    wanted = interpolated(network, x, 16, 16)
    torch.testing.assert_close(got.detach(), wanted.detach(), atol=1e-9, rtol=1e-9)


class PathOfLargeImages(nn.Module):
    def forward(self, x):
        if x.shape[-1] > 300:
            return x * x.amax((2, 3), keepdim=True)
        return x * x.mean((2, 3), keepdim=True)


class PadsAndCuts(nn.Module):
    def forward(self, x):
        h, w = x.shape[2:]
        padded = F.pad(x, (0, -w % 4, 0, -h % 4))
        return (padded * padded.mean((2, 3), keepdim=True))[..., :h, :w]


class Bins(nn.Module):
    """Bins of the map, resized to it: each has a place in the crop."""

    def forward(self, x):
        bins = F.adaptive_avg_pool2d(x, 2)
        return x + F.interpolate(bins, size=x.shape[2:], mode="bilinear")


@pytest.mark.parametrize("block", [PathOfLargeImages, PadsAndCuts, Bins])
def test_what_crops_cannot_give_stays_on_windows(block):
    local = glocal.localize(nn.Sequential(block()), 16, statistics="crops", allow_global=True)
    assert not glocal.plan_of(local).takes_crops
    assert local(torch.rand(1, 3, 33, 41)).shape == (1, 3, 33, 41)


def test_a_path_that_the_scan_has_not_seen_is_refused_where_it_is_taken():
    class Path(nn.Module):
        def forward(self, x):
            if x.shape[-1] > 3000:
                return x * x.amax((2, 3), keepdim=True)
            return x * x.mean((2, 3), keepdim=True)

    network = nn.Sequential(Path())
    local = glocal.localize(network, 16, statistics="crops")
    assert glocal.plan_of(local).takes_crops
    assert local(torch.rand(1, 3, 30, 70)).shape == (1, 3, 30, 70)


@pytest.mark.parametrize("block", [SpatialAttention, Strips])
def test_operations_that_mix_pixels_stay_on_windows_and_say_so(block):
    plan = glocal.scan(nn.Sequential(block()), 16, statistics="crops", window=32)
    assert {row.source for row in plan.rows} == {"windows"}
    assert all("not from crops: it mixes" in row.how for row in plan.rows)
    local = glocal.localize(nn.Sequential(block()), 16, statistics="crops", window=32)
    alike = glocal.localize(nn.Sequential(block()), 16, window=16)
    x = torch.rand(1, 3, 25, 40)
    assert torch.equal(local(x), alike(x))


class Centre(nn.Module):
    def forward(self, x):
        return x - x.mean((2, 3), keepdim=True)


class LocalCentre(Local):
    def forward(self, x):
        return x - glocal.ops.local_mean(x, self.window)


class IdleCentre(Local):
    def forward(self, x):
        return x - glocal.ops.local_mean(x, (16, 16))


@pytest.mark.parametrize(("local", "source"), [(LocalCentre, "crops"), (IdleCentre, "windows")])
def test_rules_of_users_take_crops_by_their_window(local, source):
    rule = glocal.Rule("centre", lambda m: isinstance(m, Centre), local.of)
    plan = glocal.scan(nn.Sequential(Centre()), 16, statistics="crops", rules=(rule,))
    (row,) = plan.rows
    assert row.source == source
    assert ("computes no statistic that crops could give" in row.how) == (source == "windows")


@pytest.mark.slow
def test_grids_stay_on_windows_of_the_training_size():
    torch.manual_seed(0)
    network = MAXIM(features=4, num_stages=1, depth=1, num_groups=1).eval()
    plan = glocal.scan(network, 64, statistics="crops", verify=False)
    by_source = {s: {r.operation for r in plan.rows if r.source == s} for s in ("windows", "crops")}
    assert by_source["crops"]
    assert by_source["windows"]


def test_the_plan_keeps_sources_in_json():
    plan = glocal.scan(mixed(), 16, statistics="auto", stride=2.0)
    assert glocal.Plan.from_json(plan.to_json()) == plan
    assert plan.stride == 2.0
    assert plan.takes_crops


@pytest.mark.parametrize(
    ("statistics", "text"),
    [
        ("crop", 'must come from "windows" or "crops", got \'crop\''),
        ({"norms": "auto"}, 'must come from "windows" or "crops", got \'auto\''),
        ({"nothing.*": "crops"}, "no global operation in 'nothing.*'"),
        (3, "statistics must be"),
    ],
)
def test_wrong_sources_are_refused(statistics, text):
    with pytest.raises(ArgumentError, match=text.replace("*", r"\*")):
        glocal.localize(mixed(), 16, statistics=statistics)


@pytest.mark.parametrize("stride", [0, -1.0, float("nan"), float("inf")])
def test_a_stride_is_above_zero(stride):
    with pytest.raises(ArgumentError, match="stride must be above 0"):
        glocal.localize(mixed(), 16, statistics="crops", stride=stride)


def test_the_first_pattern_decides_before_kinds():
    chosen = Sources.of({"norms": "windows", "a.*": "crops", "a.b": "windows"})
    assert chosen.by_pattern == (("a.*", "crops"), ("a.b", "windows"))
    assert chosen.by_kind == (("norms", "windows"),)


def test_a_block_that_fails_the_proof_of_crops_runs_on_windows(monkeypatch):
    network = nn.Sequential(Centred(), nn.InstanceNorm2d(3))
    monkeypatch.setattr(localize_module, "refuted", lambda _, paths: {"0": "for a test"})
    local = glocal.localize(network, 16, statistics="crops")
    rows = glocal.plan_of(local).rows
    assert {row.path: row.source for row in rows} == {"0": "windows", "1": "crops"}
    assert "not from crops: for a test" in rows[0].how
    x = torch.rand(1, 3, 25, 40)
    alike = glocal.localize(network[:1], 16, window=16)
    torch.testing.assert_close(local[0](x), alike[0](x))
