"""Local operations against the slow definitions, over odd, even and oversize windows.

More than 300 lines: tests mirror the modules, one file for each.
"""

from unittest.mock import patch

import oracles
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal import ops
from glocal.errors import ArgumentError
from glocal.ops import exported, lazy, numerics
from glocal.ops.kernels import native
from glocal.ops.window_map import WindowMap
from glocal.ops.windows import Overlap, covers, window_axes
from glocal.testing import check_law_of_tiles, check_law_of_windows

sides = st.integers(1, 13)
pairs = st.tuples(sides, sides)
windows = st.tuples(st.integers(1, 16), st.integers(1, 16))
HALVES = (torch.float16, torch.bfloat16)

STATISTICS = {
    "mean": (ops.local_mean, oracles.local_mean),
    "max": (ops.local_max, oracles.local_max),
    "norm": (ops.local_norm, oracles.local_norm),
    "moment 1": (lambda x, k: ops.local_moments(x, k)[0], oracles.local_mean),
    "moment 2": (lambda x, k: ops.local_moments(x, k)[1], oracles.local_var),
    "instance norm": (ops.local_instance_norm, oracles.local_instance_norm),
    "group norm": (
        lambda x, k: ops.local_group_norm(x, 2, k),
        lambda x, k: oracles.local_group_norm(x, 2, k),
    ),
    "layer norm": (ops.local_layer_norm, oracles.local_layer_norm),
}
statistics = pytest.mark.parametrize("name", STATISTICS)


def ramp(b, c, size, seed=0):
    return oracles.ramp_noise(b, c, *size, seed=seed)


def close(got, wanted, tolerance=1e-10):
    wanted = torch.as_tensor(wanted)
    assert got.shape == wanted.shape
    error = (got.double() - wanted).abs().max()
    assert error <= tolerance * wanted.abs().max().clamp_min(1), f"differs by {error:.3g}"


@statistics
@settings(max_examples=25)
@given(size=pairs, window=windows, batch=st.integers(1, 2))
def test_statistic_equals_its_definition(name, size, window, batch):
    local, oracle = STATISTICS[name]
    x = ramp(batch, 4, size)
    close(local(x, window).expand(batch, 4, *size), oracle(x, window), 1e-8)


@pytest.mark.parametrize(
    ("local", "whole"),
    [
        (ops.local_mean, lambda x: x.mean((2, 3), keepdim=True)),
        (ops.local_max, lambda x: x.amax((2, 3), keepdim=True)),
        (ops.local_norm, lambda x: x.square().sum((2, 3), keepdim=True).sqrt()),
        (lambda x, k: ops.local_moments(x, k)[1], lambda x: x.var((2, 3), False, keepdim=True)),
        (ops.local_instance_norm, lambda x: oracles.local_instance_norm(x, (99, 99))),
        (lambda x, k: ops.local_group_norm(x, 2, k), lambda x: F.group_norm(x, 2)),
        (ops.local_layer_norm, lambda x: F.layer_norm(x, x.shape[1:])),
    ],
)
@settings(max_examples=10)
@given(size=pairs, window=windows)
def test_law_of_windows(local, whole, size, window):
    check_law_of_windows(lambda x: local(x, window), whole, ramp(1, 4, size), window, 1e-8)


@statistics
@given(size=pairs)
@settings(max_examples=10)
def test_a_window_over_the_whole_map_gives_the_global_bits(name, size):
    local, _ = STATISTICS[name]
    x = ramp(2, 4, size).float()
    wanted = {
        "mean": lambda: x.mean((-2, -1), keepdim=True),
        "max": lambda: x.amax((-2, -1), keepdim=True),
        "norm": lambda: torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True),
        "group norm": lambda: F.group_norm(x, 2),
        "layer norm": lambda: F.group_norm(x, 1),
    }
    if name in wanted:
        for window in (size, (size[0] + 1, size[1] + 9)):
            assert torch.equal(local(x, window), wanted[name]())
    elif name == "instance norm" and size != (1, 1):
        assert torch.equal(local(x, size), F.instance_norm(x))


