"""Maps that store one value per window, against the full maps that they look like."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glocal import ops
from glocal.ops import lazy
from glocal.ops.gradient_map import GradientMap
from glocal.ops.kernels import native
from glocal.ops.program_map import ProgramGrid, ProgramMap
from glocal.ops.window_map import WindowMap, as_map, full_map, values_like, values_of
from glocal.ops.windows import AxisWindows, window_axes

CHANNELS = 4
CONVOLUTION = nn.Conv2d(CHANNELS, CHANNELS, 1).requires_grad_(False)
POINTS = torch.ones(CHANNELS, CHANNELS, 1, 1)
FORMATS = (torch.contiguous_format, torch.channels_last)

# operation of a map and pixels of the same shape; True where the result is a WindowMap
OPERATIONS = {
    "gate": (lambda m, x: x * m, False),
    "gate from the left": (lambda m, x: m * x, False),
    "excitation": (lambda m, x: x * CONVOLUTION(F.relu(m)).sigmoid(), False),
    "convolution": (lambda m, x: CONVOLUTION(m), True),
    "wide convolution": (lambda m, x: F.conv2d(m, torch.ones(2, CHANNELS, 3, 3), padding=1), False),
    "grouped convolution": (lambda m, x: F.conv2d(m, torch.ones(2, 2, 1, 1), groups=2), True),
    "strided convolution": (lambda m, x: F.conv2d(m, POINTS, stride=2), False),
    "padded convolution": (lambda m, x: F.conv2d(m, POINTS, padding=1), False),
    "transposed convolution": (lambda m, x: F.conv_transpose2d(m, POINTS), False),
    "norm": (lambda m, x: (x - m) / (m * m + 1).sqrt(), False),
    "alone": (lambda m, x: (m * 2 + 1).exp(), True),
    "with a value a channel": (lambda m, x: m * torch.arange(4.0).view(1, 4, 1, 1), True),
    "in place on pixels": (lambda m, x: x.clone().mul_(m), False),
    "in place on the map": (lambda m, x: F.relu(m - 0.5, inplace=True) * x, False),
    "pixels into the map": (lambda m, x: m.clone().add_(x) * 1, True),
    "assignment": (lambda m, x: _assigned(m), True),
    "three at once": (lambda m, x: torch.addcmul(x, m, x), False),
    "choice": (lambda m, x: torch.where(m > 0.5, x, m), False),
    "with a row": (lambda m, x: m + x[:1, :1, :1], False),
    "types": (lambda m, x: m.double() * x, False),
    "layout": (lambda m, x: m.permute(0, 2, 3, 1) + 1, False),
    "reduction": (lambda m, x: m.mean((2, 3)), False),
    "view": (lambda m, x: m.reshape(m.shape[0], -1), False),
    "join": (lambda m, x: torch.cat([m, x], 1), False),
    "resize": (lambda m, x: F.interpolate(m, scale_factor=2.0), False),
    "equality": (lambda m, x: torch.tensor(torch.equal(m, m.clone())), False),
}


def _assigned(m):
    m = m.clone()
    m[..., 0, 0] = 7
    return m


def example(size, counts, befores, step, seed=0, form=torch.contiguous_format):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, CHANNELS, *counts, generator=generator).contiguous(memory_format=form)
    axes = tuple(AxisWindows(n, c, b, step) for n, c, b in zip(size, counts, befores, strict=True))
    pixels = torch.rand(2, CHANNELS, *size, generator=generator).contiguous(memory_format=form)
    return WindowMap(values, axes), pixels


CASES = {
    "each pixel's": ((12, 20), (5, 7), (3, 6), 1),
    "from the border on": ((5, 9), (5, 2), (0, 4), 1),
    "a grid of them": ((50, 33), (4, 3), (9, 5), 8),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_see_the_full_map(name, case, form):
    operation, lazy = OPERATIONS[name]
    if case == "a grid of them":
        # Other operations run on the stored values, which are interpolated afterwards.
        linear = ("gate", "from the left", "wide", "layout", "reduction", "view", "join", "resize")
        if not any(word in name for word in linear):
            pytest.skip("not linear in the map")
    with torch.inference_mode():
        made, pixels = example(*CASES[case], form=form)
        full = made.padded()
        got, wanted = operation(made, pixels), operation(full, pixels)
        assert isinstance(got, WindowMap) == lazy
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        exact = case != "a grid of them" and "convolution" not in name and name != "excitation"
        tolerance = 0 if exact else 1e-5
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("native_too", [True, False])
def test_a_gate_never_becomes_a_full_map(monkeypatch, native_too):
    if not native_too:
        monkeypatch.setattr(native, "takes", lambda x: False)
    monkeypatch.setattr(WindowMap, "padded", lambda self: pytest.fail("a full map was made"))
    with torch.inference_mode():
        made, pixels = example(*CASES["each pixel's"])
        pixels * CONVOLUTION(made).relu_().add(1).sigmoid()
        pixels.sub_(made)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_conversion_to_its_own_dtype_leaves_a_map_as_it_is(mode):
    """Inference mode shows it as an operation that may return a view."""
    with mode():
        made, _ = example(*CASES["each pixel's"])
        axes = made.axes
        assert made.to(made.dtype).values.shape == made.values.shape
        assert made.contiguous().axes == made.axes == axes


def test_values_at_the_windows_of_another_map():
    with torch.no_grad():
        made, _ = example(*CASES["each pixel's"])
        stored = WindowMap(made.values, made.axes)
        stored._store_all()
        assert torch.equal(values_like(made, stored), made.padded())
        assert torch.equal(values_like(stored, made), made.values)
        assert torch.equal(values_like(made, made.padded()), made.padded())


def test_what_is_interpolated_lies_between_its_neighbours():
    with torch.inference_mode():
        made, _ = example(*CASES["a grid of them"])
        full = made.padded()
        torch.testing.assert_close(full[..., 9::8, 5::8][..., :4, :3], made.values)
        torch.testing.assert_close(full[..., 13, 5], made.values[..., :2, 0].mean(-1))
        torch.testing.assert_close(full[..., :9, :5], made.values[..., :1, :1].expand(2, 4, 9, 5))
        assert full.amax() <= made.values.amax()


def test_it_is_copied_and_stored_as_a_plain_tensor():
    made, _ = example(*CASES["each pixel's"])
    full = made.padded()
    assert (made.numpy() == full.numpy()).all()
    assert made.tolist() == full.tolist()
    assert repr(made) == repr(full)
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    for other in (torch.load(file), copy.deepcopy(made)):
        assert type(other) is torch.Tensor
        assert torch.equal(other, full)


def test_with_gradients_maps_are_plain():
    x = torch.rand(1, 2, 9, 9, requires_grad=True)
    assert type(lazy.local_mean(x, (3, 3))) is torch.Tensor
    with torch.no_grad():
        assert type(lazy.local_mean(x, (3, 3))) is WindowMap
        assert type(lazy.local_mean(x, (9, 9))) is torch.Tensor  # covered: the global result


PUBLIC = {
    "mean": ops.local_mean,
    "sum": ops.local_sum,
    "maximum": ops.local_max,
    "norm": ops.local_norm,
    "mean of moments": lambda x, window: ops.local_moments(x, window)[0],
    "variance": lambda x, window: ops.local_moments(x, window, correction=1)[1],
    "instance norm": ops.local_instance_norm,
    "group norm": lambda x, window: ops.local_group_norm(x, 2, window),
    "layer norm": ops.local_layer_norm,
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("window", [(3, 4), (3, 20), (20, 3), (20, 20)])
@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_return_plain_tensors(name, window, mode):
    x = torch.rand(2, 4, 9, 12)
    with mode():
        got = PUBLIC[name](x, window)
    assert type(got) is torch.Tensor
    covered = tuple(1 if k >= n else n for k, n in zip(window, (9, 12), strict=True))
    assert got.shape == (2, 4, *((9, 12) if "norm" in name[5:] else covered))


@pytest.mark.parametrize("name", ["local_mean", "local_sum", "local_max", "local_norm"])
def test_lazy_statistics_are_the_public_ones(name):
    x = torch.rand(2, 4, 9, 12)
    with torch.no_grad():
        got = getattr(lazy, name)(x, (3, 20))
        assert torch.equal(full_map(got), getattr(ops, name)(x, (3, 20)))


def test_values_and_back():
    with torch.no_grad():
        made = lazy.local_mean(torch.rand(1, 2, 9, 12), (3, 5))
        values, as_such_a_map = values_of(made)
        assert values.shape == (1, 2, 7, 8)
        assert torch.equal(as_such_a_map(values * 2), made * 2)
        plain = torch.rand(3)
        assert values_of(plain)[0] is plain


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    window=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    fast=st.booleans(),
)
def test_axes_name_windows_inside_of_the_map(size, window, fast):
    window = (min(window[0], size[0]), min(window[1], size[1]))
    for n, k, axis in zip(
        size, window, window_axes(size, window, "fast" if fast else "exact"), strict=True
    ):
        if k == n:
            assert axis == AxisWindows(1, 1)
            continue
        first = axis.before - (k - 1) // 2
        last = first + (axis.count - 1) * axis.step
        assert 0 <= first < max(1, axis.step)
        assert n - k - axis.step < last <= n - k
        # no pixel's own window is more than half a step from one that has a value
        assert max(first, n - k - last) <= axis.step / 2
        assert axis.step == 1 or axis.step <= k / 16


def test_as_map_is_plain_where_nothing_is_saved():
    with torch.no_grad():
        values = torch.rand(1, 2, 3, 4)
        assert as_map(values, (AxisWindows(3, 3), AxisWindows(4, 4))) is values


def between_centres(kind):
    """A map that wants a gradient, or that is part of a program, and the same as a plain tensor."""
    values = torch.rand(1, 2, 2, 3)
    if kind is ProgramMap:
        grid = ProgramGrid(torch.tensor([0.0, 5.0]), torch.tensor([0.0, 2.0, 7.0]), (4, 4))
        made = ProgramMap(values, grid.axes((4, 4), (9, 11)))
    else:
        centres = ((1.5, 6.5), (1.5, 3.5, 8.5))
        rows, columns = (
            AxisWindows(n, len(c), centres=c) for n, c in zip((9, 11), centres, strict=True)
        )
        made = GradientMap(values, (rows, columns))
    return made, made.padded().clone()


@pytest.mark.parametrize("kind", [GradientMap, ProgramMap])
def test_maps_above_autograd_compute_what_full_maps_compute(kind):
    x = torch.rand(1, 2, 9, 11)
    made, full = between_centres(kind)
    assert torch.equal(made > 0.5, full > 0.5)
    assert torch.equal(made.mean((2, 3)), full.mean((2, 3)))
    assert type(made * 2 + 1) is kind
    assert torch.allclose(full_map(made * 2 + 1), full * 2 + 1)
    made.add_(x)
    made.mul_(2)
    assert torch.allclose(made + 0, (full + x) * 2)
