"""Rewritten blocks as modules of a network.

More than 300 lines: tests mirror the modules, one file for each.
"""

import copy
import pickle

import oracles
import oracles.idioms
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from versions import torch_2_6

import glocal
from glocal import ops
from glocal.conversion import blocks, verify
from glocal.conversion.rewrite import Rewritten
from glocal.exporting.export import export

WINDOW = (9, 8)


class Gate(nn.Module):
    """Squeeze-and-excitation as functions."""

    def __init__(self, channels=4, power=1.0):
        super().__init__()
        self.power = power
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        return x * self.fc(x.mean((2, 3))).sigmoid()[..., None, None] ** self.power


class Attention(nn.Module):
    """Scaled dot product of all pixels, with the learnt scale of a cosine."""

    def __init__(self, channels=4):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        t = x.flatten(2).transpose(1, 2)
        out = (self.scale * t @ t.transpose(1, 2)).softmax(-1) @ t
        return x + self.project(out.transpose(1, 2).reshape(x.shape))


class Tokens(nn.Module):
    """Transposed attention over tokens (b, h · w, c), which needs the size to tell rows."""

    def __init__(self, channels=4):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, tokens, height, width=None):
        q, k, v = self.qkv(tokens).transpose(1, 2).chunk(3, 1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return ((q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(1, 2)


class TokenNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Tokens()

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = self.block(x.flatten(2).transpose(1, 2), h, width=w)
        return tokens.transpose(1, 2).view(b, c, h, w)


def image(*size, batch=2, channels=4):
    return oracles.ramp_noise(batch, channels, *size)


def double(module):
    return oracles.randomise(module, 1).double().eval()


def local_of(module, window=WINDOW, **options):
    example = torch.zeros(1, 4, 12, 12, dtype=torch.float64)
    return glocal.localize(module, 12, window=window, example=example, **options)


@pytest.fixture
def captures(monkeypatch):
    made = []

    def counting(module, runs, **options):
        made.append(type(module))
        return capture(module, runs, **options)

    capture = blocks.capture
    monkeypatch.setattr(blocks, "capture", counting)
    return made


def test_blocks_of_one_class_and_configuration_share_one_capture(captures):
    net = double(nn.Sequential(*(Gate() for _ in range(12)), *(Gate(power=2.0) for _ in range(3))))
    local = local_of(net)
    assert captures == [Gate, Gate]
    assert all(isinstance(block, Rewritten) for block in local)
    x = image(20, 17)
    with torch.no_grad():
        wanted = x
        for block in net:
            pooled = block.fc(oracles.local_mean(wanted, WINDOW).movedim(1, -1)).movedim(-1, 1)
            wanted = wanted * pooled.sigmoid() ** block.power
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


def test_copies_pickles_dtypes_memory_formats_and_hooks():
    net = double(nn.Sequential(nn.Conv2d(4, 4, 3), Gate(), Attention()))
    heard = []
    net[1].register_forward_hook(lambda module, *_: heard.append(type(module).__name__))
    local = local_of(net)
    x = image(19, 23)
    with torch.no_grad():
        wanted = local(x)
        for other in (copy.deepcopy(local), pickle.loads(pickle.dumps(local[2:]))):
            got = other(x) if len(other) == 3 else other(local[:2](x))
            assert torch.equal(got, wanted)
        torch.testing.assert_close(
            copy.deepcopy(local).float()(x.float()), wanted.float(), rtol=1e-4, atol=1e-5
        )
        wide = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(local(wide), wanted, rtol=1e-9, atol=1e-12)
        half = copy.deepcopy(local).bfloat16()(x.bfloat16())
        assert half.dtype is torch.bfloat16
        assert half.isfinite().all()
    assert set(heard) == {"Rewritten"}
    assert list(local.state_dict()) == list(net.state_dict())
    ours, theirs = (dict(m.named_parameters()) for m in (local, net))
    assert all(ours[name] is theirs[name] for name in theirs)


def test_flattened_pixels_are_unflattened():
    net = double(TokenNet())
    local = local_of(net)
    assert isinstance(local.block, Rewritten)
    for size in ((14, 17), (9, 20), (7, 5)):
        x = image(*size)
        with torch.no_grad():
            tiles = ops.unfold_windows(x, WINDOW)
            wanted = ops.fold_windows(net(tiles), size)
            torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


def test_if_a_block_returns_its_statistic_the_block_around_it_is_rewritten():
    class Pool(nn.Module):
        def forward(self, x):
            return x.amax((2, 3))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = Pool()

        def forward(self, x):
            return x * self.pool(x)[..., None, None]

    local = local_of(Net())
    (row,) = glocal.plan_of(local).rows
    assert (row.path, row.how, row.window) == ("pool", "rewrite of the network", WINDOW)
    x = image(14, 17)
    torch.testing.assert_close(local(x), x * oracles.local_max(x, WINDOW))


def test_a_block_may_write_to_its_argument():
    class InPlace(nn.Module):
        def forward(self, x):
            x *= x.mean((2, 3), keepdim=True)
            return x + 1

    local = local_of(InPlace())
    x = image(14, 17)
    wanted = x * oracles.local_mean(x, WINDOW)
    torch.testing.assert_close(local(x), wanted + 1)
    torch.testing.assert_close(x, wanted)


class CountedRows(nn.Module):
    def forward(self, x):
        rows = sum(1 for _ in range(x.shape[2]))
        return x * x.sum((2, 3), keepdim=True) / rows


class Sorting(nn.Module):
    def forward(self, x):
        return x.gather(1, x.mean((2, 3), keepdim=True).argsort(1).expand_as(x))


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (CountedRows, r"turns the image size into a constant \(test_rewritten.py:188\)"),
        (Sorting, "selects by the rank of the global mean"),
    ],
)
def test_reasons_of_blocks_that_cannot_be_rewritten(block, reason):
    with pytest.raises(glocal.ConversionError, match=reason):
        local_of(block())
    left = local_of(block(), allow_global=True)
    x = image(14, 18)
    assert torch.equal(left(x), block()(x))


def test_a_block_that_contains_a_module_of_keep_global_is_not_rewritten():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(4)

        def forward(self, x):
            return self.norm(x) * x.std((2, 3), keepdim=True)

    with pytest.raises(
        glocal.ConversionError, match="'' contains an operation named in keep_global"
    ):
        local_of(Two(), keep_global="norm")


def test_the_law_of_windows_finds_a_wrong_local_form():
    inputs = [
        ((glocal.scanning.trace.Spec((1, 4, *s), torch.float64),), {})
        for s in ((12, 12), (76, 12), (12, 76))
    ]

    class Shifted(Gate):
        def forward(self, x):
            pooled = ops.local_mean(x.roll(1, 3), (4, 5))
            return x * self.fc(pooled.movedim(1, -1)).movedim(-1, 1).sigmoid()

    def build(module, window):
        new = Shifted()
        new.fc = module.fc
        return new

    found = verify.disagreement_on_windows(build, Gate(), inputs, (12, 12))
    assert found == (
        "its local form computes other values where the window is smaller than the map"
    )
    assert verify.disagreement_on_windows(local_gate, Gate(), inputs, (12, 12)) is None


def local_gate(module, window):
    return local_of(module, window)


SIZES = [(16, 20), (12, 8), (4, 20), (8, 8)]  # larger than the window, and smaller on some axis


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("block", [Gate, Attention])
@pytest.mark.parametrize("route", ["export", "trace", "compile"])
def test_exported_traced_and_compiled_blocks_stay_local(block, route):
    if torch_2_6 and route != "trace":
        pytest.skip("torch 2.6 refuses it")
    net = double(block())
    local = local_of(net)
    x = image(*SIZES[0])
    with torch.no_grad():
        if route == "export":
            dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
            taken = torch.export.export(
                local, (x,), dynamic_shapes=((dynamic,),), strict=False
            ).module()
        elif route == "trace":
            taken = torch.jit.trace(local, (x,), check_trace=False)
        else:
            taken = torch.compile(local, fullgraph=True, dynamic=True, backend="aot_eager")
        for size in SIZES:
            x = image(*size)
            torch.testing.assert_close(taken(x), local(x), rtol=1e-9, atol=1e-12)
            if size == SIZES[0]:
                assert not torch.allclose(taken(x), net(x), rtol=1e-4)


ONNX = "se_view_linear norm_by_squares global_context concat_bilinear linear_attention grid_gmlp"


@pytest.mark.slow
@pytest.mark.parametrize("name", ONNX.split())
def test_onnx_files_of_rewritten_blocks(name, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    idiom = next(idiom for idiom in oracles.idioms.IDIOMS if idiom.name == name)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), idiom.make(), nn.Conv2d(8, 3, 1))
    local = glocal.localize(oracles.randomise(net, 0).eval(), 16, window=(18, 16))
    exported = export(local, tmp_path / "net.onnx")
    assert exported.difference < 1e-5
    assert "CumSum" not in exported.operators


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_jit_trace_refuses_to_make_a_number_constant():
    class Scaled(nn.Module):
        def forward(self, x):
            return x * x.sum((2, 3), keepdim=True) * (x.shape[2] * x.shape[3]) ** -0.5

    local = local_of(Scaled())
    with pytest.raises(glocal.ConversionError, match=r"use torch\.export"):
        torch.jit.trace(local, (image(16, 20),))


def test_gradients_flow():
    local = local_of(double(nn.Sequential(Gate(), Attention())))
    x = image(11, 10, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: local(x)[..., ::3, ::3], (x,), fast_mode=True)
    local(x).sum().backward()
    assert all(p.grad is not None for p in local.parameters())


def test_a_program_can_be_read():
    text = str(local_of(double(Gate())).program)
    assert "window_statistic(tensors_0, 'mean', (9, 8), [], precision = precision)" in text
    assert text.splitlines()[-1].strip().startswith("return (")
