"""Exported programs are the local network, by every route, and never the global one.

More than 300 lines: an export takes seconds, so these tests share their fixtures.
"""

import dataclasses
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import randomise
from torch import nn
from versions import needs_onnx, needs_torch_2_7

import glocal
from glocal.exporting.export import export
from glocal.networks.padding import _pad_at_any_size, crop, pad_to_multiple
from glocal.ops.programs import is_exporting

WINDOW = 24  # of networks trained on crops of 16
BELOW, AT, ABOVE = (18, 20), (24, 24), (33, 41)
SIZES = {"below": BELOW, "at": AT, "beyond one axis": (20, 45), "above": ABOVE}


class Attention(nn.Module):
    """Transposed attention as in MDTA."""

    def __init__(self, channels=4, heads=2):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        parts = self.dwconv(self.qkv(x)).chunk(3, 1)
        q, k, v = (t.unflatten(1, (self.temperature.shape[0], -1)).flatten(3) for t in parts)
        q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
        mixed = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1) @ v
        return self.out(mixed.view_as(x))


class Everything(nn.Module):
    """One of each: pools, norms, attention."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.maximum = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.attention = Attention()
        self.tail = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        y = self.head(x)
        y = y * self.average(y) + y * self.maximum(y)
        y = self.norm(y)
        return x + self.tail(y + self.attention(y))


class Small(nn.Module):
    """A pool and a norm, captured in a few seconds."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(3, affine=True)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())

    def forward(self, x):
        y = self.head(x)
        return self.norm(y) + y * self.gate(y)


class Branching(nn.Module):
    """Pads to multiples of 4 with a branch on the size."""

    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x):
        bottom, right = -x.shape[-2] % 4, -x.shape[-1] % 4
        if bottom or right:
            x = nn.functional.pad(x, (0, right, 0, bottom), mode="reflect")
        return self.norm(x)


def image(size, batch=1):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, *size, generator=generator) + torch.linspace(0, 1, size[1])


def check_local(program, original, local, sizes=SIZES):
    """The program gives what the local network gives, and what the global one does not."""
    with torch.no_grad():
        for name, size in sizes.items():
            for batch in (1, 2):
                x = image(size, batch)
                got, wanted, whole = program(x), local(x), original(x)
                assert got.shape == wanted.shape
                scale = wanted.abs().max()
                assert (got - wanted).abs().max() < 1e-5 * scale, name
                differs = float((got - whole).abs().max() / scale)
                assert differs < 1e-5 if name in ("below", "at") else differs > 1e-3, name


@pytest.fixture(scope="module")
def pair():
    original = randomise(Everything().eval())
    return original, glocal.localize(original, 16)


@pytest.fixture(scope="module")
def small():
    original = randomise(Small().eval())
    return original, glocal.localize(original, 16)


@pytest.fixture(scope="module")
def pt2(small, tmp_path_factory):
    return export(small[1], tmp_path_factory.mktemp("pt2") / "net.pt2")


@pytest.fixture(scope="module")
def onnx_file(pair, tmp_path_factory):
    return export(pair[1], tmp_path_factory.mktemp("onnx") / "net.onnx")


# ---- every route


@needs_torch_2_7("strict export records operators of glocal")
def test_torch_export_is_local(small):
    original, local = small
    b, h, w = (torch.export.Dim(name, min=least) for name, least in (("b", 1), ("h", 4), ("w", 4)))
    shapes = ({0: b, 2: h, 3: w},)
    program = torch.export.export(local, (image(ABOVE, 2),), dynamic_shapes=shapes, strict=True)
    assert all("glocal" not in str(node.target) for node in program.graph.nodes)
    check_local(program.module(), original, local)


@pytest.mark.slow
def test_the_pt2_file_is_local(small, pt2):
    check_local(torch.export.load(pt2.path).module(), *small)


@needs_torch_2_7("onnxruntime refuses the file at some sizes")
@pytest.mark.slow
@needs_onnx
def test_the_onnx_file_is_local(pair, onnx_file):
    from glocal.exporting.onnx import run_onnx

    run = run_onnx(onnx_file.path)
    check_local(lambda x: run(x)[0], *pair)


@pytest.mark.slow
@pytest.mark.parametrize("traced_at", SIZES)
def test_jit_trace_is_local_whatever_size_it_is_traced_at(pair, traced_at):
    original, local = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit itself
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # channels are frozen
        traced = torch.jit.trace(local, (image(SIZES[traced_at], 2),))
    check_local(traced, original, local)


