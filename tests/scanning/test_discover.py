"""Global operations that a scan finds in hand-written networks, and input sizes of the runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import glocal
from glocal.errors import ScanError
from glocal.scanning.discover import input_sizes


class Net(nn.Module):
    """A network around one function of a map; no rule matches it."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.function = function
        self.linear = nn.Linear(8, 8)
        self.cells = nn.Linear(64, 64)

    def forward(self, x):
        return self.function(self, self.conv(x))


def gate_by_mean(net, x):
    return x * x.mean((2, 3), keepdim=True)


def gate_by_two_means(net, x):
    return x * x.mean(3).mean(2)[..., None, None]


def gate_by_sum(net, x):
    return x * (x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3]))


def gate_by_full_pool(net, x):
    return x * F.avg_pool2d(x, x.shape[2:])


def gate_by_linear(net, x):
    return x * net.linear(x.mean((2, 3)))[..., None, None]


def gate_by_adaptive_pool_to_seven(net, x):
    return x * F.adaptive_avg_pool2d(x, 7).mean((2, 3), keepdim=True)


def gate_by_spread(net, x):
    return x * x.std((2, 3), keepdim=True)


def gate_by_flat_norm(net, x):
    return F.normalize(x.flatten(2), dim=-1).view_as(x)


def instance_norm(net, x):
    return F.instance_norm(x)


def group_norm(net, x):
    return F.group_norm(x, 2)


def hand_written_norm(net, x):
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / centred.square().mean((2, 3), keepdim=True).sqrt()


def channel_attention(net, x):
    q = x.flatten(2)
    return ((q @ q.transpose(1, 2)).softmax(-1) @ q).view_as(x)


def einsum_attention(net, x):
    gram = torch.einsum("bchw,bdhw->bcd", x, x).softmax(-1)
    return torch.einsum("bcd,bdhw->bchw", gram, x)


def non_local(net, x):
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).reshape(x.shape)


def context_block(net, x):
    weights = x[:, :1].flatten(2).softmax(-1)
    return x + (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)


def grid_mixing(net, x):
    b, c, h, w = x.shape
    cells = x.view(b, c, 8, h // 8, 8, w // 8).permute(0, 1, 3, 5, 2, 4).reshape(b, c, -1, 64)
    mixed = net.cells(cells).view(b, c, h // 8, w // 8, 8, 8)
    return mixed.permute(0, 1, 4, 2, 5, 3).reshape(x.shape)


def fourier(net, x):
    return torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:])


def top_k(net, x):
    return x * x.flatten(2).topk(4).values.mean(-1)[..., None, None]


def one_axis(net, x):
    return x * x.mean(3, keepdim=True)


def in_place(net, x):
    x *= x.amax((2, 3), keepdim=True)
    return x


def classifier(net, x):
    return net.linear(x.mean((2, 3)))


GLOBAL = {
    gate_by_mean: {"mean"},
    gate_by_two_means: {"mean"},
    gate_by_sum: {"sum"},
    gate_by_full_pool: {"avg_pool2d"},
    gate_by_linear: {"mean"},
    gate_by_adaptive_pool_to_seven: {"adaptive_avg_pool2d"},
    gate_by_spread: {"std"},
    gate_by_flat_norm: {"normalize"},
    instance_norm: {"instance_norm"},
    group_norm: {"group_norm"},
    hand_written_norm: {"mean"},
    channel_attention: {"matmul"},
    einsum_attention: {"einsum"},
    non_local: {"scaled_dot_product_attention"},
    context_block: {"softmax", "matmul"},
    grid_mixing: {"linear"},
    fourier: {"rfft2", "irfft2"},
    top_k: {"topk"},
    one_axis: {"mean"},
    in_place: {"amax"},
    classifier: {"mean"},
}


def convolutions(net, x):
    return F.leaky_relu(F.conv2d(x, torch.ones(8, 8, 3, 3), padding=1), 0.2)


def pixel_layer_norm(net, x):
    return F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)


def window_attention(net, x):
    b, c, h, w = x.shape
    t = x.view(b, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    t = (t @ t.transpose(1, 2)).softmax(-1) @ t
    t = t.view(b, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4)
    return torch.roll(t.reshape(x.shape), (4, 4), (2, 3))


def resampling(net, x):
    small = F.avg_pool2d(F.pixel_unshuffle(x, 2), 2)
    return F.pixel_shuffle(F.interpolate(small, scale_factor=2, mode="bilinear"), 2)


def channel_statistics(net, x):
    return x * torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1).sum(1, keepdim=True)