@pytest.mark.parametrize("size", [(9, 11), (1, 12), (12, 1), (5, 5)])
@pytest.mark.parametrize("window", [(4, 5), (20, 3), (3, 20), (5, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES])
@statistics
def test_every_dtype_comes_back_and_is_as_close_as_it_can_be(name, size, window, dtype):
    local, oracle = STATISTICS[name]
    x = ramp(2, 4, size).to(dtype)
    got = local(x, window)
    assert got.dtype == (torch.float64 if name.startswith("moment") else dtype)
    wanted = torch.as_tensor(oracle(x.double(), window))
    # Rounding the result, and for norms the affine steps after it: a few units in the last place.
    error = (got.double().expand_as(wanted) - wanted).abs().max()
    unit = max(8 * torch.finfo(dtype).eps, 1e-10)
    assert error <= unit * wanted.abs().max().clamp_min(1)


@statistics
def test_memory_format_does_not_matter(name):
    local, _ = STATISTICS[name]
    x = ramp(2, 4, (9, 10)).float()
    got = local(x.to(memory_format=torch.channels_last), (4, 3))
    torch.testing.assert_close(got, local(x, (4, 3)), rtol=1e-6, atol=1e-6)


def test_slices_change_nothing(monkeypatch):
    x = ramp(2, 6, (9, 10)).float()
    whole = {n: f(x, (4, 3)) for n, (f, _) in STATISTICS.items()}
    monkeypatch.setattr(numerics, "SLICE_PIXELS", 2 * 90)
    for name, (local, _) in STATISTICS.items():
        torch.testing.assert_close(local(x, (4, 3)), whole[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(30.0, 0.1), (100.0, 0.003)])
def test_moments_hold_for_a_large_mean_and_a_small_deviation(mean, std):
    generator = torch.Generator().manual_seed(0)
    x = mean + std * torch.randn(1, 1, 720, 1280, generator=generator)
    for window in ((96, 96), (384, 384)):
        _, variance = ops.local_moments(x, window)
        wanted = torch.as_tensor(oracles.var_by_sums(x.double(), window))
        assert ((variance - wanted).abs() / wanted).max() < 1e-3
        assert (variance >= 0).all()
        normalised = ops.local_instance_norm(x, window)
        wanted = torch.as_tensor(oracles.instance_norm_by_sums(x.double(), window))
        assert normalised.isfinite().all()
        assert (normalised.double() - wanted).abs().max() / wanted.abs().max() < 1e-3


def test_variance_of_a_constant_is_never_negative():
    x = torch.full((1, 1, 40, 40), 1e4 / 3)
    _, variance = ops.local_moments(x, (7, 7))
    assert (variance >= 0).all()
    assert ops.local_instance_norm(x, (7, 7)).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", HALVES)
@statistics
def test_half_precision_stays_finite_at_720p(name, dtype):
    local, _ = STATISTICS[name]
    x = (ramp(1, 2, (720, 1280)) * 4).to(dtype)
    x = torch.cat([x, x], 1)
    assert local(x, (384, 384)).isfinite().all()


def test_a_bad_pixel_spoils_only_the_windows_that_hold_it():
    x = torch.zeros(1, 1, 1, 20)
    x[..., 10] = float("inf")
    spoiled = ops.local_mean(x, (1, 3)).isinf().flatten().nonzero().flatten()
    assert spoiled.tolist() == [9, 10, 11]


def test_mean_of_a_small_window_at_4k_is_exact():
    # The official float32 prefix sums are off by 1e-2 here.
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 2160, 3840, generator=generator)
    wanted = torch.as_tensor(oracles.mean_by_sums(x.double(), (24, 24)))
    assert (ops.local_mean(x, (24, 24)).double() - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("correction", [0, 1])
def test_correction(correction):
    x = ramp(1, 2, (7, 8))
    _, variance = ops.local_moments(x, (3, 4), correction=correction)
    close(variance, oracles.local_var(x, (3, 4), correction), 1e-9)


def test_groups_must_divide():
    with pytest.raises(ArgumentError, match="got 2 groups of 5 channels"):
        ops.local_moments(torch.zeros(1, 5, 4, 4), (2, 2), groups=2)


def test_affine():
    x, weight, bias = ramp(2, 4, (8, 9)), torch.rand(4).double(), torch.rand(4).double()
    for window in ((3, 4), (20, 20)):
        close(
            ops.local_instance_norm(x, window, weight, bias, 1e-3),
            oracles.local_instance_norm(x, window, weight, bias, 1e-3),
        )
        close(
            ops.local_group_norm(x, 2, window, weight, bias, 1e-3),
            oracles.local_group_norm(x, 2, window, weight, bias, 1e-3),
        )


# ---- transposed attention


def attention_inputs(b, size, seed=0):
    q, k, v = (ramp(b, 6, size, seed + i).unflatten(1, (2, 3)) - 0.5 for i in range(3))
    return q, k, v, torch.tensor([0.7, 3.0]).double().view(2, 1, 1)


@settings(max_examples=40)
@given(
    size=pairs,
    window=windows,
    batch=st.integers(1, 2),
    cached=st.sampled_from([1, 500, 2**20]),  # bytes: a row at a time, a few, all
    channels_last=st.booleans(),
)
def test_attention_equals_overlapping_windows_averaged(size, window, batch, cached, channels_last):
    q, k, v, temperature = attention_inputs(batch, size)
    wanted = oracles.local_channel_attention(q, k, v, temperature, window)
    if channels_last:
        q, k, v = (t.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2) for t in (q, k, v))
    with patch("glocal.ops.attention_by_cells.CACHED_BYTES", cached):
        close(ops.local_channel_attention(q, k, v, temperature, window), wanted)


