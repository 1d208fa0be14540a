"""The guarantees of a conversion, one test each.

More than 300 lines: tests mirror the modules, one file for each.
"""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from versions import needs_torch_2_7

import glocal
from glocal.conversion.rules.norms import LocalInstanceNorm2d
from glocal.conversion.rules.pools import LocalAvgPool2d
from glocal.scanning.plan import Plan


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid()
        )

    def forward(self, x):
        y = self.norm(self.body(x))
        return x + y * self.gate(y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 2, 2)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.tail = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        y = self.blocks(self.down(self.head(x)))
        return x + self.tail(nn.functional.interpolate(y, scale_factor=2))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def image(h=96, w=80, b=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, 3, h, w, generator=generator) + torch.linspace(0, 1, w)


def test_the_plan_is_a_table(net):
    golden = Path(__file__).parent / "golden" / "plan.txt"
    text = str(glocal.scan(net, 32, keep_global="blocks.1.norm"))
    # line numbers of this file change with every edit
    import re

    text = re.sub(r"test_localize\.py:\d+", "test_localize.py:NN", text)
    assert text + "\n" == golden.read_text()


def test_the_plan_goes_through_json(net):
    plan = glocal.scan(net, 32)
    assert Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["rows"][0]["window"] == [24, 24]
    with pytest.raises(glocal.ArgumentError, match="not a plan in JSON"):
        Plan.from_json("{}")


def test_a_network_without_global_operations_says_so():
    plan = glocal.scan(nn.Conv2d(3, 3, 3), 32)
    assert "nothing to convert" in str(plan)


def test_only_converted_networks_carry_a_plan(net):
    assert len(glocal.plan_of(glocal.localize(net, 32)).rows) == 4
    with pytest.raises(glocal.ArgumentError, match="carries no plan"):
        glocal.plan_of(net)


def test_converting_twice_is_refused(net):
    with pytest.raises(glocal.ArgumentError, match="converted already"):
        glocal.localize(glocal.localize(net, 32), 32)


def test_the_original_is_untouched_and_parameters_are_shared(net):
    x = image()
    with torch.no_grad():
        before = net(x)
    modules = list(net.modules())
    local = glocal.localize(net, 32)
    assert list(net.modules()) == modules
    assert not any(isinstance(m, LocalAvgPool2d) for m in net.modules())
    with torch.no_grad():
        assert torch.equal(net(x), before)
        assert not torch.allclose(local(x), before, atol=1e-4)
    ours, theirs = (dict(m.named_parameters()) for m in (local, net))
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in ours)
    assert list(local.state_dict()) == list(net.state_dict())
    local.load_state_dict(net.state_dict())


def test_root_module_can_be_replaced():
    local = glocal.localize(nn.InstanceNorm2d(3, affine=True), 16)
    assert isinstance(local, LocalInstanceNorm2d)
    assert glocal.plan_of(local).rows[0].path == ""


