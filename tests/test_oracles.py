"""The oracles against torch's global operations, hand-worked cases, and each other.

More than 300 lines: tests mirror the modules, one file for each.
"""

import math

import oracles
import pytest
import torch
import torch.nn.functional as F
from oracles import networks, ramp_noise
from torch import nn

SIZES = [(1, 1), (1, 9), (7, 1), (2, 3), (9, 12), (10, 7)]
WINDOWS = [1, 2, 3, (4, 5), (3, 100), (100, 2), 100]

# name: (state-dict shapes, oracle, image size, train size, base)
TINY = {
    "nafnet": (
        oracles.nafnet_shapes(width=6, enc_blk_nums=[1, 0, 2], dec_blk_nums=[1, 1, 1]),
        oracles.nafnet_local,
        (125, 155),
        (60, 64),
        (90, 70),
    ),
    "baseline": (
        oracles.baseline_shapes(width=6, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1], dw_expand=2),
        oracles.baseline_local,
        (125, 155),
        (60, 64),
        (90, 70),
    ),
    "hinet": (
        oracles.hinet_shapes(wf=4, depth=4, hin_position_right=2),
        oracles.hinet_local,
        (128, 160),
        (64, 48),
        (96, 60),
    ),
    "mprnet": (
        oracles.mprnet_shapes(n_feat=4, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1),
        oracles.mprnet_local,
        (128, 160),
        (64, 48),
        (96, 60),
    ),
    "restormer": (
        oracles.restormer_shapes(
            dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 2, 4]
        ),
        oracles.restormer_local,
        (128, 160),
        (64, 48),
        (96, 60),
    ),
}

# Red at (3, 5), (50, 77) and the last pixel, then the mean absolute value of the output, from the
# published code for TINY in float64 with these weights and images. NAFNet, MPRNet and Restormer
# are the copies in spandrel 0.4.2 and spandrel-extra-arches 0.2.0. HINet, Baseline and the
# conversion (TLC) are transcribed from the authors' repositories. The pooling layers of HINet and
# MPRNet assume a train size of 256; they got the real one.
PUBLISHED = {
    "nafnet": [1.0846299842, -1.71568087274, -1.10049254449, 1.40667478784],
    "nafnet global": [0.674557720337, -1.50944321359, -1.32973680577, 1.38901591076],
    "baseline": [0.747849618588, 0.710738069045, -0.20311310078, 1.06863986003],
    "baseline global": [0.751888747689, 0.711070840278, -0.206921310885, 1.06931845534],
    "hinet": [1.20209773061, 2.37423903386, 0.223518240927, 0.932264558696],
    "hinet global": [1.30533311717, 2.18057090515, -0.00129581745325, 0.910182090626],
    "mprnet": [-3.51390085553, -2.58910645328, -11.2445312206, 5.67248801647],
    "mprnet global": [-3.66341468821, -2.64171168912, -11.1854649597, 5.80753537421],
    "restormer": [0.649851636926, 0.738073662231, 0.755332332294, 1.28639531689],
    "restormer global": [0.726841534769, 0.781225717556, 0.763530597992, 1.28676503356],
}


@pytest.fixture(params=TINY)
def name(request):
    return request.param


# The reference by loops takes a minute for all networks.
SHORT = [
    pytest.param(name, marks=() if name in ("nafnet", "hinet") else pytest.mark.long)
    for name in TINY
]


def tiny(name, **changes):
    shapes, function, size, train_size, base = TINY[name]
    arguments = {"train_size": train_size, "base": base} | changes
    image = ramp_noise(1, 3, *arguments.pop("size", size), seed=3)
    with torch.no_grad():
        return function(oracles.random_state(shapes, seed=1), image, **arguments)


def close(a, b, atol=1e-11):
    assert a.dtype == b.dtype == torch.float64
    assert a.shape == b.shape
    torch.testing.assert_close(a, b, rtol=1e-11, atol=atol)


# windows


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
def test_window_start_is_sliding_then_replicate_padding(n, k):
    k = min(k, n)
    interior = torch.arange(n - k + 1.0)[None, None]
    left = (k - 1) // 2
    padded = F.pad(interior, (left, n - len(interior[0, 0]) - left), mode="replicate")
    assert [oracles.window_start(p, k, n) for p in range(n)] == padded[0, 0].tolist()


