"""What a block is: attributes, arguments, in-place writes, dtypes and computed weights.

More than 300 lines: all kinds use the same small networks.
"""

import copy
import re
import threading

import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import glocal

WINDOW = (12, 16)
COVERED, LARGE = (8, 16), (21, 26)


class Gate(nn.Module):
    """A gate that a rule would take for squeeze-and-excitation, and what it does with the gate."""

    def __init__(self, apply):
        super().__init__()
        self.apply_gate, self.pool = apply, nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())

    def forward(self, x, **options):
        return self.apply_gate(x, self.fc(self.pool(x).flatten(1))[..., None, None], **options)


class Function(nn.Module):
    """A block that calls a function with itself and a map."""

    def __init__(self, function):
        super().__init__()
        self.function, self.fc = function, nn.Conv2d(4, 4, 1)

    def forward(self, x, *args, **kwargs):
        return self.function(self, x, *args, **kwargs)


class Net(nn.Module):
    """A convolution, then a function of a block and a map."""

    def __init__(self, block, use=lambda block, x: block(x)):
        super().__init__()
        self.conv, self.block, self.use = nn.Conv2d(3, 4, 3, padding=1), block, use

    def forward(self, x):
        return self.use(self.block, self.conv(x))


def double(net):
    return oracles.randomise(net, 1).double().eval()


def image(*size, batch=2):
    return oracles.ramp_noise(batch, 3, *size)


def converted(net, **options):
    return glocal.localize(net, (8, 16), window=WINDOW, **options)


def assert_equal_where_covered(net, local):
    with torch.no_grad():
        torch.testing.assert_close(
            local(image(*COVERED)), net(image(*COVERED)), rtol=1e-9, atol=1e-12
        )


def means(x):
    """Window means, pixel by pixel."""
    return torch.as_tensor(oracles.local_mean(x, WINDOW))


# ---- blocks that look alike


class Options:
    """Attributes that no text shows."""

    def __init__(self, sign):
        self.sign = sign

    def __call__(self, x, g):
        return x + self.sign * g

    def __repr__(self):
        return "Options"


TABLE = {"one": 1.0, "other": -3.0}


def closure(factor):
    return lambda x, g: x * g * factor