@pytest.mark.parametrize("window", [(4, 5), (20, 3), (20, 20)])
def test_attention_obeys_the_law_of_tiles(window):
    q, k, v, temperature = attention_inputs(2, (9, 12))

    def split(x):
        return (*x.unflatten(1, (3, 2, 3)).unbind(1), temperature)

    def whole(x):
        q, k, v, t = split(x)
        q, k, v = (
            F.normalize(a.flatten(3), dim=-1) if a is not v else a.flatten(3) for a in (q, k, v)
        )
        out = (q @ k.transpose(-2, -1) * t).softmax(-1) @ v
        return out.unflatten(-1, x.shape[-2:]).flatten(1, 2)

    check_law_of_tiles(
        lambda x: ops.local_channel_attention(*split(x), window).flatten(1, 2),
        whole,
        torch.cat([q, k, v], 1).flatten(1, 2),
        window,
    )


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_in_half_precision_does_not_overflow(dtype):
    # The Gram matrix of unnormalised features over many pixels passes 65504.
    q, k, v, temperature = (t.to(dtype) for t in attention_inputs(1, (300, 400)))
    got = ops.local_channel_attention(q * 30, k * 30, v, temperature.to(dtype), (200, 200))
    wanted = ops.local_channel_attention(*(t.double() for t in (q, k, v, temperature)), (200, 200))
    assert got.dtype == dtype
    assert (got - wanted).abs().max() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("cached", [1, 2**20])
def test_attention_without_grad_equals_attention_with(cached, monkeypatch):
    monkeypatch.setattr("glocal.ops.attention_by_cells.CACHED_BYTES", cached)
    inputs = attention_inputs(2, (9, 12))
    with_grad = ops.local_channel_attention(*inputs, (4, 5))
    with torch.no_grad():
        assert torch.equal(ops.local_channel_attention(*inputs, (4, 5)), with_grad)


@pytest.mark.parametrize("window", [(4, 5), (9, 4), (20, 20)])
def test_attention_without_branches_is_the_same(window):
    q, k, v, temperature = attention_inputs(2, (9, 12))
    wanted = ops.local_channel_attention(q, k, v, temperature, window)
    close(exported.channel_attention(q, k, v, temperature, window, 1e-12), wanted)


# ---- tiles


overlaps = st.builds(
    Overlap, st.sampled_from([0.0, 0.25, 0.5, 0.8]), st.sampled_from(["mean", "linear"])
)


@given(size=pairs, window=windows, batch=st.integers(1, 3), overlap=overlaps)
def test_untile_undoes_tile(size, window, batch, overlap):
    x = ramp(batch, 2, size)
    tiles = ops.unfold_windows(x, window, overlap)
    assert covers(window, tuple(tiles.shape[-2:]))
    close(ops.fold_windows(tiles, size, overlap=overlap), x)


@given(size=pairs, window=windows, batch=st.integers(1, 3), overlap=overlaps)
def test_tiles_without_branches_blend_to_the_same_map(size, window, batch, overlap):
    x = ramp(batch, 2, size)

    def f(tiles):
        return tiles * tiles.amax((-2, -1), keepdim=True)

    wanted = ops.fold_windows(f(ops.unfold_windows(x, window, overlap)), size, overlap=overlap)
    close(
        exported.fold_windows(
            f(exported.unfold_windows(x, window, overlap)), size, window, overlap
        ),
        wanted,
    )


def test_linear_blending_weighs_by_the_distance_from_the_border():
    # Windows 0-3 and 2-5 of an axis of 6.
    tiles = torch.stack([torch.zeros(1, 1, 4), torch.ones(1, 1, 4)])
    overlap = Overlap(0.5, "linear")
    blended = ops.fold_windows(tiles, (1, 6), overlap=overlap).flatten().tolist()
    assert blended == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_untile_averages_overlaps():
    # Windows 0-2 and 1-3 of an axis of 4.
    tiles = torch.stack([torch.zeros(1, 1, 3), torch.ones(1, 1, 3)])
    assert ops.fold_windows(tiles, (1, 4)).flatten().tolist() == [0.0, 0.5, 0.5, 1.0]


