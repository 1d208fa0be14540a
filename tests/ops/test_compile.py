"""Compiled networks are the local network, compiled once for all sizes, gradients included."""

import shutil

import oracles
import pytest
import torch
from torch import nn
from versions import needs_torch_2_7

import glocal
from glocal import ops
from glocal.conversion.rules.attention import LocalMDTA
from glocal.networks import NAFNet
from glocal.ops import operators

WINDOWS = [(3, 4), (20, 3), (3, 20), (20, 20), (5, 6), (1, 1)]
SIZES = [(33, 41), (18, 20), (24, 24), (20, 45), (50, 19)]
pytestmark = [
    needs_torch_2_7("local operations run outside the compiled graph"),
    # of torch.jit, which inductor imports
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]
compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler"
)


def ramp(b, c, size, seed=0):
    return oracles.ramp_noise(b, c, *size, seed=seed).requires_grad_()


def image(size, batch=2):
    return oracles.ramp_noise(batch, 3, *size).float()


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# ---- the operators, in eager mode


@pytest.mark.parametrize("window", WINDOWS)
def test_sums_and_maxima_are_those_of_eager_mode(window):
    x = ramp(2, 3, (5, 6))
    kh, kw = min(window[0], 5), min(window[1], 6)
    torch.testing.assert_close(
        operators.window_sums(x, window) / (kh * kw), ops.local_mean(x, window).expand(2, 3, 5, 6)
    )
    wanted = ops.local_max(x, window).expand(2, 3, 5, 6)
    torch.testing.assert_close(operators.window_maxima(x, window), wanted)


@pytest.mark.parametrize("window", WINDOWS)
def test_derivatives_of_sums_and_maxima(window):
    x = ramp(1, 2, (5, 6))
    assert torch.autograd.gradcheck(lambda x: operators.window_sums(x, window), (x,))
    assert torch.autograd.gradgradcheck(lambda x: operators.window_sums(x, window), (x,))
    assert torch.autograd.gradcheck(lambda x: operators.window_maxima(x, window), (x,))


def test_the_first_of_equal_maxima_has_the_derivative():
    x = torch.zeros(1, 1, 1, 4, requires_grad=True)
    operators.window_maxima(x, (1, 2)).sum().backward()
    assert x.grad.flatten().tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize("window", [(3, 4), (20, 3), (20, 20)])
def test_attention_is_that_of_eager_mode(window):
    q, k, v = (ramp(1, 6, (5, 7), seed).detach().unflatten(1, (2, 3)) - 0.5 for seed in range(3))
    inputs = [t.requires_grad_() for t in (q, k, v, torch.tensor([[[0.7]], [[3.0]]]).double())]
    torch.testing.assert_close(
        operators.channel_attention(*inputs, window, 1e-12),
        ops.local_channel_attention(*inputs, window),
    )
    assert torch.autograd.gradcheck(
        lambda *t: operators.channel_attention(*t, window, 1e-12), inputs, fast_mode=True
    )


def test_half_precision_averages_attention_in_float32():
    q, k, v = (image((9, 11)).unsqueeze(1).bfloat16() for _ in range(3))
    one = torch.ones(1, 1, 1)
    got = operators.channel_attention(q, k, v, one, (4, 5), 1e-12)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, ops.local_channel_attention(q, k, v, one, (4, 5)))


# ---- compiled networks


class Net(nn.Module):
    """One of each: pools, norms."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.instance, self.group = nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4)
        self.average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.maximum = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.tail = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        y = self.head(x)
        y = y * self.average(y) + y * self.maximum(y)
        return x + self.tail(self.instance(y) + self.group(y))


class Little(nn.Module):
    """A pool and a norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, affine=True)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())

    def forward(self, x):
        return self.norm(x) + x * self.gate(x)


def attention_net():
    from glocal.networks.restormer import Attention

    return nn.Sequential(nn.Conv2d(3, 4, 1), Attention(4, 2, bias=True), nn.Conv2d(4, 3, 1))


