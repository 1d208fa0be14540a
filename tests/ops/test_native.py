"""The C++ window operations against the slow definitions, and torch in their place."""

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from glocal import ops
from glocal.ops.kernels import native
from glocal.ops.kernels.library import kernels, library
from glocal.ops.window_map import WindowMap

FORMATS = (torch.contiguous_format, torch.channels_last)
PROBE = torch.zeros(1, 1, 8, 8)

needs_compiler = pytest.mark.skipif(
    not native.takes(PROBE), reason="the kernels are not built, or GLOCAL_KERNELS=0"
)
# windows of 4 rows and more, over maps on which all sizes of blocks and groups occur
sizes = st.tuples(st.integers(4, 90), st.integers(1, 40))
channels = st.sampled_from([1, 2, 5, 8, 16, 19, 33])


def a_map(size, channels, form, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, *size, generator=generator)
    return x.contiguous(memory_format=form)


def kept(x):
    return x.values if isinstance(x, WindowMap) else x


@needs_compiler
@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=40)
@given(size=sizes, share=st.tuples(st.floats(0, 1), st.floats(0, 1)), c=channels)
def test_sums_and_norms_are_those_of_torch(form, size, share, c):
    window = (max(4, int(share[0] * size[0])), max(1, int(share[1] * size[1])))
    x = a_map(size, c, form)
    assert native.available(x, window)
    with torch.no_grad():
        wanted = x.double().unfold(2, window[0], 1).unfold(3, window[1], 1).sum((-1, -2))
        got = native.window_sums(x, window)
        assert got.is_contiguous(memory_format=form)
        torch.testing.assert_close(got.double(), wanted, rtol=2e-6, atol=2e-5)
        torch.testing.assert_close(native.window_sums(x, window, 0.25), got / 4)
        weight, bias = torch.rand(c), torch.rand(c)
        wanted = ops.local_instance_norm(x.double(), window, weight.double(), bias.double())
        got = native.instance_norm(x, window, weight, bias, 1e-5)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=2e-5)
        for groups in {1, c}:
            for correction in (0, 1):
                options = {"groups": groups, "correction": correction}
                wanted = ops.lazy.local_moments(x.double(), window, **options)
                for one, other in zip(
                    ops.lazy.local_moments(x, window, **options), wanted, strict=True
                ):
                    assert one.dtype == torch.float64
                    torch.testing.assert_close(
                        kept(one), kept(other), rtol=1e-9, atol=1e-9, check_stride=False
                    )


@needs_compiler
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("precision", ["exact", "fast"])
@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(50, 120), st.integers(50, 120)),
    window=st.tuples(st.integers(30, 110), st.integers(30, 110)),
    c=channels,
)
def test_gates_are_those_of_torch(form, precision, size, window, c):
    x = a_map(size, c, form, batch=2)
    with torch.no_grad():
        means = ops.lazy.local_mean(x, window, precision)
        torch.testing.assert_close(
            kept(means), kept(ops.lazy.local_mean(x.double(), window, precision)).float()
        )
        if isinstance(means, WindowMap):
            got = native.multiply(x, means.values, means.axes)
            assert got.stride() == x.stride()
            torch.testing.assert_close(got, x * means.padded(), rtol=1e-6, atol=1e-6)


@needs_compiler
def test_norms_of_a_small_deviation_beside_a_large_mean():
    x = 30 + 0.1 * a_map((200, 300), 3, torch.contiguous_format)
    wanted = oracles.local_instance_norm(x.double(), (96, 80))
    got = native.instance_norm(x, (96, 80), None, None, 1e-5)
    # the deviation has 8 bits fewer than the mean
    assert (got.double() - torch.as_tensor(wanted)).abs().max() < 1e-5


def test_gradients_of_an_affine_alone_are_not_lost():
    x = a_map((20, 24), 3, torch.contiguous_format)
    weight, bias = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    ops.local_instance_norm(x, (8, 6), weight, bias).square().sum().backward()
    wide = [t.detach().double().requires_grad_() for t in (weight, bias)]
    ops.local_instance_norm(x.double(), (8, 6), *wide).square().sum().backward()
    for ours, theirs in zip((weight, bias), wide, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-4)


# rows of several strips: of adjacent channels, and of one image that threads share
WIDE = [((64, 300), 19, torch.channels_last), ((40, 9000), 1, torch.contiguous_format)]


@needs_compiler
@pytest.mark.parametrize(("size", "c", "form"), WIDE)
@pytest.mark.parametrize("window", [(32, 9), (37, 255)])
def test_wide_maps_are_summed_like_any_other(size, c, form, window):
    x = a_map(size, c, form, batch=2)
    with torch.no_grad():
        means = ops.lazy.local_mean(x.double(), window)
        got = native.window_sums(x, window, 1 / (window[0] * window[1]))
        torch.testing.assert_close(got.double(), kept(means), rtol=1e-6, atol=1e-6)
        wanted = ops.lazy.local_moments(x.double(), window)
        for one, other in zip(native.moments(x, window), wanted, strict=True):
            torch.testing.assert_close(one, kept(other), rtol=1e-9, atol=1e-9, check_stride=False)


@needs_compiler
@pytest.mark.parametrize(("size", "c", "form"), [((64, 40), 19, torch.channels_last), *WIDE])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads, size, c, form):
    before = torch.get_num_threads()
    x = a_map(size, c, form)
    wanted = native.window_sums(x, (32, 9)), native.instance_norm(x, (32, 9), None, None, 1e-5)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(native.window_sums(x, (32, 9)), wanted[0])
        assert torch.equal(native.instance_norm(x, (32, 9), None, None, 1e-5), wanted[1])
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_a_bad_pixel_spoils_only_the_windows_that_hold_it():
    x = a_map((64, 40), 17, torch.channels_last)
    x[0, 3, 40, 20] = torch.nan
    bad = native.window_sums(x, (16, 8)).isnan()
    assert bad[0, 3].nonzero().amin(0).tolist() == [25, 13]
    assert bad[0, 3].nonzero().amax(0).tolist() == [40, 20]
    assert bad.sum() == 16 * 8


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (PROBE.double(), "type"),
        (PROBE[0], "dims"),
        (PROBE.expand(1, 3, 8, 8), "memory"),
        (PROBE[..., ::2], "memory"),
        (PROBE[:0], "nothing"),
        (PROBE.clone().requires_grad_(), "gradients"),
    ],
)
def test_others_are_left_to_torch(x, why):
    assert not native.takes(x)


def test_small_windows_are_left_to_torch():
    assert not native.available(PROBE, (3, 8))


def test_results_without_kernels_are_the_same(monkeypatch):
    x = a_map((70, 50), 6, torch.contiguous_format)
    with torch.no_grad():
        wanted = [kept(f(x, (33, 20))) for f in (ops.local_mean, ops.local_instance_norm)]
        monkeypatch.setenv("GLOCAL_KERNELS", "0")
        load_anew()
        assert not native.takes(x)
        for before, f in zip(wanted, (ops.local_mean, ops.local_instance_norm), strict=True):
            torch.testing.assert_close(kept(f(x, (33, 20))), before, rtol=1e-5, atol=1e-6)
    monkeypatch.undo()
    load_anew()


def load_anew():
    kernels.cache_clear()
    library.cache_clear()


def test_fake_tensors_never_reach_the_kernels():
    with FakeTensorMode():
        x = torch.rand(1, 4, 40, 44)
        with torch.no_grad():
            assert ops.local_mean(x, (8, 8)).shape == x.shape
            assert ops.local_instance_norm(x, (8, 8)).shape == x.shape
