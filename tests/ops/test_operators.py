"""The operators of torch.library: torch's rules for them, C++ against torch, their derivatives."""

import oracles
import pytest
import torch
from torch import nn
from versions import needs_torch_2_7

from glocal import ops
from glocal.ops import exported, forms, operators
from glocal.ops.kernels import attention as attention_kernel
from glocal.ops.kernels import native
from glocal.ops.operators import attention as attention_operators
from glocal.ops.operators import statistics as statistics_operators
from glocal.ops.programs import program_form

SIZE = (13, 18)
WINDOWS = [(5, 7), (40, 6), (6, 40), (40, 40), (2, 3), (1, 1)]
windows = pytest.mark.parametrize("window", WINDOWS)
FORMATS = (torch.contiguous_format, torch.channels_last)

needs_cpp = pytest.mark.skipif(
    not native.takes(torch.zeros(1, 1, 8, 8)),
    reason="the kernels are not built, or GLOCAL_KERNELS=0",
)


def ramp(c=4, b=2, seed=0, dtype=torch.float64, size=SIZE):
    return oracles.ramp_noise(b, c, *size, seed=seed).to(dtype)


def heads(seed=0, dtype=torch.float64):
    return (ramp(6, seed=seed, dtype=dtype) - 0.5).unflatten(1, (2, 3))


def affine(dtype=torch.float64):
    return torch.tensor([0.5, 2.0, -1.0, 1.0], dtype=dtype), torch.arange(4.0).to(dtype)


def temperature(dtype=torch.float64):
    return torch.tensor([[[0.7]], [[3.0]]], dtype=dtype)


def forward_cases(window, dtype):
    """Every forward operator with arguments."""
    x, (weight, bias) = ramp(dtype=dtype), affine(dtype)
    q, k, v = (heads(seed, dtype) for seed in range(3))
    return {
        "sums": (operators.window_sums, (x, window)),
        "maxima": (operators.window_maxima, (x, window)),
        "moments": (operators.window_moments, (x, window, 2)),
        "moments of channels": (operators.window_moments, (x, window, 4)),
        "instance norm": (operators.instance_norm, (x, window, weight, bias, 1e-3)),
        "plain instance norm": (operators.instance_norm, (x, window, None, None, 1e-3)),
        "attention": (operators.channel_attention, (q, k, v, temperature(dtype), window, 1e-12)),
    }


def inner_cases(window, dtype):
    """Every operator that only a derivative calls."""
    x, q, k = ramp(dtype=dtype), heads(0, dtype), heads(1, dtype)
    size = (min(window[0], SIZE[0]), min(window[1], SIZE[1]))
    number = -(-SIZE[0] // size[0]) * -(-SIZE[1] // size[1]) + 1
    matrices = torch.rand(number, 2, 2, 3, 3, dtype=dtype)
    return {
        "adjoint of sums": (statistics_operators._window_sums_adjoint, (x, window)),
        "products": (attention_operators._window_products, (q, k, window, True)),
        "mix": (attention_operators._window_mix, (matrices, q, window, False)),
    }


FORWARD = list(forward_cases((3, 3), torch.float64))
INNER = list(inner_cases((3, 3), torch.float64))


def with_gradients(arguments):
    return [t.clone().requires_grad_() if isinstance(t, torch.Tensor) else t for t in arguments]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "window"), [(torch.float64, (40, 6)), (torch.float32, (5, 7))], ids=str
)
@pytest.mark.parametrize("name", [*FORWARD, *INNER])
def test_operators_keep_the_rules_of_torch(name, dtype, window):
    operator, arguments = {**forward_cases(window, dtype), **inner_cases(window, dtype)}[name]
    window_as_list = [list(a) if isinstance(a, tuple) else a for a in arguments]
    torch.library.opcheck(operator, with_gradients(window_as_list))


@pytest.mark.parametrize("form", FORMATS)
@windows
def test_operators_give_what_eager_mode_gives(window, form):
    x = ramp().contiguous(memory_format=form)
    number = min(window[0], SIZE[0]) * min(window[1], SIZE[1])
    sums = operators.window_sums(x, window)
    torch.testing.assert_close(sums / number, ops.local_mean(x, window).expand_as(x))
    maxima = operators.window_maxima(x, window)
    torch.testing.assert_close(maxima, ops.local_max(x, window).expand_as(x))
    for got, wanted in zip(
        operators.window_moments(x, window, 2),
        ops.local_moments(x, window, groups=2),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted.expand_as(got))
    normed = operators.instance_norm(x, window, *affine(), 1e-3)
    torch.testing.assert_close(normed, ops.local_instance_norm(x, window, *affine(), 1e-3))


