"""Global operations that a scan finds in hand-written networks, and input sizes of the runs."""

import pytest
import torch
import torch.nn.functional as F
from hand_written import GLOBAL, LOCAL, Net, instance_norm
from torch import nn

import glocal
from glocal.errors import ScanError
from glocal.scanning.discover import input_sizes
from glocal.scanning.example import scan_network


def operations(function):
    return scan_network(Net(function), (64, 64), None).operations


@pytest.mark.parametrize("function", GLOBAL, ids=lambda f: f.__name__)
def test_global_operations_are_found(function):
    found = operations(function)
    assert {each.function: each.kind for each in found} == GLOBAL[function]
    assert all(each.line.startswith("hand_written.py:") for each in found)
    sizes = ((64, 64), (7, 7), (64, 33), (32, 64), (64, 32))
    assert all(each.feature in sizes for each in found)


@pytest.mark.parametrize("function", LOCAL, ids=lambda f: f.__name__)
def test_local_operations_are_not_found(function):
    assert operations(function) == ()


def test_features_follow_the_map_on_both_axes():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.InstanceNorm2d(4))
    (row,) = glocal.scan(net, (128, 64), window=(192, 64)).rows
    assert row.feature == (32, 16)
    assert row.window == (48, 16)


def test_a_network_that_reads_values_runs_with_real_tensors():
    """The norm runs on zeros only, as in the scan: no image proves its local form."""

    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(3)

        def forward(self, x):
            return self.norm(x) if float(x.sum()) == 0 else x

    plan = glocal.scan(Deciding(), 32)
    assert [(row.operation, row.status) for row in plan.rows] == [
        ("sum", "global"),
        ("instance_norm", "global"),
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
    net = nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True))
    assert glocal.scan(net.eval(), 32).rows == ()


def test_a_norm_in_training_mode_uses_the_statistics_of_the_map():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True)).train()
    rows = glocal.scan(net, 32).rows
    assert [(row.path, row.status) for row in rows] == [("0", "global"), ("1", "local")]


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
    assert train_size not in choices[-1]
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
            if step % train_size[axis]:
                assert step in (64, 128)
            else:
                assert step % 64 == 0 or step <= 2 * train_size[axis]


class Cells(nn.Module):
    """Takes multiples of its side only."""

    def __init__(self, side):
        super().__init__()
        self.side = side
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.side
        return x.view(b, c, h // n, n, w // n, n).reshape(b, c, h, w) * self.gate(x)


@pytest.mark.parametrize(
    ("side", "train_size"), [(7, 126), (10, 100), (12, 36), (160, 160), (24, (72, 48))]
)
def test_a_network_that_takes_multiples_is_scanned_at_multiples_of_its_training_size(
    side, train_size
):
    local = glocal.localize(Cells(side), train_size)
    assert glocal.plan_of(local).summary() == "1 local, 0 left global"