def check_compiled(net, backend):
    """The same results at all sizes from one compilation, and never the global ones."""
    original = oracles.randomise(net.eval())
    local = glocal.localize(original, 16)
    compiled = torch.compile(local, backend=backend, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for i, size in enumerate(SIZES):
            x = image(size)
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                got = compiled(x)
            wanted, whole = local(x), original(x)
            scale = wanted.abs().max()
            assert (got - wanted).abs().max() < 1e-5 * scale, size
            covered = max(size) <= 24
            differs = float((got - whole).abs().max() / scale)
            assert differs < 1e-5 if covered else differs > 1e-3, size


@pytest.mark.slow
@pytest.mark.parametrize("make", [Net, attention_net, lambda: NAFNet(3, 4, 1, [1], [1])])
def test_one_compilation_serves_all_sizes(make):
    check_compiled(make(), "aot_eager")


@pytest.mark.slow
@compiler
def test_inductor():
    check_compiled(Little(), "inductor")


@pytest.mark.slow
@compiler
def test_inductor_on_attention():
    check_compiled(attention_net(), "inductor")


def test_at_one_size_a_window_over_the_map_costs_nothing():
    local = glocal.localize(nn.InstanceNorm2d(3), 16)
    graphs = []

    def record(graph, inputs):
        graphs.append(str(graph.graph))
        return graph

    compiled = torch.compile(local, backend=record, fullgraph=True, dynamic=False)
    with torch.no_grad():
        compiled(image((20, 24)))
        compiled(image((20, 25)))
    assert ["glocal." in text for text in graphs] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("make", [Net, attention_net])
def test_compiled_gradients_are_those_of_eager_mode(make):
    local = glocal.localize(oracles.randomise(make()), 16).double()
    compiled = torch.compile(local, backend="aot_eager", fullgraph=True, dynamic=True)
    for i, size in enumerate([(33, 29), (20, 41), (18, 20)]):
        gradients = []
        for network in (local, compiled):
            local.zero_grad()
            x = image(size).double().requires_grad_()
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                network(x).square().sum().backward()
            gradients.append([x.grad, *(p.grad.clone() for p in local.parameters())])
        # A bias before a norm has no derivative but rounding.
        largest = max(float(g.abs().max()) for g in gradients[0])
        for wanted, got in zip(*gradients, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12 * largest)


def test_an_unbiased_variance_is_compiled_once():
    def variance(x):
        return ops.local_moments(x, (24, 24), correction=1)[1].expand(x.shape)

    compiled = torch.compile(variance, backend="aot_eager", fullgraph=True, dynamic=True)
    for i, size in enumerate(SIZES):
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            torch.testing.assert_close(compiled(image(size)), variance(image(size)))


def test_attention_is_converted():
    local = glocal.localize(attention_net(), 16)
    assert isinstance(local[1], LocalMDTA)


# ---- statistics from crops


def check_crops(net, backend, sizes, grad=False):
    """The results of eager mode, where the image is a crop, and where it has several."""
    local = glocal.localize(oracles.randomise(net.eval()), 16, statistics="crops")
    compiled = torch.compile(local, backend=backend, dynamic=True)
    for size in sizes:
        x = image(size).requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            results = [network(x) for network in (compiled, local)]
        if grad:
            results = [torch.autograd.grad(r.square().sum(), x)[0] for r in results]
        got, wanted = results
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_with_statistics_from_crops_both_passes_are_those_of_eager_mode():
    check_crops(Little(), "eager", [(16, 16), (33, 16), (33, 41)])
    counted = torch._dynamo.utils.counters["stats"]
    assert counted["unique_graphs"] > 0  # of the first pass


def test_a_compiled_module_replays_statistics_in_eager_mode():
    local = glocal.localize(oracles.randomise(Little().eval()), 16, statistics="crops")
    wanted = glocal.restore(local, image((33, 41)))
    local.compile(backend="eager")
    torch.testing.assert_close(glocal.restore(local, image((33, 41))), wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of a graph break
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("make", [Net, attention_net])
def test_other_networks_with_statistics_from_crops(make, grad):
    check_crops(make(), "aot_eager", [(16, 13), (33, 41), (20, 45)], grad)


@pytest.mark.slow
@compiler
def test_inductor_with_statistics_from_crops():
    check_crops(Little(), "inductor", [(33, 41)])
