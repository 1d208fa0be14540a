"""The faults of the official code, one test each, in the order in which they were listed."""

import copy
import pickle

import oracles
import pytest
import torch
from torch import nn

import glocal
from glocal import ops
from glocal.networks import HINet, MPRNet, NAFNet, Restormer
from glocal.ops import forms


def image(h, w, b=1, seed=0):
    return oracles.ramp_noise(b, 3, h, w, seed=seed).float()


def gate(pool):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = pool

        def forward(self, x):
            return x * self.pool(x)

    return Gate()


def test_1_the_window_does_not_depend_on_the_first_forward_nor_on_random_input():
    net = gate(nn.AdaptiveAvgPool2d(1))
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    local, fresh = glocal.localize(net, 32), glocal.localize(net, 32)
    local(image(200, 100))
    assert torch.equal(torch.rand(1), wanted)
    assert torch.equal(local(image(64, 70)), fresh(image(64, 70)))


@pytest.mark.parametrize("train", [128, 256])
@pytest.mark.parametrize(
    "make",
    [
        lambda: HINet(wf=4, depth=2, hin_position_left=0, hin_position_right=1),
        lambda: MPRNet(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1, reduction=2),
    ],
)
def test_2_the_training_size_reaches_every_layer(make, train):
    plan = glocal.scan(make(), train, window=train * 3 // 2)
    assert plan.rows
    for row in plan.rows:
        assert row.window == tuple(n * 3 // 2 for n in row.feature)


def test_3_a_pool_to_a_pair_of_ones():
    pair, single = (glocal.localize(gate(nn.AdaptiveAvgPool2d(s)), 16) for s in ((1, 1), 1))
    assert torch.equal(pair(image(50, 60)), single(image(50, 60)))


def test_4_functions_and_other_norms_are_not_ignored():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.GroupNorm(1, 3)

        def forward(self, x):
            x = self.norm(x) * x.mean((2, 3), keepdim=True)
            return x * x.std((2, 3), keepdim=True)

    local = glocal.localize(Many(), 32)
    assert [(row.operation, row.status) for row in glocal.plan_of(local).rows] == [
        ("group_norm", "local"),
        ("mean", "local"),
        ("std", "local"),
    ]
    # a norm starts anew; the deviation after it follows the law of windows
    x, window = image(70, 80), (48, 48)
    normed, mean = ops.local_group_norm(x, 1, window), ops.local_mean(x, window)
    deviation = ops.local_moments(normed, window, correction=1)[1].sqrt()
    wanted = normed * mean * mean.abs() * deviation
    torch.testing.assert_close(local(x), wanted.to(x.dtype), rtol=1e-4, atol=1e-5)


def test_5_converting_after_loading_keeps_affine_weights():
    norm = nn.InstanceNorm2d(3, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    local = glocal.localize(norm, 16)
    assert local.weight is norm.weight
    x = image(20, 22)
    torch.testing.assert_close(local(x), norm(x))


def test_6_variance_does_not_cancel():
    generator = torch.Generator().manual_seed(0)
    x = 30 + 0.1 * torch.randn(1, 1, 720, 1280, generator=generator)
    _, variance = ops.local_moments(x, (96, 96))
    assert (variance > 0.005).all()
    assert ops.local_instance_norm(x, (96, 96)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_7_half_precision_pools_720p(dtype):
    x = image(720, 1280)[:, :1].to(dtype)
    got = ops.local_mean(x, (384, 384))
    wanted = torch.as_tensor(oracles.mean_by_sums(x.double(), (384, 384)))
    assert got.isfinite().all()
    assert (got.double() - wanted).abs().max() <= torch.finfo(dtype).eps * wanted.abs().max()


@pytest.mark.parametrize("size", [(720, 24), (24, 720), (1, 50), (50, 1)])
def test_8_a_window_over_one_axis_only_is_exact(size):
    x = image(*size).double()
    got = ops.local_mean(x, (32, 32)).expand_as(x)
    wanted = torch.as_tensor(oracles.mean_by_sums(x, (32, 32)))
    assert (got - wanted).abs().max() < 1e-12


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", ["pool", "norm", "attention"])
def test_9_a_trace_can_be_replayed_on_smaller_and_larger_images(make):
    if make == "attention":
        net = (
            Restormer(dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
            .encoder_level1[0]
            .attn
        )
        net = nn.Sequential(nn.Conv2d(3, 4, 1), net)
    else:
        net = gate(nn.AdaptiveAvgPool2d(1)) if make == "pool" else nn.InstanceNorm2d(3)
    local = glocal.localize(net.eval(), 16)
    with torch.no_grad():
        traced = torch.jit.trace(local, image(60, 80))
        for size in ((60, 80), (10, 12), (24, 24), (20, 90), (97, 33)):
            torch.testing.assert_close(
                traced(image(*size)), local(image(*size)), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_10_transposed_attention_takes_batches_and_half_precision(dtype):
    net = oracles.randomise(
        Restormer(dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 2, 2]), 1
    ).eval()
    local = glocal.localize(net, 16)
    x = torch.cat([image(40, 48, seed=s) for s in range(3)])
    with torch.no_grad():
        wanted = torch.cat([local(x[i : i + 1]) for i in range(3)])
        got = copy.deepcopy(local).to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    error = (got.float() - wanted).abs().max() / wanted.abs().max()
    assert error < {torch.float32: 1e-5}.get(dtype, 12 * torch.finfo(dtype).eps)


def test_11_windows_that_cover_the_map_cost_nothing(monkeypatch):
    """The global kernels run; no window is computed."""
    for name in ("sums", "means", "maxima", "moments", "instance_norm"):
        for form in (forms._EagerWindows, forms._OperatorWindows, forms._ExportedWindows):
            monkeypatch.setattr(form, name, None, raising=False)
    x = image(16, 20)
    assert torch.equal(ops.local_mean(x, (16, 20)), x.mean((2, 3), keepdim=True))
    assert torch.equal(ops.local_max(x, (40, 20)), x.amax((2, 3), keepdim=True))
    torch.testing.assert_close(
        ops.local_instance_norm(x, (16, 99)), nn.functional.instance_norm(x), rtol=0, atol=0
    )
    net = NAFNet(width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1]).eval()
    with torch.no_grad():
        local = glocal.localize(net, 16, verify=False)  # the proof runs on larger images, too
        assert torch.equal(local(x), net(x))


def test_12_the_root_module_is_replaced():
    local = glocal.localize(nn.AdaptiveAvgPool2d(1), 16, allow_global=True)
    assert glocal.plan_of(local).rows[0].status == "global"  # its statistic meets no map again
    local = glocal.localize(nn.GroupNorm(3, 3), 16)
    x = image(40, 40).double()
    local = pickle.loads(pickle.dumps(local)).double()
    wanted = torch.as_tensor(oracles.local_group_norm(x[..., :26, :26], 3, (24, 24)))
    torch.testing.assert_close(local(x[..., :26, :26]), wanted)
