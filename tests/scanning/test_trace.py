"""Recorded calls: names, lines, sources, side effects."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import glocal
from glocal.scanning.recorder import Ref, source_line
from glocal.scanning.trace import Spec, quiet, trace, trace_graph


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        y[:, :2].add_(1)
        return F.instance_norm(y)


def image(device):
    return (torch.zeros(1, 3, 8, 6, device=device),)


@pytest.mark.parametrize("mode", ["meta", "fake", "real"])
def test_calls_are_recorded_with_name_function_module_and_line(mode):
    calls = trace(Net(), image, mode).calls
    (conv,) = [call for call in calls if call.name == "convolution"]
    assert (conv.function, conv.path) == ("conv2d", "conv")
    assert conv.outputs == ((1, 4, 8, 6),)
    (norm,) = [call for call in calls if "batch_norm" in call.name]
    assert (norm.function, norm.path) == ("instance_norm", "")
    assert norm.line.startswith("test_trace.py:")


def test_a_tensor_written_in_place_comes_from_both_calls():
    calls = trace(Net(), image, "meta").calls
    names = [call.name for call in calls]
    made, written = names.index("convolution"), names.index("add")
    assert calls[written + 1].refs()[0].sources == (made, written)


def test_parameters_and_inputs_have_no_source():
    (call,) = trace(
        nn.Linear(3, 2), lambda device: (torch.zeros(4, 3, device=device),), "meta"
    ).calls[-1:]
    assert {ref.sources for ref in call.refs() if ref.shape in ((2,), (4, 3))} == {()}


def test_inputs_of_modules_are_specs():
    record = trace(Net(), image, "meta")
    assert record.inputs["conv"] == [((Spec((1, 3, 8, 6), torch.float32),), {})]
    assert [ref.shape for ref in record.results] == [(1, 4, 8, 6)]


@pytest.mark.parametrize("mode", ["meta", "fake", "real"])
def test_a_run_changes_neither_model_nor_random_state(mode):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    trace(net, image, mode)
    assert net.training
    assert torch.random.get_rng_state().equal(state)
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())


def test_calls_of_a_graph_have_the_path_of_their_node():
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(torch.ops.aten.relu.default, (x,))
    graph.output(y)
    record, values = trace_graph(graph, lambda node: ((2, 3), torch.float64))
    (call,) = record.calls
    assert (call.name, call.path, call.pointwise) == ("relu", y.name, True)
    assert values[y] == Ref((2, 3), (0,), 0)


def test_glocals_own_code_is_no_line_of_the_network():
    lines = set()

    class Lines(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            lines.add(source_line())
            return func(*args, **(kwargs or {}))

    net = nn.Conv2d(3, 3, 3, padding=1)
    with Lines():
        glocal.restore(net, np.zeros((8, 8, 3), np.uint8))
    assert lines == {""}


def test_quiet_suppresses_warnings_and_prints(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet():
            print("noise")
            warnings.warn("noise", stacklevel=1)
    assert capsys.readouterr().out == ""
