"""What the proof at the end of `localize` finds: other values, crashes, far pixels."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from versions import needs_torch_2_7

import glocal
from glocal.conversion.proof_runs import Network, near_multiples
from glocal.scanning.sandbox import isolated_copy


class Net(nn.Module):
    """A convolution before and after an inner function of the map."""

    def __init__(self, inner=lambda x: x):
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.inner = inner

    def forward(self, x):
        return self.tail(self.inner(self.head(x)))


class Gate(nn.Module):
    """A gate by a global mean."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


def by_numpy(x):
    return x * torch.from_numpy(x.detach().numpy().mean((2, 3), keepdims=True))


def by_item(x):
    return x * float(x.mean())


def by_growing_pool(x):
    k = (x.shape[2] - 1) | 1, (x.shape[3] - 1) | 1
    return x - F.avg_pool2d(x, k, 1, (k[0] // 2, k[1] // 2))


def by_left_half(x):
    return x * x[..., : x.shape[-1] // 2].mean((2, 3), keepdim=True)


def by_mirror(x):
    grid = torch.stack(
        torch.meshgrid(
            torch.linspace(-1, 1, x.shape[3]), torch.linspace(-1, 1, x.shape[2]), indexing="xy"
        ),
        -1,
    )
    return F.grid_sample(x, -grid[None].expand(len(x), -1, -1, -1), align_corners=True)


@pytest.mark.parametrize("inner", [by_numpy, by_item, by_growing_pool, by_left_half, by_mirror])
def test_far_pixels_that_the_scan_does_not_see_are_refused(inner):
    with pytest.raises((glocal.ConversionError, glocal.ScanError)):
        glocal.localize(Net(inner).eval(), 32)


def test_the_axis_does_not_matter():
    def rows(x):
        return x * torch.from_numpy(x.detach().numpy().mean(2, keepdims=True))

    with pytest.raises((glocal.ConversionError, glocal.ScanError)):
        glocal.localize(Net(rows).eval(), 32)


def test_what_is_far_is_listed_if_global_operations_are_allowed():
    class Part(nn.Module):
        def forward(self, x):
            return by_numpy(x)

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Part(), Gate(), nn.Conv2d(4, 3, 1)).eval()
    with pytest.raises(glocal.ConversionError, match=r"numpy in '1' \(test_proof.py:\d+\)"):
        glocal.localize(net, 32)
    plan = glocal.plan_of(glocal.localize(net, 32, allow_global=True))
    assert [(row.path, row.status) for row in plan.rows] == [("2", "local"), ("1", "global")]


def test_the_module_that_computes_the_statistic_is_named():
    class Pool(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.detach().numpy().max((2, 3), keepdims=True))

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = Pool()

        def forward(self, x):
            return x / (1 + self.pool(x))

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Part(), Part()).eval()
    plan = glocal.scan(net, 32)
    assert [(row.path, row.status) for row in plan.rows] == [
        ("1.pool", "global"),
        ("2.pool", "global"),
    ]


def test_a_hook_that_computes_a_statistic_is_refused():
    net = Net().eval()
    net.head.register_forward_hook(lambda module, args, out: out - out.mean((2, 3), keepdim=True))
    with pytest.raises(glocal.ConversionError, match="hook"):
        glocal.localize(net, 32)


def test_modules_in_a_plain_dict_become_local():
    class Held(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = Gate()
            self.parts = {"head": nn.Conv2d(3, 4, 1), "gate": self.gate}

        def forward(self, x):
            return self.parts["gate"](self.parts["head"](x))

    net = Held().eval()
    local, x = glocal.localize(net, 32), torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        assert not torch.allclose(local(x), net(x))
        torch.testing.assert_close(local(x[..., :40, :40]), net(x[..., :40, :40]))


def wrong_gate(module, window):
    """A local form of `Gate` that adds a constant."""
    made = copy.copy(module)
    made.forward = lambda x: Gate.forward(module, x) + 0.05
    return made


def crashing_gate(module, window):
    """A local form of `Gate` that runs up to its window only."""

    class Crashing(Gate):
        def forward(self, x):
            if x.shape[2] > window[0] and not torch.jit.is_tracing():
                raise RuntimeError("The size of tensor a (5) must match the size of tensor b")
            return super().forward(x)

    made = Crashing()
    made.load_state_dict(module.state_dict())
    return made


def still_global(module, window):
    """A local form of `Gate` that is the global one."""
    return copy.copy(module)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (wrong_gate, "Gate .* computes other values"),
        (crashing_gate, "Crashing|Gate .* runs in the original network"),
        (still_global, "Gate .* depends on pixels at every distance"),
    ],
)
def test_a_wrong_local_form_is_refused_or_put_back(build, words, monkeypatch):
    monkeypatch.setattr("glocal.conversion.converter.disagreement", lambda *_: None)
    rule = glocal.Rule("wrong", lambda module: type(module) is Gate, build)
    net = nn.Sequential(nn.InstanceNorm2d(3), nn.Conv2d(3, 4, 1), Gate()).eval()
    options = {"rules": (rule, *glocal.DEFAULT_RULES)}
    with pytest.raises(glocal.ConversionError, match=words) as caught:
        glocal.localize(net, 32, **options)
    assert "'2'" in str(caught.value)
    assert "tensor a" not in str(caught.value)  # the words of torch say nothing to users
    local = glocal.localize(net, 32, allow_global=True, **options)
    plan = glocal.plan_of(local)
    assert [(row.path, row.status) for row in plan.rows] == [("0", "local"), ("2", "global")]
    assert type(local[2]) is Gate
    unverified = glocal.localize(net, 32, verify=False, **options)
    assert "not proven: verify=False" in str(glocal.plan_of(unverified))