def dilated_by_slices(net, x):
    return F.pad(x[:, :, ::2, ::2], (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1]


def halves(net, x):
    top, bottom = x.chunk(2, 2)
    return torch.cat([bottom, top], 2)


LOCAL = [
    convolutions,
    pixel_layer_norm,
    window_attention,
    resampling,
    channel_statistics,
    dilated_by_slices,
    halves,
]


@pytest.mark.parametrize("function", GLOBAL, ids=lambda f: f.__name__)
def test_global_operations_are_found(function):
    plan = glocal.scan(Net(function), 64)
    assert {row.operation for row in plan.rows} == GLOBAL[function]
    assert all(row.line.startswith("test_discover.py:") for row in plan.rows)
    assert all(row.feature in ((64, 64), (7, 7), (64, 33)) for row in plan.rows)


REFUSED = [gate_by_adaptive_pool_to_seven, fourier, top_k, one_axis, classifier]


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_operations_without_a_local_form_have_a_reason_and_raise(function):
    net = Net(function)
    plan = glocal.scan(net, 64)
    assert plan.rows
    assert all(row.status == "global" and row.how for row in plan.rows)
    with pytest.raises(glocal.ConversionError, match=r"(?s)cannot be made local: .*allow_global"):
        glocal.localize(net, 64)
    kept = glocal.localize(net, 64, allow_global=True)
    x = torch.randn(2, 3, 128, 64)
    assert torch.equal(kept(x), net(x))


@pytest.mark.parametrize(
    "function", [f for f in GLOBAL if f not in REFUSED], ids=lambda f: f.__name__
)
def test_other_operations_are_rewritten(function):
    net = Net(function).double().eval()
    local = glocal.localize(net, 64, window=24)
    assert {row.status for row in glocal.plan_of(local).rows} == {"local"}
    small, large = (0.05 * torch.randn(2, 3, *size).double() for size in ((24, 24), (72, 64)))
    with torch.no_grad():
        torch.testing.assert_close(local(small), net(small), rtol=1e-9, atol=1e-12)
        assert not torch.allclose(local(large), net(large), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("function", LOCAL, ids=lambda f: f.__name__)
def test_local_operations_are_not_listed(function):
    assert glocal.scan(Net(function), 64).rows == ()


def test_each_kind_has_its_reason():
    how = {f: glocal.scan(Net(f), 64).rows[0].how for f in REFUSED}
    assert "Fourier" in how[fourier]
    assert "one axis" in how[one_axis]
    assert "selects" in how[top_k]
    assert "is returned by the block" in how[classifier]


def test_features_follow_the_map_on_both_axes():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.InstanceNorm2d(4))
    (row,) = glocal.scan(net, (128, 64), window=(192, 64)).rows
    assert row.feature == (32, 16)
    assert row.window == (48, 16)


def test_a_network_that_reads_values_runs_with_real_tensors():
    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(3)

        def forward(self, x):
            return self.norm(x) if float(x.sum()) == 0 else x

    plan = glocal.scan(Deciding(), 32)
    assert [(row.operation, row.status) for row in plan.rows] == [
        ("sum", "global"),
        ("instance_norm", "local"),
    ]


def test_other_operations_at_another_size_are_an_error():
    class Tiling(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.conv(part) for part in x.split(32, 2)], 2)

    with pytest.raises(
        ScanError,
        match=r"other operations at 128x64 than at 64x64, starting at test_discover.py:\d+:",
    ):
        glocal.scan(Tiling(), 64)


def test_a_network_that_does_not_run_is_an_error():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("no such\nthing")

    with pytest.raises(ScanError, match=r"does not run at 32x32: RuntimeError: no such thing"):
        glocal.scan(Broken(), 32)


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_input_channels_are_guessed(channels):
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.InstanceNorm2d(4))
    assert len(glocal.scan(net, 32).rows) == 1


def test_example_gives_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(5)

        def forward(self, image, guide, strength):
            return self.norm(torch.cat([image, F.interpolate(guide, scale_factor=2)], 1)) * strength

    example = (torch.zeros(1, 3, 16, 16), torch.zeros(1, 2, 8, 8), 0.5)
    (row,) = glocal.scan(Two(), 32, example=example).rows
    assert row.feature == (32, 32)
    made = glocal.scan(
        Two(),
        32,
        example=lambda h, w: (torch.zeros(1, 3, h, w), torch.zeros(1, 2, h // 2, w // 2), 1.0),
    )
    assert made.rows == (row,)
    with pytest.raises(glocal.ArgumentError, match="no tensor with at least 3 dims"):
        glocal.scan(Two(), 32, example=(1, 2))


def test_a_scan_changes_neither_random_state_nor_model_nor_calls_hooks():
    net = Net(instance_norm).train()
    calls = []
    net.conv.register_forward_hook(lambda *a: calls.append(1))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    glocal.scan(net, 64)
    assert torch.equal(torch.rand(1), wanted)
    assert net.training
    assert not calls
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_batch_norm_with_stored_statistics_is_not_global():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True)).train()
    assert glocal.scan(net, 32).rows == ()


def test_a_run_with_real_tensors_keeps_buffers():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x * float(self.calls)  # reads a value

    net = Counting()
    glocal.scan(net, 32)
    assert net.calls == 0


def test_a_network_with_a_fixed_input_size_is_an_error():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.zeros(1, 3, 64, 64))

        def forward(self, x):
            return x + self.place

    with pytest.raises(ScanError, match=r"not run at 128x64, only at 64x64: RuntimeError"):
        glocal.scan(Fixed(), 64)


@pytest.mark.parametrize(
    "train_size", [(64, 64), (256, 256), (48, 96), (1, 7), (37, 512), (600, 64)]
)
def test_input_sizes_change_one_axis_at_a_time(train_size):
    choices = list(input_sizes(train_size))
    assert choices[0][0] == train_size
    assert all(train_size not in sizes for sizes in choices[1:])
    for first, higher, wider in choices:
        assert higher[0] > first[0]
        assert higher[1] == first[1]
        assert wider[0] == first[0]
        assert wider[1] > first[1]


@pytest.mark.parametrize(
    "train_size", [(64, 64), (256, 256), (48, 96), (1, 7), (37, 512), (600, 64)]
)
def test_input_sizes_have_the_same_remainders(train_size):
    """A network pads to multiples, and splits into parts, alike in the three runs."""
    for first, higher, wider in input_sizes(train_size):
        for axis, other in ((0, higher), (1, wider)):
            step = other[axis] - first[axis]
            assert step % 64 == 0
            assert step <= 512
            if step != 64:
                assert step % train_size[axis] == 0