class RescaleNorm(nn.Module):
    """DehazeFormer's, which returns the scale and shift that undo it."""

    def __init__(self):
        super().__init__()
        self.eps = 1e-5
        self.weight, self.bias = (nn.Parameter(torch.ones(1, 3, 1, 1)) for _ in range(2))
        self.meta1, self.meta2 = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)

    def forward(self, x):
        mean = x.mean((1, 2, 3), keepdim=True)
        std = ((x - mean).square().mean((1, 2, 3), keepdim=True) + self.eps).sqrt()
        return (x - mean) / std * self.weight + self.bias, self.meta1(std), self.meta2(mean)


class Rescaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = RescaleNorm()

    def forward(self, x):
        normalised, scale, shift = self.norm(x)
        return normalised * scale + shift


class Functional(nn.Module):
    """A statistic that no rule knows and that is rewritten."""

    def __init__(self):
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        y = self.head(x)
        flat = y.flatten(2)
        mean, std = flat.mean(-1)[..., None, None], flat.std(-1)[..., None, None]
        return x + self.tail((y - mean) / (std + 1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("traced_at", ["below", "above"])
@pytest.mark.parametrize("make", [Rescaled, Functional])
def test_other_blocks_are_local_too(make, traced_at, tmp_path):
    original = randomise(nn.Sequential(make(), nn.Conv2d(3, 3, 1)).eval())
    local = glocal.localize(original, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        check_local(torch.jit.trace(local, (image(SIZES[traced_at], 2),)), original, local)
    if traced_at == "above":
        exported = export(local, tmp_path / "net.pt2")
        check_local(torch.export.load(exported.path).module(), original, local)


class Padding(nn.Module):
    """Works at half the size inside, as deblurring networks do."""

    def __init__(self):
        super().__init__()
        self.down, self.norm = nn.Conv2d(3, 4, 2, 2), nn.InstanceNorm2d(4, affine=True)
        self.up = nn.Sequential(nn.Conv2d(4, 12, 1), nn.PixelShuffle(2))

    def forward(self, x):
        image = pad_to_multiple(x, 4)
        return crop(image + self.up(self.norm(self.down(image))), *x.shape[-2:])


@pytest.mark.slow
def test_a_network_that_pads_takes_any_size(tmp_path):
    original = randomise(Padding().eval())
    local = glocal.localize(original, 16)
    exported = export(local, tmp_path / "net.pt2")
    assert (exported.multiple, exported.smallest) == (1, 17)
    check_local(torch.export.load(exported.path).module(), original, local)


@pytest.mark.parametrize("size", [(3, 4), (5, 1), (6, 9), (8, 8), (2, 3)])
def test_padding_at_any_size_is_padding(size):
    x = image(size, 2)
    multiple = 8
    wanted = pad_to_multiple(x, multiple)
    got = _pad_at_any_size(x, *wanted.shape[-2:])
    assert torch.equal(got, wanted)
    assert torch.equal(crop(got, *size), x)


# ---- what is written


def test_a_pt2_holds_plain_operators_and_says_what_it_is(small, pt2):
    program = torch.export.load(pt2.path, extra_files=(said := {"glocal.json": ""}))
    assert pt2.operators == tuple(sorted(set(pt2.operators)))
    assert all(name.startswith("aten.") for name in pt2.operators)
    assert all("glocal" not in str(node.target) for node in program.graph.nodes)
    facts = json.loads(said["glocal.json"])
    assert facts["glocal_train_size"] == "16x16"
    assert facts["glocal_window"] == "24x24"
    assert facts["glocal_summary"] == glocal.plan_of(small[1]).summary()
    assert glocal.Plan.from_json(facts["glocal_plan"]) == glocal.plan_of(small[1])
    assert (pt2.opset, pt2.multiple, pt2.smallest) == (None, 1, 17)
    assert pt2.sizes == ((17, 19), (17, 35), (31, 35))
    assert 0 <= pt2.difference < 1e-5


@needs_onnx
def test_an_onnx_file_holds_standard_operators_and_says_what_it_is(pair, onnx_file):
    import onnx

    model = onnx.load(onnx_file.path)
    onnx.checker.check_model(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    assert onnx_file.operators == tuple(sorted({node.op_type for node in model.graph.node}))
    assert "CumSum" not in onnx_file.operators
    dims = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [["batch", 3, "height", "width"]] * 2
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "image",
        "restored",
    ]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["glocal_train_size"] == "16x16"
    assert glocal.Plan.from_json(facts["glocal_plan"]) == glocal.plan_of(pair[1])
    assert [f.name for f in onnx_file.path.parent.iterdir()] == ["net.onnx"]
    assert onnx_file.opset == 18
    assert onnx_file.difference < 1e-5


@pytest.mark.slow
@needs_onnx
def test_the_example_restores_as_glocal_does(tmp_path):
    original = randomise(Branching().eval())
    local = glocal.localize(original, 16)
    exported = export(local, tmp_path / "net.onnx")
    assert exported.multiple == 4
    x = image((44, 52))[0].permute(1, 2, 0).numpy()
    np.save(tmp_path / "in.npy", x)
    example = Path(__file__).parents[2] / "examples" / "onnxruntime_only.py"
    command = [sys.executable, example, exported.path, tmp_path / "in.npy", tmp_path / "out.npy"]
    subprocess.run(command, check=True)
    wanted = glocal.restore(local, x)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, atol=1e-5)


def test_the_network_stays_as_it_was(tmp_path):
    net = glocal.localize(nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)).train(), 16)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    exported = export(net, tmp_path / "net.pt2")
    assert all(m.training for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert dataclasses.is_dataclass(exported)
    with pytest.raises(dataclasses.FrozenInstanceError):
        exported.opset = 1


def test_a_fixed_size(tmp_path):
    net = glocal.localize(nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)).eval(), 16)
    exported = export(net, tmp_path / "net.pt2", size=(40, 30))
    assert exported.sizes == ((40, 30),)
    x = image((40, 30), 3)
    torch.testing.assert_close(torch.export.load(exported.path).module()(x), net(x))