def test_sliding_calls_f_on_the_windows_in_reading_order():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = []

    def corners(patch):
        assert patch.shape == (1, 1, 2, 3)
        seen.append(int(patch[0, 0, 0, 0]))
        return torch.stack([patch[:, 0, 0, 0], patch[:, 0, -1, -1]], 1)

    out = oracles.sliding(x, (2, 3), corners)
    assert seen == [0, 0, 1, 1, 4, 4, 5, 5, 4, 4, 5, 5]
    assert out[0, 1].tolist() == [[6, 6, 7, 7], [10, 10, 11, 11], [10, 10, 11, 11]]


def test_a_window_without_pixels_is_refused():
    with pytest.raises(ValueError, match="0×3"):
        oracles.local_mean(torch.zeros(1, 1, 4, 4), (0, 3))


@pytest.mark.parametrize(
    ("size", "k", "starts"),
    [
        (4, 4, [0]),
        (3, 4, [0]),
        (1, 1, [0]),
        (5, 4, [0, 1]),
        (8, 4, [0, 4]),
        (9, 4, [0, 3, 5]),
        (10, 4, [0, 3, 6]),
        (7, 2, [0, 2, 4, 5]),
        (720, 384, [0, 336]),
        (1280, 384, [0, 299, 598, 896]),
    ],
)
def test_attention_starts_by_hand(size, k, starts):
    assert oracles.attention_starts(size, k) == starts


def test_attention_windows_cover_every_pixel_with_the_fewest_windows():
    for size in range(1, 40):
        for k in range(1, 45):
            starts = oracles.attention_starts(size, k)
            assert len(starts) == math.ceil(size / k)
            assert starts == sorted(set(starts))
            covered = {p for s in starts for p in range(s, min(s + k, size))}
            assert covered == set(range(size))


# operations: with a window over the whole map they are torch's own

COVERING = {
    "mean": (lambda x: oracles.local_mean(x, 99), lambda x: x.mean((2, 3), keepdim=True)),
    "var": (
        lambda x: oracles.local_var(x, 99),
        lambda x: x.var((2, 3), correction=0, keepdim=True),
    ),
    "unbiased var": (
        lambda x: oracles.local_var(x, 99, correction=1),
        lambda x: x.var((2, 3), correction=1, keepdim=True),
    ),
    "std": (
        lambda x: oracles.local_std(x, 99, correction=1),
        lambda x: x.std((2, 3), correction=1, keepdim=True),
    ),
    "max": (lambda x: oracles.local_max(x, 99), lambda x: x.amax((2, 3), keepdim=True)),
    "min": (lambda x: oracles.local_min(x, 99), lambda x: x.amin((2, 3), keepdim=True)),
    "norm": (
        lambda x: oracles.local_norm(x, 99),
        lambda x: torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True),
    ),
}
WEIGHT, BIAS = torch.tensor([[0.5, 2, -1, 3], [0, 0.1, 7, -2]], dtype=torch.float64)
NORMS = {
    "instance": (
        lambda x, window: oracles.local_instance_norm(x, window, WEIGHT, BIAS, eps=1e-3),
        lambda x: F.instance_norm(x, weight=WEIGHT, bias=BIAS, eps=1e-3),
    ),
    "plain instance": (oracles.local_instance_norm, F.instance_norm),
    "group": (
        lambda x, window: oracles.local_group_norm(x, 2, window, WEIGHT, BIAS),
        lambda x: F.group_norm(x, 2, WEIGHT, BIAS),
    ),
    "layer": (
        lambda x, window: oracles.local_layer_norm(x, window, WEIGHT, BIAS),
        lambda x: F.layer_norm(x, x.shape[1:]) * WEIGHT[:, None, None] + BIAS[:, None, None],
    ),
}


@pytest.mark.parametrize("operation", COVERING)
@pytest.mark.parametrize("size", [(1, 9), (7, 2), (9, 12)])
def test_statistics_of_a_covering_window_are_the_global_ones(operation, size):
    local, whole = COVERING[operation]
    x = ramp_noise(2, 3, *size)
    close(local(x), whole(x).expand_as(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(1, 9), (7, 2), (9, 12)])
