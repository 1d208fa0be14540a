"""The C++ products of transposed attention against those of torch, area by area."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal import ops
from glocal.ops.kernels import attention as kernel

PROBE = torch.zeros(1, 1, 2, 4, 4)

needs_compiler = pytest.mark.skipif(
    not kernel.takes(PROBE), reason="the kernels are not built, or GLOCAL_KERNELS=0"
)
channels = st.sampled_from([1, 2, 5, 6, 13, 16, 17, 24, 33, 48])
layouts = st.sampled_from(["rows", "channels last", "part of a larger one"])


def maps(layout, batch, heads, c, h, w, count=3, seed=0):
    """(batch, heads, c, h, w) in the memory layouts that networks have."""
    generator = torch.Generator().manual_seed(seed)
    if layout == "channels last":
        x = torch.randn(batch, h, w, count, heads, c, generator=generator)
        return x.permute(3, 0, 4, 5, 1, 2).unbind()
    if layout == "rows":
        return torch.randn(count, batch, heads, c, h, w, generator=generator).unbind()
    x = torch.randn(count, batch, heads, c, h + 3, w + 5, generator=generator)
    return x[..., 1 : h + 1, 2 : w + 2].unbind()


def split(lengths):
    """Adjacent slices of these numbers of pixels."""
    edges = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


@needs_compiler
@settings(max_examples=60)
@given(
    layout=layouts,
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    c=channels,
    rows=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    columns=st.lists(st.sampled_from([1, 7, 8, 15, 16, 31, 97, 500]), min_size=1, max_size=3),
)
def test_products_are_those_of_torch(layout, batch, heads, c, rows, columns):
    q, k, v = maps(layout, batch, heads, c, sum(rows), sum(columns))
    areas = [(y, x) for y in split(rows) for x in split(columns)]
    assert kernel.takes(q, k)
    grams, squares_q, squares_k = kernel.products(q, k, areas)
    matrices = torch.randn(grams.shape, generator=torch.Generator().manual_seed(1))
    out = torch.full_like(v, torch.nan)
    assert kernel.takes(v, out)
    kernel.apply(matrices, v, areas, out)
    for i, area in enumerate(areas):
        a, b, x = (t[..., *area].flatten(-2).double() for t in (q, k, v))
        near = {"rtol": 1e-5, "atol": 1e-5 * a.shape[-1] ** 0.5}
        torch.testing.assert_close(grams[i].double(), a @ b.mT, **near)
        torch.testing.assert_close(squares_q[i].double(), a.square().sum(-1), **near)
        torch.testing.assert_close(squares_k[i].double(), b.square().sum(-1), **near)
        made = out[..., *area].flatten(-2).double()
        torch.testing.assert_close(made, matrices[i].double() @ x, rtol=1e-5, atol=1e-5 * c)


@needs_compiler
@pytest.mark.parametrize("layout", ["rows", "channels last"])
def test_nothing_is_written_outside_an_area(layout):
    v, out, _ = maps(layout, 1, 2, 5, 9, 20)
    before = out.clone()
    area = (slice(2, 6), slice(3, 14))
    kernel.apply(torch.randn(1, 1, 2, 5, 5), v, [area], out)
    assert not torch.equal(out, before)
    out[..., *area] = before[..., *area]
    assert torch.equal(out, before)


@needs_compiler
@pytest.mark.parametrize("layout", ["rows", "channels last"])
def test_threads_change_nothing(layout):
    before = torch.get_num_threads()
    q, k, v = maps(layout, 2, 3, 24, 40, 64)
    wanted = ops.local_channel_attention(q, k, v, 1.0, (17, 30))
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            assert torch.equal(ops.local_channel_attention(q, k, v, 1.0, (17, 30)), wanted)
    finally:
        torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize("layout", ["rows", "channels last", "part of a larger one"])
def test_attention_is_that_of_torch(layout, monkeypatch):
    q, k, v = maps(layout, 2, 3, 16, 50, 70)
    got = ops.local_channel_attention(q, k, v, 1.5, (24, 40))
    monkeypatch.setattr(kernel, "takes", lambda *maps: False)
    wanted = ops.local_channel_attention(q, k, v, 1.5, (24, 40))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    double = (t.double() for t in (q, k, v))
    truth = ops.local_channel_attention(*double, 1.5, (24, 40))
    torch.testing.assert_close(got.double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", ["q", "k", "v", "temperature"])
def test_a_gradient_by_one_input_alone_is_not_lost(wanted):
    given = dict(zip("qkv", maps("rows", 1, 2, 4, 9, 12), strict=True))
    given = {name: t.clone() for name, t in given.items()}
    given["temperature"] = torch.full((2, 1, 1), 1.5)
    given[wanted].requires_grad_()
    ops.local_channel_attention(**given, window=(4, 5)).square().sum().backward()
    got = given[wanted].grad
    wide = {name: t.detach().double().requires_grad_() for name, t in given.items()}
    ops.local_channel_attention(**wide, window=(4, 5)).square().sum().backward()
    torch.testing.assert_close(got.double(), wide[wanted].grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("maps", "why"),
    [
        ([PROBE.double()], "type"),
        ([PROBE[..., ::2]], "memory"),
        ([PROBE, PROBE[:, :, :1]], "shapes"),
        ([PROBE.clone().requires_grad_()], "gradients"),
        ([PROBE, torch.zeros(1, 4, 4, 1, 2).permute(0, 3, 4, 1, 2)], "two layouts"),
    ],
)
def test_others_are_left_to_torch(maps, why):
    assert not kernel.takes(*maps)
