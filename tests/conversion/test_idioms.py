"""Blocks of published networks are converted without rules and follow the laws."""

import copy

import oracles
import pytest
import torch
from oracles.idioms import IDIOMS, TRAPS, by_windows, statistic
from torch import nn
from versions import needs_torch_2_7

import glocal
from glocal.testing import check_law_of_windows

CHANNELS = 8
WINDOW, ODD, EVEN = (9, 8), (9, 7), (6, 8)
SIZES = [(14, 17), (9, 20), (6, 21), (7, 5)]  # larger than the window on both axes, one, one, none
GRID_SIZES = [(16, 20), (12, 8), (4, 20), (8, 8)]

BY_NAME = {idiom.name: idiom for idiom in (*IDIOMS, *TRAPS)}
CONVERTED = [name for name, idiom in BY_NAME.items() if idiom.reason is None]
# Each takes seconds: `make test` runs every fourth, `make test-slow` another one, and
# `make test-long` the rest.
BY_PLACE = ([], [pytest.mark.slow], [pytest.mark.long], [pytest.mark.long])
FOURIER = needs_torch_2_7("it cannot capture Fourier transforms")
QUICK_OR_SLOW = [
    pytest.param(name, marks=[*BY_PLACE[place % 4], *([FOURIER] * (name == "fourier_unit"))])
    for place, name in enumerate(CONVERTED)
]
REFUSED = [name for name, idiom in BY_NAME.items() if idiom.reason is not None]


def idiom_of(name):
    idiom = BY_NAME[name]
    if idiom.needs:
        pytest.importorskip(idiom.needs)
    return idiom


def block_of(idiom, seed=0):
    return oracles.randomise(idiom.make(), seed).double().eval()


def network_of(idiom):
    """Return two blocks with different weights between 3x3 convolutions."""
    first, last = (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))
    net = nn.Sequential(first, idiom.make(), idiom.make(), last)
    return oracles.randomise(net, 3).double().eval()


def sizes_of(idiom):
    if idiom.law == "grid":
        return GRID_SIZES
    return [(h + h % idiom.multiple, w + w % idiom.multiple) for h, w in SIZES]


def covers(idiom, window, size):
    kh, kw = (idiom.train, idiom.train) if idiom.law == "grid" else window
    return kh >= size[0] and kw >= size[1]


def image(size, seed=0):
    return oracles.ramp_noise(2, CHANNELS, *size, seed=seed)


def example_of(idiom):
    return torch.zeros(1, CHANNELS, idiom.train, idiom.train, dtype=torch.float64)


def localize(idiom, net, window, **options):
    return glocal.localize(net, idiom.train, window=window, example=example_of(idiom), **options)


def run(net, x, mode=torch.no_grad):
    with mode():
        return net(x.clone()).detach().clone()


def expected(idiom, block, x, window):
    with torch.no_grad():
        return idiom.expected(block, x, window)


def assert_close(got, wanted, tolerance, where):
    assert got.shape == wanted.shape, where
    error = (got.double() - wanted).abs().max() / wanted.abs().max()
    assert error <= tolerance, f"{where}: differs by {error:.3g} of the largest value"


# ---- the references


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
def test_references_equal_the_block_only_where_the_window_covers_the_map(name):
    idiom = idiom_of(name)
    block = block_of(idiom)
    for window in (WINDOW, ODD, EVEN):
        for size in sizes_of(idiom):
            x = image(size)
            wanted, whole = expected(idiom, block, x, window), run(block, x)
            if covers(idiom, window, size):
                assert_close(whole, wanted, 1e-12, f"{size}, window {window}")
            else:  # else a block that stays global would pass
                assert (whole - wanted).abs().max() > 1e-4 * wanted.abs().max(), size


