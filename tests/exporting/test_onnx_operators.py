"""The operators that a written graph is made of compute what torch computes, and cost no more."""

import pytest
import torch
from oracles import randomise
from torch import nn
from torch.export import Dim
from versions import needs_onnx, needs_torch_2_7

import glocal
from glocal import ops
from glocal.exporting.export import export
from glocal.ops import lazy
from glocal.ops.programs import keeping_operators

pytestmark = needs_onnx

SIZES = [(3, 5), (7, 40), (19, 19), (41, 20), (45, 70)]


class Gate(nn.Module):
    """Pixels times something made of a statistic alone."""

    def __init__(self, statistic):
        super().__init__()
        self.statistic = statistic
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x * self.conv(self.statistic(x)).sigmoid()


def mean(window, precision="exact"):
    return lambda x: lazy.local_mean(x, window, precision)


STATISTICS = {
    "mean": mean((7, 12)),
    "a window with a large prime factor": mean((19, 34)),
    "one axis": mean((1, 9)),
    "a grid": mean((36, 40), "fast"),
    "a grid that does not divide the window": mean((37, 61), "fast"),
    "in float64": lambda x: lazy.local_mean(x.double(), (19, 12)).float(),
    "a grid in float64": lambda x: lazy.local_mean(x.double(), (36, 40), "fast").float(),
    "maximum": lambda x: lazy.local_max(x, (7, 12)),
    "norm": lambda x: lazy.local_norm(x, (7, 12)),
    "deviation": lambda x: lazy.local_moments(x, (9, 6))[1].sqrt().to(x.dtype),
    "of two maps": lambda x: lazy.local_mean(x, (7, 12)) - lazy.local_max(x.square(), (7, 12)),
    "of two windows": lambda x: lazy.local_mean(x, (7, 12)) - lazy.local_mean(x, (5, 12)),
}


def written(module, path, size=None, example=None):
    """Write a module for maps of any size, or of one; return what onnxruntime computes."""
    from glocal.exporting.onnx import run_onnx, write_onnx

    inputs = example or (torch.rand(2, 4, *(size or (24, 40))),)
    dims = {} if size else {2: Dim("h", min=2, max=4096), 3: Dim("w", min=2, max=4096)}
    shapes = tuple({0: Dim("b", min=1, max=64), **dims} for _ in inputs)
    with torch.no_grad(), keeping_operators():
        program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
    kept = {str(node.target) for node in program.graph.nodes if "glocal" in str(node.target)}
    assert kept, "the program holds no operator of glocal"
    names = {f"x{i}": ("batch",) for i in range(len(inputs))}
    write_onnx(program, path, 18, {}, names)
    return run_onnx(path)


@needs_torch_2_7("its programs have bounds of sizes")
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_those_of_torch(name, tmp_path):
    torch.manual_seed(0)
    module = Gate(STATISTICS[name]).eval()
    run = written(module, tmp_path / "net.onnx")
    for size in SIZES:
        x = torch.rand(1, 4, *size) + torch.linspace(0, 2, size[1])
        with torch.no_grad():
            torch.testing.assert_close(run(x)[0], module(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mean", (5, 40)),
        ("mean", (45, 70)),
        ("a grid", (45, 70)),
        ("a grid", (20, 70)),
        ("maximum", (7, 40)),
        ("deviation", (45, 6)),
    ],
)
def test_a_known_size(name, size, tmp_path):
    torch.manual_seed(0)
    module = Gate(STATISTICS[name]).eval()
    run = written(module, tmp_path / "net.onnx", size)
    x = torch.rand(3, 4, *size)
    with torch.no_grad():
        torch.testing.assert_close(run(x)[0], module(x), rtol=1e-5, atol=1e-5)


def test_attention_is_that_of_torch(tmp_path):
    class Attention(nn.Module):
        def forward(self, q, k, v):
            q, k, v = (t.unflatten(1, (2, 2)) for t in (q, k, v))
            return ops.local_channel_attention(q, k, v, 1.5, (8, 13)).flatten(1, 2)

    torch.manual_seed(0)
    module = Attention()
    run = written(module, tmp_path / "net.onnx", example=tuple(torch.rand(3, 2, 4, 24, 40)))
    for size in SIZES:
        maps = tuple(torch.rand(3, 1, 4, *size) + torch.linspace(0, 2, size[1]))
        torch.testing.assert_close(run(*maps)[0], module(*maps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 24, 48, 384])
def test_a_pixel_is_in_two_windows_of_attention_at_most(window):
    few = range(window + 1, 1 << 15, max(window, (1 << 15) // 50))
    for size in (*range(window + 1, 40 * window), *few):
        begins = ops.windows.starts(size, window)
        assert all(c - a >= window for a, c in zip(begins, begins[2:], strict=False))


# ---- what a graph costs, without a clock


def largest(path, size):
    """Bytes of the largest tensor between the nodes of a graph that runs at a size."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    for node in model.graph.node:
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x = torch.rand(1, 3, *size).numpy()
    return max(made.nbytes for made in session.run(None, {"image": x}))


@pytest.mark.long
@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("nafnet", marks=pytest.mark.slow),
        pytest.param("hinet", marks=pytest.mark.long),
        pytest.param("restormer", marks=pytest.mark.long),
    ],
)
def test_no_tensor_is_larger_than_those_of_the_global_network(name, precision, tmp_path):
    from glocal.networks.hinet import HINet
    from glocal.networks.nafnet import NAFNet
    from glocal.networks.restormer import Restormer

    torch.manual_seed(0)
    made = {
        "nafnet": lambda: NAFNet(3, 4, 1, [1], [1]),
        "hinet": lambda: HINet(wf=4, depth=2, hin_position_right=1),
        "restormer": lambda: Restormer(
            dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 2, 4]
        ),
    }
    net = randomise(made[name]().eval())
    local = glocal.localize(net, 32, precision=precision, verify=False)
    export(net, tmp_path / "global.onnx", allow_global=True)
    export(local, tmp_path / "local.onnx")
    size = (104, 136)
    # The windows of attention overlap, here by a half.
    most = 2.0 if name == "restormer" else 1.0
    assert largest(tmp_path / "local.onnx", size) <= most * largest(tmp_path / "global.onnx", size)