def test_norms_of_a_covering_window_are_the_global_ones(norm, size):
    local, whole = NORMS[norm]
    x = ramp_noise(2, 4, *size)
    close(local(x, 99), whole(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("window", [(3, 4), (2, 99)])
def test_norms_of_a_pixel_are_the_global_ones_of_its_window(norm, window):
    local, whole = NORMS[norm]
    x = ramp_noise(2, 4, 8, 9)
    out = local(x, window)
    kh, kw = min(window[0], 8), min(window[1], 9)
    for i, j in [(0, 0), (4, 5), (7, 8), (0, 8), (6, 1)]:
        top, left = oracles.window_start(i, kh, 8), oracles.window_start(j, kw, 9)
        patch = x[:, :, top : top + kh, left : left + kw]
        close(out[:, :, i, j], whole(patch)[:, :, i - top, j - left])


def test_statistics_by_hand():
    x = torch.tensor([[1.0, 5, 3, 2, 8]])[None, None]
    assert oracles.local_mean(x, 3).flatten().tolist() == pytest.approx(
        [3, 3, 10 / 3, 13 / 3, 13 / 3]
    )
    assert oracles.local_max(x, 2).flatten().tolist() == [5, 5, 3, 8, 8]
    assert oracles.local_min(x, (9, 2)).flatten().tolist() == [1, 3, 2, 2, 2]
    assert oracles.local_var(x, 2).flatten().tolist() == [4, 1, 0.25, 9, 9]
    assert oracles.local_std(x, 2, 1).flatten().tolist() == pytest.approx(
        [8**0.5, 2**0.5, 0.5**0.5, 18**0.5, 18**0.5]
    )
    assert oracles.local_norm(x, 1).equal(x.double())
    assert oracles.local_var(x, 1, correction=1).isnan().all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", WINDOWS)
def test_prefix_sums_are_the_loops(size, window):
    x = ramp_noise(2, 2, *size)
    close(oracles.mean_by_sums(x, window), oracles.local_mean(x, window))
    close(oracles.var_by_sums(x, window), oracles.local_var(x, window))
    by_sums = oracles.instance_norm_by_sums(x, window, WEIGHT[:2], BIAS[:2], 1e-3)
    close(by_sums, oracles.local_instance_norm(x, window, WEIGHT[:2], BIAS[:2], 1e-3))


def test_prefix_sums_of_a_far_offset_keep_their_variance():
    x = 1000 + 0.1 * ramp_noise(1, 2, 30, 40)
    close(oracles.var_by_sums(x, (7, 8)), oracles.local_var(x, (7, 8)))


# attention


def qkv(h, w, b=2, heads=2, c=3):
    q, k, v = ramp_noise(3 * b, heads * c, h, w).reshape(3, b, heads, c, h, w)
    return q - 0.5, k - 0.5, v, torch.tensor([1.5, 6], dtype=torch.float64)[:, None, None]


def whole_attention(q, k, v, temperature):
    size = q.shape[3:]
    q, k, v = (t.flatten(3) for t in (q, k, v))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = (q @ k.transpose(-2, -1) * temperature).softmax(-1)
    return (attention @ v).unflatten(-1, size)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (6, 1), (8, 5)])
def test_attention_of_a_covering_window_is_the_global_one(size):
    q, k, v, temperature = qkv(*size)
    close(
        oracles.local_channel_attention(q, k, v, temperature, 9),
        whole_attention(q, k, v, temperature),
    )


def test_overlapping_attention_windows_are_averaged():
    q, k, v, temperature = qkv(
        4, 7
    )  # windows of 5 columns start at 0 and 2; both have columns 2, 3 and 4
    left = whole_attention(*(t[..., :5] for t in (q, k, v)), temperature)
    right = whole_attention(*(t[..., 2:] for t in (q, k, v)), temperature)
    both = (left[..., 2:] + right[..., :3]) / 2
    expected = torch.cat([left[..., :2], both, right[..., 3:]], -1)
    close(oracles.local_channel_attention(q, k, v, temperature, (4, 5)), expected)


def test_attention_to_an_all_zero_channel_is_finite():
    q, k, v, temperature = qkv(4, 4)
    q[:, :, 0] = 0
    out = oracles.local_channel_attention(q, k, v, temperature, 2)
    close(out[:, :, 0], v.mean(2))


# networks