def test_one_conversion_serves_all_sizes_batches_dtypes(net):
    local = glocal.localize(net, 32)
    reference = copy.deepcopy(local).double()
    for h, w, b in ((16, 18, 2), (48, 48, 1), (40, 96, 3), (97 // 2 * 2, 130, 1)):
        x = image(h, w, b)
        with torch.no_grad():
            whole = reference(x.double())
            alone = torch.cat([reference(x[i : i + 1].double()) for i in range(b)])
            # in float32 some processors' convolutions differ by 1e-6 from batch to batch
            torch.testing.assert_close(whole, alone, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(local(x).double(), whole, rtol=1e-5, atol=5e-6)
    with torch.no_grad():
        wanted = reference(image().double())
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            got = copy.deepcopy(local).to(dtype)(image().to(dtype))
            assert got.dtype == dtype
            assert (got.double() - wanted).abs().max() < 40 * torch.finfo(dtype).eps


def test_law_of_equality_in_bits(net):
    local = glocal.localize(net, 32)
    with torch.no_grad():
        for size in ((48, 48), (32, 40), (2, 4)):
            assert torch.equal(local(image(*size)), net(image(*size)))


def test_autocast_and_channels_last(net):
    local = glocal.localize(net, 32)
    x = image()
    with torch.no_grad():
        wanted = local(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert (local(x) - wanted).abs().max() < 0.05
        last = local.to(memory_format=torch.channels_last)
        got = last(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_pickle_and_deepcopy(net):
    local = glocal.localize(net, 32)
    x = image()
    with torch.no_grad():
        for again in (pickle.loads(pickle.dumps(local)), copy.deepcopy(local)):
            assert torch.equal(again(x), local(x))
            assert glocal.plan_of(again) == glocal.plan_of(local)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_requires_grad_survive(net, training):
    net.train(training)
    net.head.weight.requires_grad_(False)
    local = glocal.localize(net, 32)
    assert all(m.training == training for m in local.modules())
    assert all(m.training == training for m in net.modules())
    assert not local.head.weight.requires_grad
    assert local.tail.weight.requires_grad


def test_random_state_survives(net):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    glocal.localize(net, 32)
    assert torch.equal(torch.rand(2), wanted)


def test_hooks_survive_and_are_not_called_by_the_conversion(net):
    heard = []

    class Listener:
        def hear(self, module, args, output):
            heard.append(type(module).__name__)

    listener = Listener()
    net.blocks[0].norm.register_forward_hook(listener.hear)
    net.blocks[0].register_forward_pre_hook(lambda module, args: heard.append("pre"))
    local = glocal.localize(net, 32)
    assert not heard
    with torch.no_grad():
        local(image())
    assert heard == ["pre", "LocalInstanceNorm2d"]


def test_tied_weights_and_shared_modules_survive():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Block(3)
            self.second = Block(3)
            self.second.body.weight = self.first.body.weight
            self.again = self.first

        def forward(self, x):
            return self.again(self.second(self.first(x)))

    net = Tied().eval()
    local = glocal.localize(net, 32)
    assert local.again is local.first
    assert local.second.body.weight is local.first.body.weight is net.first.body.weight
    assert isinstance(local.again.norm, LocalInstanceNorm2d)
    assert [row.path for row in glocal.plan_of(local).rows] == [
        "first.norm",
        "first.gate.0",
        "second.norm",
        "second.gate.0",
    ]


def test_a_module_at_several_scales_has_a_window_for_each():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(3)

        def forward(self, x):
            return self.norm(x), self.norm(x[..., ::2, ::2])

    local = glocal.localize(Pyramid(), 64)
    assert [row.window for row in glocal.plan_of(local).rows] == [(96, 96), (48, 48)]
    x = image(120, 100)
    full, half = local(x)
    torch.testing.assert_close(full, glocal.ops.local_instance_norm(x, (96, 96)))
    wanted = glocal.ops.local_instance_norm(x[..., ::2, ::2], (48, 48))
    torch.testing.assert_close(half, wanted)


def test_weight_norm_networks(net):
    nn.utils.parametrizations.weight_norm(net.head)
    nn.utils.parametrizations.spectral_norm(net.tail)
    net.eval()
    local = glocal.localize(net, 32)
    with torch.no_grad():
        assert torch.equal(local(image(32, 32)), net(image(32, 32)))


def test_rectangular_sizes(net):
    plan = glocal.scan(net, (32, 64), window=(48, 32))
    assert {row.feature for row in plan.rows} == {(16, 32)}
    assert {row.window for row in plan.rows} == {(24, 16)}


@pytest.mark.parametrize(("scale", "window"), [(1.5, 24), (1.0, 16), (0.75, 12), (3, 48)])
def test_window_scale(net, scale, window):
    assert glocal.scan(net, 32, window_scale=scale).rows[0].window == (window, window)


def test_keep_global(net):
    local = glocal.localize(net, 32, keep_global=["blocks.0.*", "blocks.1.norm"])
    status = {row.path: row.status for row in glocal.plan_of(local).rows}
    assert status == {
        "blocks.0.norm": "kept",
        "blocks.0.gate.0": "kept",
        "blocks.1.norm": "kept",
        "blocks.1.gate.0": "local",
    }
    assert type(local.blocks[0].norm) is nn.InstanceNorm2d
    everything = glocal.localize(net, 32, keep_global="blocks")
    with torch.no_grad():
        assert torch.equal(everything(image()), net(image()))
    with pytest.raises(
        glocal.ArgumentError, match=r"no global operation in 'block'; global operations are in"
    ):
        glocal.localize(net, 32, keep_global="block")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_size": 0}, "train_size must be a positive int"),
        ({"train_size": 32, "window": (1, 2, 3)}, "window must be a positive int"),
        ({"train_size": 32, "window_scale": 0}, "window_scale must be above 0"),
        ({}, "the training size of this Net is unknown; pass train_size"),
    ],
)
def test_bad_arguments(net, arguments, message):
    with pytest.raises(glocal.ArgumentError, match=message):
        glocal.localize(net, **arguments)


@pytest.mark.parametrize("size", [32, (32, 32)])
def test_a_network_may_carry_its_training_size(net, size):
    net.glocal_train_size = size
    for each in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert glocal.scan(each) == glocal.scan(net, 32)
        assert glocal.plan_of(glocal.localize(each)).train_size == (32, 32)
    assert glocal.scan(net, 48).train_size == (48, 48)
    assert "glocal_train_size" not in net.state_dict()


def test_a_network_may_carry_the_window_of_its_training_size(net):
    net.glocal_train_size, net.glocal_window = 32, (40, 56)
    for each in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert glocal.scan(each) == glocal.scan(net, 32, window=(40, 56))
    assert glocal.scan(net, 32).window == (40, 56)
    assert glocal.scan(net, 48).window == (72, 72)  # it is of other crops
    assert glocal.scan(net, window_scale=2).window == (64, 64)
    assert glocal.scan(net, window=36).window == (36, 36)


def test_a_carried_window_that_is_none_is_refused(net):
    net.glocal_train_size, net.glocal_window = 32, "40"
    with pytest.raises(glocal.ArgumentError, match="glocal_window must be a positive int"):
        glocal.localize(net)


def test_a_carried_size_that_is_none_is_refused(net):
    net.glocal_train_size = "32"
    with pytest.raises(glocal.ArgumentError, match="glocal_train_size must be a positive int"):
        glocal.localize(net)


def test_a_loaded_network_needs_no_training_size():
    model = glocal.load("nafnet-motion-blur")
    scanned = glocal.scan(model)
    assert scanned.train_size == model.glocal_train_size == (64, 64)
    planned = glocal.plan_of(glocal.localize(model, verify=False))
    assert dataclasses.replace(planned, unproven="") == scanned


def test_scan_shows_what_localize_does(net):
    options = {
        "window": 40,
        "window_overlap": glocal.Overlap(0.5, "linear"),
        "precision": "fast",
        "keep_global": "blocks.1.*",
        "allow_global": False,
    }
    assert glocal.scan(net, 32, **options) == glocal.plan_of(glocal.localize(net, 32, **options))


def test_statistics_of_a_smaller_map_are_stretched():
    class Across(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            return x * self.pool(x[..., ::2, ::2])

    local = glocal.localize(Across(), 32, window=20)
    x = image(60, 44)
    mean = glocal.ops.local_mean(x[..., ::2, ::2], (10, 10))
    wanted = x * mean.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(local(x), wanted)


def test_a_statistic_that_is_returned_is_left_global():
    class Returning(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            gate = self.pool(x)
            return x * gate, gate.sigmoid()

    plan = glocal.scan(Returning(), 32)
    assert plan.rows[0].how == "average pool: the network returns the statistic"


def test_pool_to_classifier_is_left_global():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    plan = glocal.scan(net, 32)
    assert [row.status for row in plan.rows] == ["global"]
    assert "reshapes the statistic to" in plan.rows[0].how


def test_gradients_flow_to_the_shared_parameters(net):
    local = glocal.localize(net.double(), 16)
    x = image(24, 28).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: local(x)[..., :2, :2].sum(), (x,), fast_mode=True)
    local(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@needs_torch_2_7("local operations run outside the compiled graph")
@pytest.mark.slow
def test_compiled_equals_eager(net):
    local = glocal.localize(net, 32)
    compiled = torch.compile(local, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((96, 80), (32, 32), (64, 100), (40, 96)):
            torch.testing.assert_close(compiled(image(*size)), local(image(*size)))


@pytest.mark.slow
def test_exported_equals_eager(net):
    local = glocal.localize(net, 32)
    h, w = (torch.export.Dim(name, min=8, max=4096) * 2 for name in "hw")
    b = torch.export.Dim("b", min=1, max=16)
    program = torch.export.export(
        local, (image(96, 80, 2),), dynamic_shapes=({0: b, 2: h, 3: w},), strict=False
    ).module()
    with torch.no_grad():
        for size in ((96, 80, 2), (32, 32, 1), (64, 100, 1), (40, 96, 2)):
            torch.testing.assert_close(
                program(image(*size)), local(image(*size)), rtol=1e-4, atol=1e-5
            )


def test_meta_networks_can_be_scanned():
    with torch.device("meta"):
        net = Net()
    assert glocal.scan(net, 32).summary() == "4 local, 0 left global"


def test_converting_in_inference_mode(net):
    with torch.inference_mode():
        local = glocal.localize(net, 32)
        assert glocal.plan_of(local) == glocal.scan(net, 32)
        assert torch.equal(local(image(32, 32)), net(image(32, 32)))
    local(image(48, 48)).sum().backward()


def test_precision_reaches_every_operation():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8), SqueezeByMean(8), nn.Conv2d(8, 3, 1)
    ).eval()
    exact = glocal.localize(model, 64)
    fast = glocal.localize(model, 64, precision="fast")
    assert "fast" in repr(fast[1])
    assert "fast" in str(glocal.plan_of(fast))
    assert glocal.Plan.from_json(glocal.plan_of(fast).to_json()) == glocal.plan_of(fast)
    x = torch.rand(1, 3, 230, 310)
    with torch.inference_mode():
        difference = (fast(x) - exact(x)).abs().max()
        assert 0 < difference < 0.05 * exact(x).abs().max()
        small = torch.rand(1, 3, 64, 64)
        assert torch.equal(fast(small), exact(small))
    with pytest.raises(glocal.ArgumentError, match='"exact" or "fast"'):
        glocal.localize(model, 64, precision="quick")


class SqueezeByMean(nn.Module):
    """A pool that no rule knows."""

    def __init__(self, channels):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels)

    def forward(self, x):
        return x * self.squeeze(x.mean((2, 3)))[:, :, None, None].sigmoid()


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_maxima_and_means_of_one_block_meet(precision):
    class Both(nn.Module):
        def forward(self, x):
            return x * (x.mean((2, 3)) + x.amax((2, 3)))[:, :, None, None]

    local = glocal.localize(Both(), 64, precision=precision)
    x = torch.rand(1, 3, 130, 170)
    with torch.inference_mode():
        assert local(x).shape == x.shape