def test_untile_refuses_a_wrong_count():
    with pytest.raises(
        ArgumentError, match=r"got 3 tiles of 1x3 for maps of 1x4, which take 2 each"
    ):
        ops.fold_windows(torch.zeros(3, 1, 1, 3), (1, 4))


# ---- gradients


@pytest.mark.slow
@pytest.mark.parametrize("window", [(3, 4), (20, 3), (20, 20)])
@statistics
def test_gradients(name, window):
    local, _ = STATISTICS[name]
    x = ramp(1, 2, (5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: local(x, window), (x,))


@pytest.mark.slow
def test_gradients_of_attention():
    inputs = [t[:, :, :2].requires_grad_() for t in attention_inputs(1, (4, 5))[:3]]
    temperature = torch.tensor([0.7, 3.0]).double().view(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *a: ops.local_channel_attention(*a, (3, 3)), (*inputs, temperature)
    )


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    window=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    seed=st.integers(0, 100),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_fast_means_lie_within_their_bound(form, size, window, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    # steps and spikes: what moves a window's mean most from one place to the next
    x = torch.rand(1, 3, *size, generator=generator, dtype=dtype).round()
    x = x.cumsum(-1).cumsum(-2).remainder(7).contiguous(memory_format=form)
    window = (min(window[0], size[0]), min(window[1], size[1]))
    with torch.no_grad():
        exact, fast = ops.local_mean(x, window), lazy.local_mean(x, window, "fast")
        assert fast.shape == exact.shape
        axes = window_axes(size, window, "fast")
        bound = sum(a.step / (2 * k) for a, k in zip(axes, window, strict=True) if a.step > 1)
        assert bound <= 1 / 16
        extent = x.amax((2, 3), keepdim=True) - x.amin((2, 3), keepdim=True)
        assert ((fast - exact).abs() <= extent * bound + 1e-5).all()
        if isinstance(fast, WindowMap):  # its values are exact
            rows, columns = (slice(a.before if a.size > 1 else 0, None, a.step) for a in fast.axes)
            count = fast.values.shape[-2:]
            there = exact + torch.zeros_like(x[:, :, : exact.shape[2], : exact.shape[3]])
            there = there[..., rows, columns][..., : count[0], : count[1]]
            torch.testing.assert_close(fast.values, there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["moments", "instance norm", "group norm", "norm", "sum"])
def test_fast_statistics_are_close_and_never_negative(name):
    x = oracles.ramp_noise(1, 4, 200, 260)
    window = (96, 100)
    with torch.no_grad():
        if name == "moments":
            for got, wanted in zip(
                ops.local_moments(x, window, precision="fast"),
                ops.local_moments(x, window),
                strict=True,
            ):
                assert (got - wanted).abs().max() < 0.02 * wanted.abs().max()
            assert ops.local_moments(x, window, precision="fast")[1].min() >= 0
            return
        local = {
            "instance norm": ops.local_instance_norm,
            "group norm": lambda x, k, **options: ops.local_group_norm(x, 2, k, **options),
            "norm": ops.local_norm,
            "sum": ops.local_sum,
        }[name]
        got, wanted = local(x, window, precision="fast"), local(x, window)
        assert (got - wanted).abs().max() < 0.02 * wanted.abs().max()


@statistics
@settings(max_examples=25)
@given(size=pairs, window=windows, batch=st.integers(1, 2))
def test_statistics_without_gradients_equal_their_definition(name, size, window, batch):
    local, oracle = STATISTICS[name]
    x = ramp(batch, 4, size)
    with torch.no_grad():
        close(local(x, window).expand(batch, 4, *size), oracle(x, window), 1e-8)
        single = local(x.float(), window).expand(batch, 4, *size)
        close(single, oracle(x.float().double(), window), 1e-5)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(200, 1100), (1100, 200)])
def test_large_maps_equal_small_ones(monkeypatch, form, size):
    """What is worked on by rows and by strips, without the compiled operations."""
    monkeypatch.setattr(native, "takes", lambda x: False)
    x = oracles.ramp_noise(1, 32, *size).contiguous(memory_format=form)
    with torch.no_grad():
        got = lazy.local_mean(x, (100, 97)).values
        for y, x0 in ((0, 0), (37, 11), (got.shape[2] - 1, got.shape[3] - 1)):
            wanted = x[..., y : y + 100, x0 : x0 + 97].mean((2, 3))
            torch.testing.assert_close(got[..., y, x0], wanted)