@needs_cpp
@pytest.mark.parametrize("form", FORMATS)
@windows
@pytest.mark.parametrize("name", FORWARD)
def test_cpp_and_torch_agree(name, window, form, monkeypatch):
    operator, arguments = forward_cases(window, torch.float32)[name]
    arguments = [
        t.contiguous(memory_format=form) if isinstance(t, torch.Tensor) and t.ndim == 4 else t
        for t in arguments
    ]
    got = operator(*arguments)
    monkeypatch.setattr(native, "takes", lambda x: False)
    monkeypatch.setattr(attention_kernel, "takes", lambda *maps: False)
    torch.testing.assert_close(got, operator(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("window", [(5, 7), (40, 6), (40, 40)])
@pytest.mark.parametrize("name", [*FORWARD, *INNER])
def test_derivatives(name, window):
    operator, arguments = {
        **forward_cases(window, torch.float64),
        **inner_cases(window, torch.float64),
    }[name]
    assert torch.autograd.gradcheck(operator, with_gradients(arguments), fast_mode=True)
    if name != "maxima":
        assert torch.autograd.gradgradcheck(operator, with_gradients(arguments), fast_mode=True)


@needs_cpp
@pytest.mark.parametrize("window", [(5, 7), (40, 6), (6, 40)])
@pytest.mark.parametrize("name", ["mean", "norm", "variance", "instance norm", "group norm"])
def test_training_by_operators_is_training_by_torch(name, window):
    """float32 trains through operators, float64 through operations of torch."""
    operation = {
        "mean": lambda x, *_: ops.local_mean(x, window),
        "norm": lambda x, *_: ops.local_norm(x, window),
        "variance": lambda x, *_: ops.local_moments(x, window, correction=1)[1],
        "instance norm": lambda x, *affine: ops.local_instance_norm(x, window, *affine),
        "group norm": lambda x, *affine: ops.local_group_norm(x, 2, window, *affine),
    }[name]
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs = with_gradients([ramp(dtype=dtype), *affine(dtype)])
        by_operator = isinstance(forms.windows_of(inputs[0], window), forms._OperatorWindows)
        assert by_operator == (dtype == torch.float32)
        out = operation(*inputs)
        (out * ramp(dtype=dtype, c=out.shape[1], seed=5, size=out.shape[2:])).sum().backward()
        results.append([out, *(t.grad for t in inputs if t.grad is not None)])
    for got, wanted in zip(*results, strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)


@windows
def test_attention_is_that_of_eager_mode(window):
    q, k, v = (heads(seed) for seed in range(3))
    wanted = ops.local_channel_attention(q, k, v, temperature(), window)
    torch.testing.assert_close(
        operators.channel_attention(q, k, v, temperature(), window, 1e-12), wanted
    )


@needs_cpp
def test_attention_trains_through_the_operator(monkeypatch):
    inputs = with_gradients([*(heads(seed, torch.float32) for seed in range(3)), temperature()])
    inputs[3] = temperature(torch.float32).requires_grad_()
    out = ops.local_channel_attention(*inputs, (5, 7))
    assert "channel_attention" in type(out.grad_fn).__name__


def test_a_map_of_zeros_has_finite_gradients():
    q = torch.zeros(1, 2, 3, 9, 9, requires_grad=True)
    operators.channel_attention(q, q, q, torch.ones(2, 1, 1), (4, 4), 1e-12).sum().backward()
    assert q.grad.isfinite().all()


@needs_torch_2_7("it fails to decompose attention")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # of torch
@pytest.mark.parametrize("name", FORWARD)
def test_decompositions_give_the_same_without_operators(name):
    """One exported program, at sizes above, at and below the window."""
    window = (12, 15)
    operator, arguments = forward_cases(window, torch.float64)[name]
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]

    class Calls(nn.Module):
        def forward(self, *given):
            left = list(given)
            return operator(*(left.pop(0) if isinstance(a, torch.Tensor) else a for a in arguments))

    height, width = (torch.export.Dim(name, min=2, max=100) for name in ("height", "width"))
    dims = [{t.ndim - 2: height, t.ndim - 1: width} if t.ndim > 3 else {} for t in tensors]
    program = torch.export.export(
        Calls(), tuple(tensors), dynamic_shapes=(tuple(dims),), strict=False
    )
    assert any("glocal" in str(node.target) for node in program.graph.nodes)
    program = program.run_decompositions(operators.decompositions())
    assert all("glocal" not in str(node.target) for node in program.graph.nodes)
    for h, w in ((13, 18), (12, 15), (7, 30), (9, 8)):
        given = [
            oracles.ramp_noise(*t.shape[:-2], h, w)
            if t.ndim == 4
            else oracles.ramp_noise(2, 6, h, w, seed=i).unflatten(1, (2, 3))
            if t.ndim == 5
            else t
            for i, t in enumerate(tensors)
        ]
        torch.testing.assert_close(program.module()(*given), Calls()(*given))


def test_decompositions_cover_every_forward_operator():
    assert {str(operator) for operator in operators.decompositions()} == {
        f"glocal.{name}.default"
        for name in (
            "window_sums",
            "window_maxima",
            "window_moments",
            "instance_norm",
            "channel_attention",
        )
    }


def test_exported_moments_are_those_of_eager_mode():
    x = ramp()
    for got, wanted in zip(
        exported.window_moments(x, (5, 40), 2), ops.local_moments(x, (5, 40), groups=2), strict=True
    ):
        torch.testing.assert_close(got, wanted.expand_as(got))


def test_a_program_form_is_recorded_and_never_run():
    @program_form(lambda x: x + 1)
    def doubled(x):
        return x * 2

    class Net(nn.Module):
        def forward(self, x):
            return doubled(x)

    x = torch.tensor([3.0])
    assert Net()(x) == 6
    assert torch.export.export(Net(), (x,)).module()(x) == 4
    assert torch.compile(Net(), backend="eager")(x) == 4
    assert doubled.__name__ == "doubled"