@needs_torch_2_7("min() of two sizes becomes a branch on which is smaller")
@pytest.mark.parametrize("window", [48, 256])
def test_another_path_of_large_images_runs_global_with_a_warning(window):
    class Half(nn.Module):
        def forward(self, x):
            y = F.avg_pool2d(x, 2) if min(x.shape[2:]) > 40 else x
            return x * y.std((2, 3), keepdim=True)

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Half()).eval()
    local, x = glocal.localize(net, 32, window=window), torch.rand(1, 3, 96, 96)
    with torch.no_grad(), pytest.warns(glocal.GlocalWarning, match="'1' runs global here"):
        torch.testing.assert_close(local(x), net(x))


def test_branches_that_are_zero_before_training_count():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(1, 3, 1, 1))

        def forward(self, x):
            return x + self.scale * by_numpy(x)

    with pytest.raises((glocal.ConversionError, glocal.ScanError)):
        glocal.localize(Branch().eval(), 32)


def test_the_mode_of_each_module_counts():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.gate = nn.Dropout(0.5), Gate()

        def forward(self, x):
            return self.gate(self.drop(x))

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Noisy())
    net.eval()[1].drop.train()
    local = glocal.localize(net, 16)
    assert local[1].drop.training
    assert not local[1].gate.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_is_proven(dtype):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Gate(), nn.InstanceNorm2d(4)).to(dtype)
    assert not glocal.plan_of(glocal.localize(net.eval(), 16)).unproven
    with pytest.raises((glocal.ConversionError, glocal.ScanError)):
        glocal.localize(Net(by_item).to(dtype).eval(), 16)


def test_a_network_without_values_is_not_proven_and_the_plan_says_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Gate()).eval().to("meta")
    plan = glocal.scan(net, 32)
    assert "not proven: the network has no values" in str(plan)
    assert type(plan).from_json(plan.to_json()) == plan


