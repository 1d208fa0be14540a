"""The law of windows within one block, against the block on the window of each pixel.

The mean and the scale of the inputs vary over the map, so that statistics of different windows
differ. More than 300 lines: a table of spellings.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from captured import CHANNELS, SIZES, Block
from oracles.idioms.idiom import by_windows
from versions import needs_torch_2_7

from glocal.conversion.rewrite import Rewritten, capture, rewrite
from glocal.errors import ConversionError
from glocal.scanning.trace import Spec

WINDOW, SIZE = (7, 6), (10, 13)
D = (2, 3)
MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)


def mean(x):
    return x.mean(D, keepdim=True)


def centred(x):
    return x - mean(x)


def std(x):
    return x.std(D, keepdim=True)


def area(x):
    return x.shape[2] * x.shape[3]


def gate(statistic):
    """Return a block that excites channels by a statistic (b, c)."""
    return lambda m, x: x * m.fc(statistic(m, x))[..., None, None].sigmoid()


def then(first, second):
    """Return a block that passes a map on from one function to another."""
    return lambda m, x: second(first(x))


def min_max_in_steps(x):
    x = x - x.amin(D, keepdim=True)
    return x / x.amax(D, keepdim=True)


def min_max_flat(x):
    y = x.flatten(2)
    y = y - y.min(2, keepdim=True).values
    return (y / (y.max(2, keepdim=True).values + 1e-3)).view_as(x)


def variance_by_moments(x):
    y = centred(x)
    return y * ((y * y).mean(D, keepdim=True) - mean(y) ** 2 + 1e-3).rsqrt()


def softmax_by_hand(x):
    powers = (x - x.amax(D, keepdim=True)).exp()
    return x + (powers / powers.sum(D, keepdim=True) * x).sum(D, keepdim=True)


def guided_filter(m, x):
    y = m.conv(x)
    a = (mean(x * y) - mean(x) * mean(y)) / (mean(x * x) - mean(x) * mean(x) + 0.1)
    return a * x + mean(y) - a * mean(x)


def guided_filter_centred(m, x):
    a, b = centred(x), centred(m.conv(x))
    return mean(a * b) / (mean(a**2) + 0.1) * a + mean(m.conv(x))


def correlation(m, x):
    a, b = centred(x), centred(m.conv(x))
    return x * (a * b).sum(D, keepdim=True) / (a.norm(dim=D, keepdim=True) * std(b) + 1e-3)


def channels_last(x):
    y = x.permute(0, 2, 3, 1)
    y = y - y.mean((1, 2), keepdim=True)
    return (y / (y.pow(2).mean((1, 2), keepdim=True) + 1e-3).sqrt()).permute(0, 3, 1, 2)


def grouped(x):
    y = x.view(x.shape[0], 2, 2, *x.shape[2:])
    y = y - y.mean((2, 3, 4), keepdim=True)
    return (y / (y.var((2, 3, 4), keepdim=True) + 1e-3).sqrt()).view_as(x)


def halves(x):
    a, b = centred(x).chunk(2, 1)
    return torch.cat([a * std(b), b * a.pow(2).mean(D, keepdim=True)], 1)


def two_maps(m, x):
    z = m.conv(x)
    y = x * mean(z) + z * mean(x)
    return y / (1 + y.var(D, keepdim=True))


def gate_after_gate(between):
    def function(m, x):
        y = between(x * m.fc(x.mean(D))[..., None, None].tanh())
        return y * m.fc(y.mean(D))[..., None, None].sigmoid()

    return function


STEPS = {  # one statistic after another
    "centred, then std": then(centred, lambda y: y / (std(y) + 1e-5)),
    "centred, then var": then(
        centred, lambda y: y / (y.var(D, keepdim=True, unbiased=False) + 1e-5).sqrt()
    ),
    "centred, then norm": then(centred, lambda y: y / (y.norm(dim=D, keepdim=True) + 1e-5)),
    "centred, then var_mean": then(
        centred, lambda y: sum(torch.var_mean(y, D, keepdim=True)) * y
    ),
    "centred, then std of its flat map": then(
        centred, lambda y: y / (y.flatten(2).std(-1)[..., None, None] + 1e-3)
    ),
    "centred, then std of its permutation": then(
        centred, lambda y: y / (y.permute(0, 2, 3, 1).std((1, 2))[..., None, None] + 1e-3)
    ),
    "scaled, then norm of order 1": then(
        lambda x: x * mean(x), lambda y: y / torch.linalg.vector_norm(y, 1, D, keepdim=True)
    ),
    "normalised, then third moment": then(
        lambda x: centred(x) / (std(x) + 0.1), lambda y: y * mean(y**3)
    ),
    "fourth moment": then(centred, lambda y: y + mean(y**4) / (mean(y * y) ** 2 + 1e-3)),
    "third moment": then(centred, lambda y: y * mean(y.pow(3)) / (mean(y.pow(2)) + 1e-3)),
    "min-max in steps": then(min_max_in_steps, lambda y: y * mean(y)),
    "min-max of a flat map": then(min_max_flat, lambda y: y),
    "negative scale, then maximum": then(
        lambda x: x * -mean(x), lambda y: y - y.amax(D, keepdim=True)
    ),
    "variance by moments": then(variance_by_moments, lambda y: y),
    "softmax by hand": then(softmax_by_hand, lambda y: y),
    "softmax of the centred map": then(
        lambda x: centred(x).flatten(2).softmax(-1).view_as(x) * x,
        lambda y: y.sum(D, keepdim=True) + torch.zeros_like(y),
    ),
    "log-sum-exp of the centred map": then(
        centred, lambda y: y * y.flatten(2).logsumexp(-1)[..., None, None]
    ),
    "guided filter": guided_filter,
    "guided filter of centred maps": guided_filter_centred,
    "correlation": correlation,
    "channels last": then(channels_last, lambda y: y),
    "groups of channels": then(grouped, lambda y: y),
    "layer norm by hand": then(
        lambda x: x - x.mean((1, 2, 3), keepdim=True),
        lambda y: y / (y.std((1, 2, 3), keepdim=True) + 1e-3),
    ),
    "halves": then(halves, lambda y: y),
    "mean of channels": then(centred, lambda y: y * std(y.mean(1, keepdim=True))),
    "instance norm of a gated map": then(lambda x: x * mean(x), F.instance_norm),
    "group norm of a gated map": then(lambda x: x * mean(x) + 1, lambda y: F.group_norm(y, 2)),
    "layer norm of a gated map": then(
        lambda x: x * mean(x), lambda y: F.layer_norm(y, y.shape[1:])
    ),
    "residual": then(lambda x: x * mean(x) + x, lambda y: y / (1 + std(y))),
    "two maps": two_maps,
    "gate after gate": gate_after_gate(lambda y: y),
    "gate, relu, gate": gate_after_gate(torch.relu),
    "gate, leaky relu, gate": gate_after_gate(lambda y: F.leaky_relu(y, 0.2)),
    "gate, magnitude, gate": gate_after_gate(torch.abs),
    "response normalisation": then(
        centred,
        lambda y: y * y.norm(dim=D, keepdim=True)
        / (y.norm(dim=D, keepdim=True).mean(1, keepdim=True) + 1e-6),
    ),
    "alpha and rsub": then(
        lambda x: 1 - torch.sub(x, mean(x), alpha=0.5), lambda y: y * mean(y.square())
    ),
    "one axis after the other": then(
        lambda x: x - x.mean(3, keepdim=True).mean(2, keepdim=True),
        lambda y: y / (y.pow(2).mean(3, keepdim=True).mean(2, keepdim=True) + 0.1),
    ),
}  # fmt: skip

MEANS = {  # a statistic of each channel
    "sum over the area": gate(lambda m, x: x.sum(D) / area(x)),
    "sum over numel": gate(lambda m, x: x.sum(D) / x[0, 0].numel()),
    "sum over math.prod": gate(lambda m, x: x.sum(D) / math.prod(x.shape[2:])),
    "sum over a tensor of sizes": gate(lambda m, x: x.sum(D) / torch.tensor(x.shape[2:]).prod()),
    "sum over a sum of ones": gate(lambda m, x: x.sum(D) / torch.ones_like(x).sum(D)),
    "sum over the size of a padded map": gate(
        lambda m, x: x.sum(D) / (area(F.pad(x, (2, 1, 0, 1))) - 1)
    ),
    "unbiased by hand": gate(lambda m, x: centred(x).pow(2).sum(D) / (x[0, 0].numel() - 1)),
    "times a full map": gate(lambda m, x: (x * torch.full_like(x, 1.0 / area(x))).sum(D)),
    "einsum of squares": gate(lambda m, x: torch.einsum("bchw,bchw->bc", x, x) / area(x)),
    "einsum that sums": gate(lambda m, x: torch.einsum("bchw->bc", x) / area(x)),
    "einsum with dots": gate(lambda m, x: torch.einsum("...hw,...hw->...", x, x) / area(x)),
    "einsum without output": gate(
        lambda m, x: torch.einsum("bchw,hw", x, x.new_ones(x.shape[2:])) / area(x)
    ),
    "einsum of lists": gate(
        lambda m, x: torch.einsum(x, [0, 1, 2, 3], x, [0, 1, 2, 3], [0, 1]) / area(x)
    ),
    "einsum of three": gate(
        lambda m, x: torch.einsum("bchw,bchw,bhw->bc", x, x, x[:, 0]) / area(x)
    ),
    "einsum of the centred map": gate(
        lambda m, x: torch.einsum("bchw,bchw->bc", centred(x), centred(x)) / area(x)
    ),
    "matmul with ones": gate(
        lambda m, x: (x.square().flatten(2) @ x.new_ones(area(x), 1)).squeeze(2) / area(x)
    ),
    "matmul with a vector": gate(lambda m, x: x.flatten(2) @ x.new_ones(area(x)) / area(x)),
    "matmul from the left": gate(
        lambda m, x: (x.new_ones(1, area(x)) @ x.flatten(2).mT).squeeze(1) / area(x)
    ),
    "matmul of the centred map": gate(
        lambda m, x: (centred(x).square().flatten(2) @ x.new_ones(area(x), 1)).squeeze(2) / area(x)
    ),
    "bmm": gate(
        lambda m, x: (
            torch.bmm(x.flatten(2), x.new_ones(x.shape[0], area(x), 1)).squeeze(2) / area(x)
        )
    ),
    "linear over pixels": gate(
        lambda m, x: F.linear(x.flatten(2), x.new_ones(1, area(x))).squeeze(2) / area(x)
    ),
    "tensordot": gate(lambda m, x: torch.tensordot(x, x.new_ones(x.shape[2:]), dims=2) / area(x)),
    "inner": gate(lambda m, x: torch.inner(x.flatten(2), x.new_ones(area(x))) / area(x)),
    "mv": gate(
        lambda m, x: (
            torch.mv(x.view(x.shape[0] * x.shape[1], -1), x.new_ones(area(x))).view(x.shape[:2])
            / area(x)
        )
    ),
    "rows of one": gate(
        lambda m, x: (
            (x.reshape(-1, 1, area(x)) @ x.reshape(-1, area(x), 1)).view(x.shape[:2]) / area(x)
        )
    ),
    "pool of the whole map": gate(lambda m, x: F.avg_pool2d(x, x.shape[2:]).flatten(1)),
    "pool of one dim": gate(lambda m, x: F.adaptive_avg_pool1d(x.flatten(2), 1).squeeze(2)),
    "largest of one dim": gate(lambda m, x: F.adaptive_max_pool1d(x.flatten(2), 1).squeeze(2)),
    "resize by area": gate(lambda m, x: F.interpolate(x, size=1, mode="area").flatten(1)),
    "squared norm": gate(lambda m, x: x.norm(dim=D) ** 2 / area(x)),
    "squared vector norm": gate(lambda m, x: torch.linalg.vector_norm(x, dim=D).pow(2) / area(x)),
    "squared linalg norm": gate(
        lambda m, x: torch.linalg.norm(x.flatten(2), dim=2).pow(2) / area(x)
    ),
    "normalize over pixels": gate(lambda m, x: (F.normalize(x, dim=D) * x).sum(D) / area(x)),
    "std_mean": gate(lambda m, x: sum(torch.std_mean(x, D))),
    "std_mean by keywords": gate(
        lambda m, x: sum(torch.std_mean(x, dim=D, correction=0, keepdim=False))
    ),
    "var_mean by position": gate(lambda m, x: sum(torch.var_mean(x.flatten(2), 2, False))),
    "aminmax": gate(lambda m, x: sum(torch.aminmax(x.flatten(2), dim=2))),
    "booleans": gate(lambda m, x: (x > 0).sum(D).to(x.dtype) / area(x)),
    "booleans in a dtype": gate(lambda m, x: (x > 0).sum(D, dtype=x.dtype) / area(x)),
    "booleans as floats": gate(lambda m, x: (x > 0).to(x.dtype).mean(D)),
    "share of pixels": gate(lambda m, x: (x * (x > 0)).sum(D) / ((x > 0).sum(D) + 1)),
    "count_nonzero": gate(lambda m, x: torch.count_nonzero(x.relu(), D).to(x.dtype) / area(x)),
    "any": gate(lambda m, x: (x > 3.5).flatten(2).any(2).to(x.dtype)),
    "all": gate(lambda m, x: (x > -1).all(3).all(2).to(x.dtype)),
    "sum of integers": gate(lambda m, x: (x * 10).int().sum(D).to(x.dtype) / area(x)),
    "maximum of integers": gate(lambda m, x: (x * 10).long().amax(D).to(x.dtype)),
    "clamped by a constant": gate(lambda m, x: x.square().sum(D).clamp(min=-2, max=100.0)),
    "clamped by a statistic": gate(lambda m, x: x.std(D).clamp(min=x.mean(D))),
    "guarded": gate(lambda m, x: torch.where(x.std(D) < 1e-5, 1.0, x.std(D))),
}

MEETINGS = {  # pixels meet a statistic
    "clamp by a largest statistic": lambda m, x: torch.clamp(x, max=mean(x) + 1),
    "clamp by two": lambda m, x: x.clamp(mean(x) - 0.1, x.amax(D, keepdim=True) - 0.5),
    "clamp_max": lambda m, x: x.clamp_max(mean(x)),
    "maximum": lambda m, x: torch.maximum(x, mean(x)),
    "min": lambda m, x: torch.min(x, mean(x)),
    "where": lambda m, x: torch.where(x > mean(x), x, mean(x)),
    "guard": lambda m, x: torch.where(std(x) < 1e-5, x, x / std(x)),
    "masked_fill": lambda m, x: x.masked_fill(x < mean(x), 0.0),
    "addcmul": lambda m, x: torch.addcmul(x, mean(x), x, value=0.5),
}


def row(x):
    return x.mean(3, keepdim=True)


STRIPS = {  # statistics of rows and columns of maps that contain such statistics
    "deviation of centred rows": lambda m, x: x * (x - row(x)).std(3)[..., None],
    "skewness of columns": lambda m, x: (
        x * (x - x.mean(2, keepdim=True)).pow(3).mean(2, keepdim=True)
    ),
    "largest of a scaled row": lambda m, x: x * (x * row(x)).max(3, keepdim=True).values,
    "rows and channels": lambda m, x: (
        x * (x * x.amax(3, keepdim=True)).square().mean((1, 3))[:, None, :, None]
    ),
    "sum of exponentials of rows": lambda m, x: x / (x - row(x)).exp().sum(3, keepdim=True),
    "rectified rows": lambda m, x: x * (x * row(x)).relu().mean(3, keepdim=True),
    "norm of a scaled column": lambda m, x: (
        x / (x * x.mean(2, keepdim=True)).norm(1, dim=2, keepdim=True)
    ),
}

CASES = {**STEPS, **MEANS, **MEETINGS, **STRIPS}
FIXED = needs_torch_2_7("torch.tensor() of sizes fixes them: the block is refused")
# Each takes half a second: `make test` runs every fifth, `make test-slow` the rest.
QUICK_OR_SLOW = [
    pytest.param(
        name,
        marks=[pytest.mark.slow] * (place % 5 > 0)
        + [FIXED] * (name == "sum over a tensor of sizes"),
    )
    for place, name in enumerate(CASES)
]


def image(scale=1.0):
    h, w = SIZE
    x = torch.randn(2, 4, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.linspace(0.2, 2, w) + torch.linspace(-1, 2, h)[:, None]
    return (x + torch.tensor([0, 1.0, -1, 0.3]).view(4, 1, 1)) * scale


def local_of(function):
    torch.manual_seed(0)
    module = Block(function).double().eval()
    runs = [((Spec((1, CHANNELS, *size), torch.float64),), {}) for size in SIZES]
    program = rewrite(capture(module, runs), lambda _: WINDOW, lambda _: WINDOW)
    return module, Rewritten.of(module, WINDOW, program=program)


def assert_law(module, local, x, tolerance=1e-9):
    with torch.no_grad():
        wanted = by_windows(module, x, WINDOW)
    for mode in MODES:
        with mode():
            got = local(x.clone()).detach()
        torch.testing.assert_close(
            got, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()) + 1e-300,
            equal_nan=True,
        )  # fmt: skip


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
def test_the_law_of_windows(name):
    assert_law(*local_of(CASES[name]), image())


EXTREME = "guarded", "clamped by a constant", "guard", "centred, then std", "variance by moments"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTREME)
def test_extreme_values_reach_constants_of_the_code(name):
    module, local = local_of(CASES[name])
    for scale in (0.0, 1e-7, 1e4):
        assert_law(module, local, image(scale))
    same = torch.full_like(image(), 0.25)
    assert_law(module, local, same)


@pytest.mark.parametrize("between", [torch.sigmoid, lambda y: (y - 1).relu(), torch.sqrt])
def test_a_statistic_of_another_function_of_pixels_and_statistics_is_refused(between):
    def function(m, x):
        return x * mean(between(x * mean(x)))

    with pytest.raises(ConversionError, match="combines pixels and global statistics"):
        local_of(function)


@pytest.mark.parametrize(
    ("reduced", "reason"),
    [
        (lambda x: x - row(x), "mean of a map of statistics of its rows or columns"),
        (lambda x: (x - row(x)).transpose(2, 3), "by transpose: each window would need"),
        (lambda x: mean(x).expand_as(x), "mean of the global mean, expanded to a map"),
        (lambda x: row(x).expand_as(x).relu(), "mean of the global mean, expanded to a map"),
        (lambda x: F.interpolate(std(x), size=x.shape[2:]), "deviation, expanded to a map"),
        (lambda x: F.pad(x, (1, 1, 1, 1)) * 9, "mean of a map that was padded"),
        (lambda x: F.pad(x, (2, 0, 1, 0), mode="reflect").abs(), "mean of a map that was padded"),
        (lambda x: x[:, :, 1:-1, 1:-1], "mean of a map that was cut|cropped copy"),
        (lambda x: x.narrow(3, 0, x.shape[3] // 2), "mean of a map that was cut|cropped copy"),
        (lambda x: x[..., 1:] - x[..., :-1], "mean of a map that was cut|cropped copy"),
        (lambda x: torch.cat([x, x.flip(3)], 3), "mean of a map that was joined|mirrored, shifted"),
        (lambda x: x[..., 1:] - mean(x), "mean of a map that was cut|cropped copy"),
    ],
)
def test_a_statistic_of_more_than_the_pixels_of_a_window_is_refused(reduced, reason):
    with pytest.raises(ConversionError, match=reason):
        local_of(lambda m, x: x * mean(reduced(x)))


@pytest.mark.parametrize("normalise", [F.instance_norm, lambda y: F.group_norm(y, 2)])
def test_a_norm_of_a_padded_map_is_refused(normalise):
    with pytest.raises(ConversionError, match="norm of a map that was padded"):
        local_of(lambda m, x: normalise(F.pad(x, (1, 1, 1, 1)))[..., 1:-1, 1:-1])


def test_a_map_that_was_padded_and_cut_again_has_its_size():
    function = lambda m, x: x * mean((F.pad(x, (1, 1, 1, 1)) * 2)[..., 1:-1, 1:-1])  # noqa: E731
    assert_law(*local_of(function), image())


@pytest.mark.slow
def test_a_layer_with_weights_starts_anew():
    def function(m, x):
        y = m.conv(centred(x))
        return y * mean(y)

    module, local = local_of(function)
    x = image()
    with torch.no_grad():
        y = module.conv(by_windows(centred, x, WINDOW))
        wanted = by_windows(lambda p: p * mean(p), y, WINDOW)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


def test_no_variance_is_negative():
    """The deviation of each window is tiny beside the mean."""
    _, local = local_of(STEPS["variance by moments"])
    x = 1e6 + 1e-3 * image()
    with torch.no_grad():
        assert local(x).isfinite().all()