def pooled():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.mix = nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return x * self.mix(self.pool(x))

    return Pooled().eval()


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_arithmetic_of_a_fixed_size_is_constant(precision, tmp_path):
    net = glocal.localize(pooled(), 16, precision=precision)
    anywhere = export(net, tmp_path / "any.onnx").operators
    fixed = export(net, tmp_path / "fixed.onnx", size=(64, 80)).operators
    arithmetic = {"Cast", "Div", "Expand", "LessOrEqual", "Max", "Min", "Mod", "Where"}
    assert arithmetic & {*anywhere}
    assert not arithmetic & {*fixed}


@pytest.mark.slow
def test_a_branch_on_the_size_limits_the_sizes_taken(tmp_path):
    exported = export(glocal.localize(Branching(), 16), tmp_path / "net.pt2")
    assert (exported.multiple, exported.smallest) == (4, 20)
    assert all(n % 4 == 0 for size in exported.sizes for n in size)


# ---- what is refused


def test_a_global_network_is_refused_unless_allowed(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)).eval()
    with pytest.raises(glocal.ArgumentError, match="the network is not converted"):
        export(net, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
    exported = export(net, tmp_path / "net.pt2", allow_global=True)
    said = {"glocal.json": ""}
    torch.export.load(exported.path, extra_files=said)
    assert json.loads(said["glocal.json"])["glocal_summary"] == "not converted"


def test_operations_left_global_are_refused_unless_allowed(tmp_path):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(3)

        def forward(self, x):
            return self.norm(x) + x.flatten(2).median(-1).values[..., None, None]

    local = glocal.localize(Mixed(), 16, allow_global=True)
    with pytest.raises(glocal.ArgumentError, match="operations of the network were left global"):
        export(local, tmp_path / "net.pt2")


def test_fast_statistics_in_a_pt2_are_refused(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)).eval()
    with pytest.raises(glocal.ArgumentError, match="pt2 files hold exact statistics only"):
        export(glocal.localize(net, 64, precision="fast"), tmp_path / "net.pt2")


def test_a_program_that_differs_is_not_kept(tmp_path):
    class Frozen(nn.Module):
        """Computes something else while it is exported."""

        def forward(self, x):
            return x * (1.0 + is_exporting())

    with pytest.raises(glocal.GlocalError, match="differs from the network by 1 of the largest"):
        export(nn.Sequential(Frozen()), tmp_path / "net.pt2", allow_global=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.pth", {}, "must end in .onnx or .pt2"),
        ("nowhere/net.pt2", {}, "no such folder; create it first"),
        ("net.onnx", {"opset": 9}, "opset=9 is not supported; give 18 or above"),
        ("net.pt2", {"size": 0}, "size must be a positive int"),
    ],
)
def test_bad_arguments(pair, tmp_path, name, options, message):
    with pytest.raises(glocal.ArgumentError, match=message):
        export(pair[1], tmp_path / name, **options)


def test_missing_packages_are_named(pair, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(glocal.GlocalError, match=r'pip install "glocal\[onnx\]"'):
        export(pair[1], tmp_path / "net.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential])
def test_a_wrapped_network_is_exported(wrap, small, tmp_path):
    _, local = small
    exported = glocal.export(wrap(local), tmp_path / "network.pt2", size=(40, 48))
    assert exported.difference < 1e-5
