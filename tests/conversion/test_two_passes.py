"""Statistics from crops: laws of `localize(statistics="crops")` against slow references."""

import copy
import functools
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import glocal
from glocal.networks import HINet, NAFNet, Restormer
from glocal.ops.crops import crop_starts

TRAIN = 16


class Gate(nn.Module):
    """Pool and gate: the statistic passes through layers of its own before it meets pixels."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid())

    def statistics(self, x):
        return [self.fc(self.pool(x))]

    def meet(self, x, gate):
        return x * gate

    def forward(self, x):
        return self.meet(x, *self.statistics(x))


class HandWrittenNorm(Gate):
    def statistics(self, x):
        std, mean = torch.std_mean(x, (2, 3), correction=0, keepdim=True)
        return [mean, std + 1e-3]

    def meet(self, x, mean, scale):
        return (x - mean) / scale


class InstanceNorm(HandWrittenNorm):
    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(4)

    def statistics(self, x):
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return [mean, (variance + 1e-5).rsqrt()]

    def meet(self, x, mean, scale):
        return (x - mean) * scale

    def forward(self, x):
        return self.norm(x)


class GroupNorm(InstanceNorm):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def statistics(self, x):
        variance, mean = torch.var_mean(x.unflatten(1, (2, 2)), (2, 3, 4), correction=0)
        return [
            t.repeat_interleave(2, 1)[..., None, None] for t in (mean, (variance + 1e-5).rsqrt())
        ]


class MaxGate(Gate):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(1)


class SoftmaxPool(Gate):
    """Global context: values weighted by a softmax over the pixels."""

    def statistics(self, x):
        weights = x[:, :1].flatten(2).softmax(-1)
        return [self.fc((x.flatten(2) * weights).sum(-1)[..., None, None])]


class Attention(nn.Module):
    """Transposed attention of one head, as in Restormer."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.full((1, 1, 1), 3.0))
        self.qkv = nn.Conv2d(4, 12, 1)
        self.dwconv = nn.Conv2d(12, 12, 1, groups=12)
        self.project_out = nn.Conv2d(4, 4, 1)

    def statistics(self, x):
        q, k, _ = (t.flatten(2) for t in self.dwconv(self.qkv(x)).chunk(3, 1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return [(q @ k.mT * self.temperature).softmax(-1)]

    def meet(self, x, attention):
        """Attention (b, c, c, h, w) differs from pixel to pixel."""
        v = self.dwconv(self.qkv(x)).chunk(3, 1)[2]
        return self.project_out(torch.einsum("bdchw,bchw->bdhw", attention, v))

    def forward(self, x):
        (attention,) = self.statistics(x)
        v = self.dwconv(self.qkv(x)).chunk(3, 1)[2]
        return self.project_out((attention @ v.flatten(2)).unflatten(2, x.shape[2:]))


BLOCKS = (Gate, MaxGate, HandWrittenNorm, InstanceNorm, GroupNorm, SoftmaxPool, Attention)
SIZES = ((17, 16), (16, 41), (9, 40), (33, 47), (50, 31))


def crops_along(size, stride):
    """Starts and length of the crops, and (size, crops) weights that interpolate their centres."""
    length = min(TRAIN, size)
    starts = crop_starts(size, length, stride)
    weights = torch.zeros(size, len(starts), dtype=torch.float64)
    centres = [start + (length - 1) / 2 for start in starts]
    for p in range(size):
        k = sum(centre <= p for centre in centres) - 1
        if k < 0 or k == len(starts) - 1:
            weights[p, max(k, 0)] = 1
        else:
            weights[p, k + 1] = (p - centres[k]) / (centres[k + 1] - centres[k])
            weights[p, k] = 1 - weights[p, k + 1]
    return starts, length, weights


def reference(block, x, stride):
    """The block with the statistics of crops, interpolated for every pixel."""
    (rows, high, down), (columns, wide, across) = (crops_along(n, stride) for n in x.shape[2:])
    made = None
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            weight = down[:, i, None] * across[:, j]
            crop = x[..., top : top + high, left : left + wide]
            maps = [
                (s[..., None, None] if s.shape[-1] != 1 or s.ndim == 3 else s) * weight
                for s in block.statistics(crop)
            ]
            made = maps if made is None else [a + b for a, b in zip(made, maps, strict=True)]
    return block.meet(x, *made)


@functools.cache
def block_of(kind):
    torch.manual_seed(0)
    return kind().double().eval()


def block_and_image(kind, size, batch=2):
    block = block_of(kind)
    torch.manual_seed(1)
    trend = torch.linspace(0.5, 2, size[1], dtype=torch.float64)
    return block, torch.rand(batch, 4, *size, dtype=torch.float64) * trend


def example(height, width):
    return torch.rand(1, 4, height, width, dtype=torch.float64)


@functools.cache
def of_crops(model, **options):
    options = {"example": example, **options}
    return glocal.localize(model, TRAIN, statistics="crops", **options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", BLOCKS)
def test_statistics_are_interpolated_between_crops(kind, size):
    block, x = block_and_image(kind, size)
    with torch.inference_mode():
        for stride in (0.5, 1.0):
            got = of_crops(block, stride=stride)(x)
            wanted = reference(block, x, int(stride * TRAIN))
            assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", BLOCKS)
def test_an_image_of_the_training_size_gives_the_originals_result(kind):
    for size in ((TRAIN, TRAIN), (9, TRAIN), (11, 12)):
        block, x = block_and_image(kind, size)
        with torch.no_grad():
            assert torch.allclose(of_crops(block)(x), block(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", BLOCKS)
def test_equal_crops_give_the_originals_result_on_one(kind):
    block, crop = block_and_image(kind, (TRAIN, TRAIN))
    with torch.no_grad():
        got = of_crops(block)(crop.repeat(1, 1, 3, 2))
        assert torch.allclose(got, block(crop).repeat(1, 1, 3, 2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", BLOCKS)
def test_gradients_flow_through_both_passes(kind):
    block, x = block_and_image(kind, (20, 37))
    local = of_crops(block)
    with torch.no_grad():
        wanted = local(x)
    x.requires_grad_()
    got = local(x)
    assert torch.allclose(got.detach(), wanted, rtol=1e-10, atol=1e-10)
    (slope,) = torch.autograd.grad((got * got.detach().cos()).sum(), x)
    step = 1e-6 * torch.randn_like(x)
    with torch.no_grad():
        change = ((local(x + step) - local(x - step)) / 2 * got.cos()).sum()
    assert torch.allclose(change, (slope * step).sum(), rtol=1e-4)


@pytest.mark.parametrize("network", [NAFNet, HINet, Restormer])
def test_far_pixels_change_nothing(network):
    torch.manual_seed(0)
    options = {
        NAFNet: {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]},
        HINet: {"wf": 4},
        Restormer: {
            "dim": 4,
            "num_blocks": [1, 1, 1, 1],
            "num_refinement_blocks": 1,
            "heads": [1, 1, 1, 1],
        },
    }[network]
    local = glocal.localize(network(**options).double().eval(), 32, statistics="crops")
    x = torch.rand(1, 3, 32, 448, dtype=torch.float64)
    y = x.clone()
    y[..., :32] *= 3
    with torch.no_grad():
        change = (local(x) - local(y)).abs().amax((0, 1, 2))
    assert change[:32].max() > 1e-6
    assert change[416:].max() == 0


def test_images_of_a_batch_do_not_mix():
    block, x = block_and_image(Gate, (21, 40), batch=3)
    local = of_crops(block)
    with torch.no_grad():
        assert torch.allclose(local(x)[1:2], local(x[1:2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(33, 47), (9, 40), (40, 16)])
@pytest.mark.parametrize("kind", [Gate, InstanceNorm, GroupNorm, Attention])
def test_kernels_compute_the_same(kind, size, memory_format):
    """float32 takes C++ where it is built."""
    block, x = block_and_image(kind, size)
    local = of_crops(block)
    with torch.no_grad():
        got = copy.deepcopy(local).float()(x.float().to(memory_format=memory_format))
        assert torch.allclose(got.double(), local(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    block, x = block_and_image(InstanceNorm, (21, 40))
    local = of_crops(block)
    with torch.no_grad():
        got = copy.deepcopy(local).to(dtype)(x.to(dtype))
        assert got.dtype == dtype
        assert torch.allclose(got.double(), local(x), atol=20 * torch.finfo(dtype).eps)
        last = local(x.to(memory_format=torch.channels_last))
        assert torch.allclose(last, local(x), rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_run_in_two_passes():
    block, x = block_and_image(Gate, (21, 40))
    local = of_crops(block)
    assert list(local.state_dict()) == list(block.state_dict())
    for other in (copy.deepcopy(local), pickle.loads(pickle.dumps(local))):
        other.fc[0].weight.data.zero_()
        with torch.no_grad():
            assert not torch.allclose(other(x), local(x))
            assert torch.allclose(other(x), x * torch.sigmoid(other.fc[0].bias)[:, None, None])


@pytest.mark.parametrize("stride", [0, -1.0])
def test_a_stride_must_be_positive(stride):
    with pytest.raises(glocal.ArgumentError, match="stride must be above 0"):
        of_crops(Gate().double(), stride=stride)


def test_a_module_alone_has_no_crops():
    local = of_crops(nn.Sequential(Gate()).double())
    with pytest.raises(glocal.GlocalError, match="call the network that localize returned"):
        local[0].pool(torch.rand(1, 4, 40, 40).double())