PAIRS = {
    "object": (Options(1.0), Options(-2.0)),
    "closure": (closure(1.0), closure(2.0)),
    "lambda": (lambda x, g: x * g, lambda x, g: x - g),
    "default": (lambda x, g, n=1: x * g**n, lambda x, g, n=2: x * g**n),
    "global": (lambda x, g: x + TABLE["one"] * g, lambda x, g: x + TABLE["other"] * g),
    "array": (
        Options(torch.ones(1, 4, 1, 1).double()),
        Options(torch.arange(4).view(1, 4, 1, 1).double()),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_blocks_that_differ_in_any_value_are_two_blocks(name):
    net = double(Net(nn.Sequential(*(Gate(apply) for apply in PAIRS[name]))))
    local = converted(net)
    assert_equal_where_covered(net, local)


def test_a_block_that_depends_on_the_order_of_calls_is_never_taken_for_another():
    calls = []

    def alternate(x, g):
        calls.append(1)
        return x * g if len(calls) % 2 else x + g

    net = double(Net(nn.Sequential(Gate(alternate), Gate(alternate))))
    with pytest.raises(glocal.ConversionError, match=r"block\.[01].* computes other values"):
        converted(net)


# ---- blocks that write in place


def in_a_view(x, g):
    x[:, 1:].mul_(g[:, 1:])
    return x


IN_PLACE = {
    "mul_": lambda x, g: x.mul_(g),
    "view": in_a_view,
    "out=": lambda x, g: torch.mul(x, g, out=x),
    "copy_": lambda x, g: x.copy_(x + g),
}
USES = {
    "ignored": lambda block, x: (block(x), x)[1],
    "argument used after": lambda block, x: block(x) + x,
    "result written to": lambda block, x: (block(x).add_(1.0), x * 2)[1],
    "of a view": lambda block, x: (block(x.view(x.shape)), x)[1],
}


@pytest.mark.parametrize(
    ("how", "use"),
    [*((how, "argument used after") for how in IN_PLACE), *(("mul_", use) for use in USES)],
)
def test_blocks_that_write_to_their_argument_still_do(how, use):
    net = double(Net(Gate(IN_PLACE[how]), USES[use]))
    local = converted(net)
    assert_equal_where_covered(net, local)
    x = image(*LARGE, batch=1)
    with torch.no_grad():
        features = net.conv(x)
        gate = net.block.fc(means(features).movedim(1, -1)).movedim(-1, 1)
        kept = features.clone()
        IN_PLACE[how](kept, gate)
        wanted = {
            "ignored": kept, "of a view": kept, "argument used after": kept + kept,
            "result written to": (kept + 1) * 2,
        }[use]  # fmt: skip
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


def test_a_block_that_writes_to_its_own_buffer_is_refused_by_name():
    def remember(self, x):
        self.seen.mul_(0.9).add_(x.mean())
        return x * self.seen

    block = Function(remember)
    block.register_buffer("seen", torch.ones(1))
    with pytest.raises(glocal.ConversionError, match=r"writes to its own buffer 'seen'"):
        converted(double(Net(block)))


# ---- blocks that are called in several ways


def by_mode(self, x, mode="mul", *, add=None):
    g = self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
    x = x * g if mode == "mul" else x + g
    return x if add is None else x + add


CALLS = {
    "flag": lambda block, x: block(block(x, "mul"), "add"),
    "keyword": lambda block, x: block(block(x, mode="add")),
    "tensor": lambda block, x: block(block(x), add=x),
    "order": lambda block, x: block(x, mode="add", add=x) + block(x, add=x, mode="mul"),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_way_in_which_a_block_is_called_is_converted(call):
    net = double(Net(Function(by_mode), CALLS[call]))
    local = converted(net)
    assert_equal_where_covered(net, local)

    def reference(x, mode="mul", add=None):
        g = net.block.fc(means(x)).sigmoid()
        x = x * g if mode == "mul" else x + g
        return x if add is None else x + add

    x = image(*LARGE, batch=1)
    with torch.no_grad():
        wanted = CALLS[call](reference, net.conv(x))
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


def test_a_call_that_the_scan_did_not_see_is_an_error_of_glocal():
    local = converted(double(Net(Function(by_mode))))
    features = torch.rand(1, 4, *LARGE).double()
    with pytest.raises(glocal.errors.ArgumentError, match="captured with other arguments"):
        local.block(features, "add")


def test_maps_of_two_sizes_get_windows_of_two_sizes():
    def use(block, x):
        return block(x) + F.interpolate(block(F.avg_pool2d(x, 2)), scale_factor=2)

    net = double(Net(Function(lambda self, x: x * x.mean((2, 3), keepdim=True)), use))
    local = converted(net)
    assert_equal_where_covered(net, local)
    x = image(20, 24, batch=1)
    with torch.no_grad():
        features = net.conv(x)
        half = F.avg_pool2d(features, 2)
        small = half * torch.as_tensor(oracles.local_mean(half, (6, 8)))
        wanted = features * means(features) + F.interpolate(small, scale_factor=2)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


# ---- blocks in other dtypes


def with_constant(self, x):
    t = torch.linspace(-1, 1, 4, dtype=x.dtype, device=x.device).view(1, 4, 1, 1)
    return x * self.fc(x.mean((2, 3), keepdim=True) + t)


def with_tensor(self, x):
    t = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=x.dtype).view(1, 4, 1, 1)
    return x * (x.mean((2, 3), keepdim=True) + t)


def with_cast(self, x):
    m = x.float().mean((2, 3), keepdim=True).to(x.dtype)
    return x * self.fc(m)


def with_double(self, x):
    return x * self.fc(x.double().mean((2, 3), keepdim=True).to(x.dtype))


def with_mask(self, x):
    m = x.mean((2, 3), keepdim=True)
    return x * (x > m).to(x.dtype) + torch.arange(4).to(x).view(1, 4, 1, 1) * m


def with_limit(self, x):
    m = x.mean((2, 3), keepdim=True)
    v = (x - m).square().mean((2, 3), keepdim=True)
    return (x - m) / (v + torch.finfo(x.dtype).eps).sqrt()


def with_plain_tensor(self, x):
    return x * (x.mean((2, 3), keepdim=True) + self.plain.to(x))


@pytest.mark.parametrize(
    "function",
    [with_constant, with_tensor, with_cast, with_double, with_mask, with_limit, with_plain_tensor],
    ids=lambda f: f.__name__,
)
def test_a_converted_network_takes_the_dtypes_that_the_original_takes(function):
    net = oracles.randomise(Net(Function(function)), 1).eval()
    net.block.plain = torch.rand(1, 4, 1, 1)
    local = converted(net)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x = image(*COVERED).to(dtype)
        with torch.no_grad():
            wanted, got = (copy.deepcopy(n).to(dtype)(x) for n in (net, local))
            assert copy.deepcopy(local).to(dtype)(image(*LARGE).to(dtype)).dtype == dtype
        assert got.dtype == wanted.dtype
        tolerance = 16 * max(torch.finfo(dtype).eps, 1e-8 if function is not with_cast else 1e-6)
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def test_a_network_that_runs_in_one_dtype_only_names_the_line():
    net = Net(Function(lambda self, x: x * (x.mean((2, 3)) @ torch.ones(4, 4))[..., None, None]))
    with pytest.raises(glocal.ConversionError, match=r"one dtype only \(test_blocks.py:\d+\)"):
        converted(net.eval())


# ---- weights that are computed, and attributes that cannot be copied


def symmetric(module):
    class Symmetric(nn.Module):
        def forward(self, w):
            return (w + w.mT) / 2

    nn.utils.parametrize.register_parametrization(module, "weight", Symmetric())
    return module


NORMS = {
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "parametrised weight norm": parametrizations.weight_norm,
    "parametrised spectral norm": parametrizations.spectral_norm,
    "parametrised": symmetric,
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("norm", "called"), [*((norm, True) for norm in NORMS), ("weight_norm", False)]
)
def test_computed_weights_follow_their_parameters(norm, called):
    block = Function(lambda self, x: x * self.line(x.mean((2, 3))).sigmoid()[..., None, None])
    block.line = NORMS[norm](nn.Linear(4, 4))
    net = Net(block).eval().double()
    if called:
        net(image(*COVERED))
    local = converted(net)
    assert list(local.state_dict()) == list(net.state_dict())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.25).add_(0.01)
    assert_equal_where_covered(net, local)
    x = image(*LARGE, batch=1)
    with torch.no_grad():
        features = net.conv(x)
        gate = block.line(means(features).movedim(1, -1)).movedim(-1, 1).sigmoid()
        torch.testing.assert_close(local(x), features * gate, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        torch.Generator,
        lambda: (n for n in range(3)),
        lambda: [torch.ones(2, requires_grad=True) * 2],
    ],
    ids=["lock", "generator", "iterator", "tensor of autograd"],
)
def test_networks_that_hold_what_cannot_be_copied_convert(make):
    block = Function(lambda self, x: x * x.mean((2, 3), keepdim=True))
    block.held = make()
    net = double(Net(block))
    assert_equal_where_covered(net, converted(net))


def test_a_network_without_shapes_of_parameters_is_refused_in_one_line():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(glocal.errors.ArgumentError, match=r"'0' \(LazyConv2d\) have no shape yet"):
        glocal.localize(net, 16)


# ---- reasons


def branches(self, x):
    m = x.mean((2, 3), keepdim=True)
    return x * m if m.mean() > 0.5 else x + m


def takes_a_number(self, x):
    return x / float(x.amax() + 1)


def by_mask(self, x):
    return x * x[x > 0].mean()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (branches, r"branches on the values of tensors.* \(test_blocks.py:\d+\)"),
        (takes_a_number, r"takes a number out of one \(test_blocks.py:\d+\)"),
        (by_mask, r"selects values by a mask"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_reasons_are_about_the_code_of_the_user(function, reason):
    with pytest.raises(glocal.ConversionError, match=reason) as caught:
        converted(Net(Function(function)).eval())
    assert not re.search(r"torch\.export|symbolic|Symbol|guard|Unbacked|aten", str(caught.value))
