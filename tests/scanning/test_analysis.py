"""What the pass over the calls derives: kinds of several calls together, maps, statistics."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glocal.scanning.analysis import Analysis
from glocal.scanning.discover import scan_trace


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def scan(function, size=(32, 48)):
    def images(given, device):
        return (torch.zeros(1, 4, *given, device=device),)

    return scan_trace(Net(function), images, size)


def kinds(function):
    return [(each.function, each.kind) for each in scan(function).operations]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.mean(3), [("mean", "axis")]),
        (lambda x: x.mean(3).mean(2), [("mean", "statistic")]),
        (lambda x: x.mean(3).sigmoid().mean(2), [("mean", "statistic")]),
        (lambda x: x.amax(2).mean(2), [("amax", "statistic")]),
        # The other reduction stays an axis operation: one second half completes one first half.
        (lambda x: (x.mean(3) + x.amax(3)).mean(2), [("mean", "statistic"), ("amax", "axis")]),
        (lambda x: x.mean(3).softmax(2), [("mean", "axis"), ("softmax", "axis")]),
        (lambda x: F.avg_pool2d(x, (x.shape[2], 1)), [("avg_pool2d", "axis")]),
    ],
)
def test_reductions_of_one_axis(function, expected):
    assert kinds(function) == expected


def test_masks_and_positions_are_not_global():
    def masked(x):
        ramp = torch.linspace(0, 1, x.shape[3], device=x.device)
        return x * (ramp - ramp.mean()).cumsum(0)

    assert kinds(masked) == []


def test_a_mean_over_weights_of_constant_size_is_not_global():
    weights = torch.ones(4, 4, 3, 3)
    assert kinds(lambda x: F.conv2d(x, weights / weights.sum((2, 3), keepdim=True))) == []


def test_the_map_of_flattened_pixels_is_found_before_them():
    (operation,) = scan(lambda x: torch.stack([x.flatten(2)], 0).sum(-1)).operations
    assert operation.feature == (32, 48)


def test_features_are_measured_at_the_first_size():
    found = scan(lambda x: F.avg_pool2d(x, 2).mean((2, 3)), (48, 64))
    assert found.size == (48, 64)
    assert [operation.feature for operation in found.operations] == [(24, 32)]


def test_statistics_are_tracked_until_they_meet_a_map():
    traces = scan(lambda x: (x * x.mean((2, 3), keepdim=True).sigmoid()).relu()).traces
    analysis = Analysis(traces)
    (operation,) = analysis.run()
    names = [call.name for call in analysis.calls]
    holding = [name for name, held in zip(names, analysis.statistics, strict=True) if held]
    assert holding == ["mean", "sigmoid"]
    assert analysis.statistics[operation.index] == {operation.index}


def test_values_are_tracked_from_the_input():
    traces = scan(lambda x: x + torch.ones(x.shape[3], device=x.device).cumsum(0)).traces
    analysis = Analysis(traces)
    analysis.run()
    found = dict(zip((call.name for call in analysis.calls), analysis.from_input, strict=True))
    assert found["add"]
    assert not found["cumsum"]


def test_dims_of_a_result_have_the_factors_of_its_input():
    traces = scan(lambda x: x.flatten(2).relu()).traces
    analysis = Analysis(traces)
    analysis.run()
    *_, pixels = analysis.dims_of(*(trace.results[0] for trace in traces))
    assert [factor.sizes[0] for factor in pixels] == [32, 48]