@pytest.mark.parametrize(
    "name", [n for n in CONVERTED if BY_NAME[n].reference and BY_NAME[n].law is not None]
)
def test_references_follow_the_law_if_convolutions_have_only_centre_taps(name):
    idiom = idiom_of(name)
    block = block_of(idiom)
    for conv in (m for m in block.modules() if isinstance(m, nn.Conv2d)):
        centre = torch.zeros_like(conv.weight)
        centre[..., conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
        conv.weight.data *= centre
    for window in (ODD, EVEN):
        x = image((10, 13))
        with torch.no_grad():
            by_law = idiom.by_law(block, x, window)
        assert_close(expected(idiom, block, x, window), by_law, 1e-12, f"window {window}")


@pytest.mark.parametrize("window", [ODD, EVEN, (3, 20), (20, 20)])
def test_the_law_of_windows_against_loops_over_pixels(window):
    x = image((8, 11))

    def peak(patch):
        return patch.amax((2, 3)) - patch.square().mean((2, 3))

    by_loops = oracles.sliding(x, window, peak)
    assert_close(statistic(peak, x, window), by_loops, 1e-12, "a statistic")
    normed = by_windows(nn.functional.instance_norm, x, window)
    assert_close(normed, oracles.local_instance_norm(x, window), 1e-12, "instance norm")
    check_law_of_windows(
        lambda t: by_windows(nn.functional.instance_norm, t, window),
        nn.functional.instance_norm,
        x,
        window,
    )


@pytest.mark.parametrize(
    ("name", "by_definition"),
    [
        ("std_plus_mean", lambda x, w: oracles.local_std(x, w, 1) + oracles.local_mean(x, w)),
        ("contrast_pool_by_means", lambda x, w: oracles.local_std(x, w) + oracles.local_mean(x, w)),
        ("adaptive_max_pool2d", oracles.local_max),
        ("amax_minus_amin", lambda x, w: oracles.local_max(x, w) - oracles.local_min(x, w)),
        ("sum_over_area", oracles.local_mean),
    ],
)
def test_gates_against_statistics_by_definition(name, by_definition):
    idiom, x = BY_NAME[name], image((9, 13))
    block = block_of(idiom)
    for window in (ODD, EVEN):
        with torch.no_grad():
            wanted = x * block.excite(by_definition(x, window))
        assert_close(expected(idiom, block, x, window), wanted, 1e-12, f"window {window}")


@pytest.mark.parametrize(
    "names",
    [
        "se_view_linear se_functional_view_linear mean_2_3_linear mean_3_mean_2 mean_of_view "
        "mean_last_mean_last mean_of_tokens mean_channels_last scaled_then_summed einsum_se "
        "avg_pool2d_of_sizes_stride",
        "mean_2_3_conv sum_over_area avg_pool2d_of_shape adaptive_avg_pool2d einsum_mean",
        "adaptive_max_pool2d max_pool2d_of_shape amax",
        "flatten_max view_max_values",
        "contrast_pool_by_sums contrast_pool_by_means",
        "instance_norm norm_by_squares",
        "concat_expand concat_expand_as concat_repeat concat_nearest concat_bilinear",
        "grid_attention grid_attention_sdpa",
    ],
    ids=lambda names: names.split()[0],
)
def test_variants_of_one_block_have_equal_references(names):
    first, *others = (BY_NAME[name] for name in names.split())
    x = image(sizes_of(first)[0])
    wanted = expected(first, block_of(first), x, ODD)
    for other in others:
        assert_close(expected(other, block_of(other), x, ODD), wanted, 1e-12, other.name)


# ---- the converter


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
def test_an_idiom_is_converted_and_computes_its_local_form(name):
    idiom = idiom_of(name)
    net = network_of(idiom)
    before = copy.deepcopy(net)
    local = localize(idiom, net, WINDOW, allow_global=True)
    plan = glocal.plan_of(local)
    if idiom.may_refuse and plan.with_status("global"):
        assert_refused(idiom, net, local)
        return
    assert plan.rows
    assert [row.status for row in plan.rows] == ["local"] * len(plan.rows), f"\n{plan}"
    assert_shared(net, local)

    single = copy.deepcopy(local).float()
    sizes = sizes_of(idiom)
    for size in (*sizes, sizes[0]):  # and the first again: nothing is cached
        x = image(size)
        wanted = expected(idiom, before[1], x, WINDOW)
        assert_close(run(local[1], x), wanted, 1e-9, f"{size}")
        assert_close(run(local[1], x[:1]), wanted[:1], 1e-9, f"{size}, one image")
        for mode in (torch.inference_mode, torch.enable_grad):
            assert_close(run(local[1], x, mode), wanted, 1e-9, f"{size}, {mode.__name__}")
        assert_close(run(single[1], x.float()), wanted, 1e-4, f"{size} in float32")
        if covers(idiom, WINDOW, size):
            assert_close(run(local, x), run(before, x), 1e-12, f"{size}, all of it in the window")
    for size in sizes[::2]:
        x = image(size, seed=1)
        y = run(before[0], x)
        for block in before[1:3]:
            y = expected(idiom, block, y, WINDOW)
        assert_close(run(local, x), run(before[3], y), 1e-9, f"the network at {size}")
    assert_untouched(net, before, sizes[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mean_2_3_linear",
        "norm_by_squares",
        "cbam_conv",
        "global_context",
        "mdta",
        "non_local_softmax",
        "linear_attention",
        "grid_gmlp",
    ],
)
def test_the_network_may_be_the_block_alone(name):
    idiom = BY_NAME[name]
    block = block_of(idiom)
    before = copy.deepcopy(block)
    local = localize(idiom, block, EVEN)
    assert {row.status for row in glocal.plan_of(local).rows} == {"local"}
    assert_shared(block, local)
    for size in sizes_of(idiom):
        x = image(size)
        assert_close(run(local, x), expected(idiom, before, x, EVEN), 1e-9, f"{size}")
    assert_untouched(block, before, sizes_of(idiom)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_blocks_without_a_local_form_stay_unchanged(name):
    idiom = idiom_of(name)
    net = network_of(idiom)
    assert_refused(idiom, net, localize(idiom, net, WINDOW, allow_global=True))


def test_few_idioms_have_no_local_form():
    """The tests above fail if any other idiom stays global, wholly or in part."""
    required = [idiom for idiom in IDIOMS if not (idiom.reason or idiom.may_refuse)]
    assert len(required) >= 45
    assert len(IDIOMS) - len(required) <= 5


def assert_shared(net, local):
    ours, theirs = local.state_dict(keep_vars=True), net.state_dict(keep_vars=True)
    assert list(ours) == list(theirs)
    assert all(ours[key] is theirs[key] for key in ours)


def assert_untouched(net, before, size):
    assert [type(m) for m in net.modules()] == [type(m) for m in before.modules()]
    for key, value in before.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    assert torch.equal(run(net, image(size)), run(before, image(size)))


def assert_refused(idiom, net, left):
    """Check that `left` reports its operations as global and computes what `net` does."""
    rows = glocal.plan_of(left).rows
    assert rows
    assert all(row.status == "global" and row.how for row in rows)
    with pytest.raises(glocal.ConversionError):
        localize(idiom, net, WINDOW)
    for size in sizes_of(idiom):
        assert torch.equal(run(left, image(size)), run(net, image(size)))