@pytest.mark.long
@pytest.mark.slow
def test_network_gives_the_published_numbers(name):
    for key, changes in ((name, {}), (f"{name} global", {"base": None})):
        out = tiny(name, **changes)
        got = [out[0, 0, 3, 5], out[0, 0, 50, 77], out[0, 0, -1, -1], out.abs().mean()]
        assert [v.item() for v in got] == pytest.approx(PUBLISHED[key], rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("name", SHORT)
def test_network_with_covering_windows_is_the_global_one(name):
    close(tiny(name, base=4000), tiny(name, base=None))


def test_network_depends_on_the_window(name):
    whole = tiny(name, base=None)
    for base in (64, (30, 4000)):
        assert (tiny(name, base=base) - whole).std() > 0.005 * whole.std()


@pytest.mark.parametrize("name", SHORT)
def test_network_images_of_a_batch_do_not_mix(name):
    shapes, function, _, train_size, _ = TINY[name]
    state = oracles.random_state(shapes)
    images = ramp_noise(2, 3, 64, 80)
    out = function(state, images, train_size, 40)
    for i in (0, 1):
        close(function(state, images[i : i + 1], train_size, 40), out[i : i + 1])


@pytest.mark.parametrize("name", SHORT)
def test_network_by_loops_is_the_network_by_sums(name, monkeypatch):
    small = {"size": (32, 40), "train_size": (32, 16), "base": (24, 20)}
    by_sums = tiny(name, **small)
    monkeypatch.setattr(networks, "mean_by_sums", oracles.local_mean)
    monkeypatch.setattr(networks, "instance_norm_by_sums", oracles.local_instance_norm)
    close(tiny(name, **small), by_sums, atol=1e-10)


def windows_used(name, monkeypatch, **changes):
    """Pairs (map size, window) of all global operations of a run."""
    used = set()

    def spy(function, position):
        def spied(*args):
            used.add((tuple(args[0].shape[-2:]), args[position]))
            return function(*args)

        return spied

    for function, position in (
        ("mean_by_sums", 1),
        ("instance_norm_by_sums", 1),
        ("local_channel_attention", 4),
    ):
        monkeypatch.setattr(networks, function, spy(getattr(networks, function), position))
    tiny(name, **changes)
    return used


def test_windows_of_nafnet_follow_its_padded_size(monkeypatch):
    used = windows_used("nafnet", monkeypatch, size=(121, 64), train_size=(60, 64), base=(91, 70))
    assert used == {  # trained on 60 rows, which are padded to 64
        ((128, 64), (97, 70)),
        ((64, 32), (48, 35)),
        ((32, 16), (24, 17)),
        ((16, 8), (12, 8)),
    }


def test_windows_of_hinet_are_those_of_its_normed_levels(monkeypatch):
    used = windows_used("hinet", monkeypatch)
    assert used == {((128, 160), (96, 60)), ((64, 80), (48, 30)), ((32, 40), (24, 15))}


def test_windows_of_mprnet_follow_its_patches(monkeypatch):
    used = windows_used("mprnet", monkeypatch)
    quarters = {((64, 80), (48, 30)), ((32, 40), (24, 15)), ((16, 20), (12, 7))}
    halves = {((64, 160), (48, 60)), ((32, 80), (24, 30)), ((16, 40), (12, 15))}
    whole = {((128, 160), (96, 60)), ((64, 80), (48, 30)), ((32, 40), (24, 15))}
    assert used == quarters | halves | whole


def test_windows_of_restormer_halve_with_the_level(monkeypatch):
    used = windows_used("restormer", monkeypatch)
    assert used == {
        ((128, 160), (96, 60)),
        ((64, 80), (48, 30)),
        ((32, 40), (24, 15)),
        ((16, 20), (12, 7)),
    }


@pytest.mark.parametrize("name", ["hinet", "mprnet", "restormer"])
def test_sizes_that_need_padding_are_refused(name):
    with pytest.raises(ValueError, match="multiples of 8, got 44"):
        tiny(name, size=(64, 44))
    with pytest.raises(ValueError, match="multiples of 8, got 60"):
        tiny(name, train_size=60)


def test_base_without_train_size_is_refused():
    with pytest.raises(ValueError, match="train_size"):
        tiny("nafnet", train_size=None)


def test_restormer_variants_run():
    size = {"dim": 4, "num_blocks": [1] * 4, "num_refinement_blocks": 1, "heads": [1, 1, 2, 4]}
    image = ramp_noise(1, 6, 32, 32)
    dual = oracles.random_state(
        oracles.restormer_shapes(inp_channels=6, dual_pixel_task=True, bias=True, **size)
    )
    assert oracles.restormer_local(dual, image, 16, 24).shape == (1, 3, 32, 32)
    free = oracles.random_state(oracles.restormer_shapes(LayerNorm_type="BiasFree", **size))
    assert not any(".norm1.body.bias" in key for key in free)
    assert oracles.restormer_local(free, image[:, :3], 16, 24).shape == (1, 3, 32, 32)


def test_published_sizes_have_the_published_parameter_counts():
    def millions(shapes):
        slopes = sum(
            shape == (1,) for shape in shapes.values()
        )  # those of MPRNet are one parameter
        return (sum(map(math.prod, shapes.values())) - max(slopes - 1, 0)) / 1e6

    nafnet = {"middle_blk_num": 1, "enc_blk_nums": [1, 1, 1, 28], "dec_blk_nums": [1, 1, 1, 1]}
    assert millions(oracles.nafnet_shapes(width=32, **nafnet)) == pytest.approx(17.11, abs=0.005)
    assert millions(oracles.hinet_shapes()) == pytest.approx(88.67, abs=0.005)
    assert millions(oracles.mprnet_shapes()) == pytest.approx(20.13, abs=0.005)
    assert millions(oracles.restormer_shapes()) == pytest.approx(26.13, abs=0.005)


# inputs


def test_ramp_noise_varies_in_mean_and_deviation():
    x = ramp_noise(1, 3, 64, 80)
    assert x.dtype == torch.float64
    assert -0.7 < x.min() < x.max() < 1.7
    blocks = x.unfold(2, 16, 16).unfold(3, 16, 16).flatten(4)
    mean, std = blocks.mean(-1), blocks.std(-1)
    assert (mean.amax((2, 3)) - mean.amin((2, 3)) > 0.1).all()
    assert (std.amax((2, 3)) / std.amin((2, 3)) > 2).all()
    assert not ramp_noise(1, 3, 64, 80, seed=1).equal(x)
    assert ramp_noise(1, 1, 1, 5).isfinite().all()


class Zoo(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3)
        self.tied = nn.Conv2d(8, 8, 3)
        self.tied.weight = self.conv.weight
        self.squeeze = nn.Conv2d(64, 1, 1)
        self.norm = nn.BatchNorm2d(64)
        self.act = nn.PReLU()
        self.beta = nn.Parameter(torch.zeros(1, 8, 1, 1), requires_grad=False)
        self.temperature = nn.Parameter(torch.ones(4, 1, 1))
        self.register_buffer("index", torch.arange(5))


def test_randomise_draws_each_kind_in_its_range():
    before = torch.random.get_rng_state()
    zoo = Zoo()
    torch.random.set_rng_state(before)
    assert oracles.randomise(zoo, seed=3) is zoo
    assert torch.random.get_rng_state().equal(before)
    assert zoo.conv.weight.std().item() == pytest.approx(1 / 72**0.5, rel=0.15)
    assert zoo.squeeze.weight.std().item() == pytest.approx(1 / 8, rel=0.3)
    assert zoo.tied.weight is zoo.conv.weight
    assert ((zoo.norm.weight > 0.5) & (zoo.norm.weight < 1.5)).all()
    assert zoo.norm.weight.std() > 0.1
    assert (zoo.norm.running_var > 0).all()
    assert zoo.norm.running_mean.abs().max() > 0
    assert 0.1 < zoo.act.weight.item() < 0.4
    assert ((zoo.beta.abs() > 0.25) & (zoo.beta.abs() < 0.5)).all()
    assert not zoo.beta.requires_grad
    assert (zoo.temperature > 0).all()
    assert zoo.temperature.std() > 0.05
    assert zoo.index.tolist() == [0, 1, 2, 3, 4]


def test_randomise_repeats_itself_in_every_dtype():
    one = oracles.randomise(Zoo(), seed=3).state_dict()
    other = oracles.randomise(Zoo().double(), seed=3).state_dict()
    for key, tensor in one.items():
        assert tensor.equal(other[key].to(tensor.dtype))
    assert (
        not oracles.randomise(Zoo(), seed=4).state_dict()["conv.weight"].equal(one["conv.weight"])
    )
