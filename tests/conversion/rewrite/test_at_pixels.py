"""Products and filters with values for each pixel, against einsum and loops over the pixels."""

import pytest
import torch
import torch.nn.functional as F
from meetings import meeting, rewritten
from torch import nn
from versions import torch_2_6

from glocal.conversion.rewrite import at_pixels
from glocal.ops import lazy

IMAGES, HEIGHT, WIDTH = 2, 5, 6


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("terms", "result", "shapes"),
    [
        (["bij", "bj"], "bi", [(2, 3, 4), (2, 4)]),
        (["bj", "bij"], "bi", [(2, 4), (2, 3, 4)]),
        (["bij", "bkj"], "bki", [(2, 3, 4), (2, 2, 4)]),
        (["bi", "b"], "ib", [(2, 3), (2,)]),
        (["bk", "kij", "bj"], "bi", [(2, 2), (2, 3, 4), (2, 4)]),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_a_product_is_an_einsum_at_each_pixel(terms, result, shapes, flat):
    factors = [random(*shape, HEIGHT, WIDTH) for shape in shapes]
    if flat:
        factors[0] = factors[0][..., :1, :1]
    sizes = {n: s for t, shape in zip(terms, shapes, strict=True) for n, s in zip(t, shape)}  # noqa: B905
    summed = {letter: size for letter, size in sizes.items() if letter not in result}
    equation = ",".join(f"{term}YX" for term in terms) + f"->{result}YX"
    wanted = torch.einsum(equation, *(f.expand(*f.shape[:-2], HEIGHT, WIDTH) for f in factors))
    got = at_pixels.product_at_pixels(factors, terms, result, summed)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_dims_that_broadcast_are_left_out():
    matrices, x = random(2, 1, 3, 3, HEIGHT, WIDTH), random(2, 4, 3, HEIGHT, WIDTH)
    got = at_pixels.product_at_pixels([matrices, x], ["b.ij", "bnj"], "bni", {"j": 3})
    wanted = torch.einsum("bijyx,bnjyx->bniyx", matrices[:, 0], x)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "out", "channels", "kernel", "stride", "padding", "dilation"),
    [
        (4, 1, 1, (3, 3), (1, 1), (1, 1), (1, 1)),
        (1, 3, 4, (1, 1), (1, 1), (0, 0), (1, 1)),
        (2, 3, 2, (3, 2), (1, 1), (2, 0), (2, 1)),
        (2, 1, 2, (3, 3), (2, 1), (1, 1), (1, 1)),
    ],
)
def test_a_filter_is_a_convolution_at_each_pixel(
    groups, out, channels, kernel, stride, padding, dilation
):
    x = random(1, IMAGES * groups * channels, HEIGHT, WIDTH)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    like = F.conv2d(
        x, random(IMAGES * groups * out, channels, *kernel), groups=IMAGES * groups, **options
    )
    height, width = like.shape[-2:]
    weights = random(IMAGES * groups * out, channels, *kernel, height, width)
    biases = random(IMAGES * groups * out, height, width)
    shape = (groups, out, channels, *kernel)
    got = at_pixels.filter_at_pixels(x, weights, biases, shape, stride, padding, dilation)
    for i in range(height):
        for j in range(width):
            w, b = weights[..., i, j], biases[..., i, j]
            wanted = F.conv2d(x, w, b, groups=IMAGES * groups, **options)[..., i, j]
            torch.testing.assert_close(got[..., i, j], wanted, rtol=1e-12, atol=1e-12)


def test_stacked_statistics_become_a_map():
    x = random(IMAGES, 6, HEIGHT, WIDTH)
    with torch.no_grad():
        grid = lazy.local_mean(x, (3, 4))
        stacked = grid.values.permute(2, 3, 0, 1).reshape(-1, 2, 3)
        whole = at_pixels.map_of_windows(stacked, grid)
        assert whole.shape == (IMAGES, 2, 3, HEIGHT, WIDTH)
        torch.testing.assert_close(whole + 0, grid.padded().unflatten(1, (2, 3)))
        half = at_pixels.map_of_windows(stacked, grid, (2, 3))
        nearest = F.interpolate(grid.padded(), (2, 3), mode="nearest-exact")
        torch.testing.assert_close(half.flatten(1, 2), nearest)


def layers():
    prompt = nn.Parameter(torch.ones(3, 4, 5, 6))
    return {"fc": nn.Linear(4, 16), "taps": nn.Linear(4, 36), "mix": nn.Linear(4, 3), "p": prompt}


def colour(net, x, y):
    return torch.einsum("bij,bjhw->bihw", net.fc(y).view(-1, 4, 4), x)


def filtered(net, x, y):
    b, c, h, w = x.shape
    weight = net.taps(y).view(b * c, 1, 3, 3)
    return F.conv2d(x.reshape(1, b * c, h, w), weight, padding=1, groups=b * c).view(b, c, h, w)


def prompted(net, x, y):
    mixed = torch.einsum("bl,lchw->bchw", net.mix(y).softmax(1), net.p)
    return x + F.interpolate(mixed, x.shape[2:], mode="bilinear")


@pytest.mark.slow
@pytest.mark.skipif(torch_2_6, reason="torch 2.6 refuses it")
@pytest.mark.parametrize("meet", [colour, filtered, prompted])
def test_exported_blocks_have_values_for_each_pixel(meet):
    net = meeting(lambda net, x: x.mean((2, 3)), meet, layers)
    local = rewritten(net)
    x = random(2, 4, 12, 15)
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        taken = torch.export.export(local, (x,), dynamic_shapes=((dynamic,),), strict=False)
        for size in ((12, 15), (4, 12), (8, 8)):
            x = random(3, 4, *size)
            torch.testing.assert_close(taken.module()(x), local(x), rtol=1e-9, atol=1e-12)