def test_sizes_that_the_network_refuses_are_passed_over():
    class Eighths(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = Gate()

        def forward(self, x):
            assert x.shape[2] % 8 == x.shape[3] % 8 == 0
            assert len(x) == 1
            return self.gate(F.avg_pool2d(x, 8))

    net = nn.Sequential(Eighths()).eval()
    example = torch.zeros(1, 4, 32, 32)
    assert glocal.plan_of(glocal.localize(net, 32, example=example)).summary().startswith("1 local")


def test_circular_padding_and_strided_maps_are_local():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 4, 3, 2, 1, padding_mode="reflect")
            self.body = nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=2, dilation=2)] * 6)
            self.up = nn.ConvTranspose2d(4, 3, 2, 2)

        def forward(self, x):
            return self.up(self.body(self.down(x)))

    assert not glocal.scan(Deep().eval(), 32).rows


def test_the_proof_leaves_no_trace():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.gate = nn.BatchNorm2d(4), Gate()
            self.seen = []

        def forward(self, x):
            self.seen.append(tuple(x.shape))
            return self.gate(self.norm(x)) + torch.rand(1) * np.random.rand()

    heard = []
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Norm()).eval()
    net[1].gate.register_forward_hook(lambda *_: heard.append(1))
    net[1].norm.register_forward_pre_hook(lambda *_: net[1].seen.append("pre"))
    before = copy.deepcopy(net.state_dict())
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    local = glocal.localize(net, 16, allow_global=True)
    assert not heard
    assert not net[1].seen
    assert not local[1].seen
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_private_copy_keeps_the_mode_and_owns_what_its_functions_write():
    total, counts = torch.zeros(1), {"calls": 0}

    def count(module, args, out):
        counts["calls"] += 1
        total.add_(1)
        return out + 1

    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train()
    net[0].register_forward_hook(count)
    inner = net[0].forward
    net[0].forward = lambda x: 2 * inner(x)
    x = torch.rand(2, 1, 4, 4)
    made = isolated_copy(net)
    with torch.no_grad():
        first, second = made[0](x), net[0](x)
        made(x)
    assert torch.equal(first, second)
    assert counts["calls"] == 1
    assert int(total) == 1
    assert made.training
    assert net[1].num_batches_tracked == 0
    assert made[0].weight is net[0].weight


def test_sizes_near_a_size():
    assert near_multiples((97, 33), (64, 64), up=True)[:3] == [(97, 33), (98, 34), (100, 36)]
    assert near_multiples((5, 9), (64, 64), up=False) == [(5, 9), (4, 8)]
    assert near_multiples((200, 130), (63, 126), up=False)[-1] == (189, 126)


class Bins(nn.Module):
    """Pools to bins, whose windows are as large as in training."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        bins = nn.functional.adaptive_avg_pool2d(y, 2)
        return y + nn.functional.interpolate(bins, size=y.shape[2:], mode="nearest")


def test_windows_of_bins_cover_maps_of_the_training_size_only():
    torch.manual_seed(0)
    local = glocal.localize(Bins().eval(), (12, 16), window=(18, 24))
    assert [row.status for row in glocal.plan_of(local).rows] == ["local"]


class Shrinking(nn.Module):
    """Its results are so small that only float64 tells rounding from a difference."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 16, 9), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Conv2d(8, 1, 5)

    def forward(self, x):
        y = self.body(x)
        return self.last(y * self.gate(y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_proof_leaves_the_weights_of_the_network_alone(dtype, monkeypatch):
    network = Shrinking().to(dtype)
    before = {
        name: (tensor.data_ptr(), tensor.dtype, tensor.clone())
        for name, tensor in network.state_dict().items()
    }
    widened = []
    double = Network.double
    monkeypatch.setattr(Network, "double", lambda self: widened.append(self) or double(self))
    glocal.localize(network, 33)
    assert widened or dtype != torch.float32
    for name, tensor in network.state_dict().items():
        place, kind, values = before[name]
        assert (tensor.data_ptr(), tensor.dtype) == (place, kind)
        assert torch.equal(tensor, values)
