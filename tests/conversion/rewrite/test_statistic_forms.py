"""Statistics that are copied to every pixel, compared, or normalise the map."""

import oracles
import pytest
import torch
import torch.nn.functional as F
from meetings import MAP, WINDOW, assert_local_at_pixels, meeting, rewritten
from torch import nn

from glocal.errors import ConversionError


def gate():
    return {"conv": nn.Conv2d(4, 4, 1), "mix": nn.Conv2d(8, 4, 1), "fc": nn.Linear(8, 4)}


def pooled(net, x):
    return net.conv(F.adaptive_avg_pool2d(x, 1)).sigmoid()


def centred(y, x):
    """Pad a statistic to the size of the map, as TLC's MPRNet does."""
    h, w = x.shape[2] - y.shape[2], x.shape[3] - y.shape[3]
    return F.pad(y, (w // 2, (w + 1) // 2, h // 2, (h + 1) // 2), mode="replicate")


def tokens(net, x, y):
    t = x.flatten(2).transpose(1, 2)
    t = torch.cat([t, y.flatten(1)[:, None].expand(-1, t.shape[1], -1)], 2)
    return net.fc(t).transpose(1, 2).reshape(x.shape)


COPIES = {
    "padded": lambda net, x, y: x * centred(y, x),
    "padded to the right": lambda net, x, y: (
        x * F.pad(y, (0, x.shape[3] - 1, 0, x.shape[2] - 1), mode="replicate")
    ),
    "bilinear": lambda net, x, y: x - F.interpolate(y, x.shape[2:], mode="bilinear"),
    "expand_as": lambda net, x, y: x / (1 + y.expand_as(x)),
    "repeat": lambda net, x, y: x - y.repeat(1, 1, *x.shape[2:]),
    "tile, one axis each": lambda net, x, y: (
        x * torch.tile(y, (1, 1, x.shape[2], 1)).tile(1, 1, 1, x.shape[3])
    ),
    "repeat_interleave": lambda net, x, y: (
        x * y.repeat_interleave(x.shape[2], 2).repeat_interleave(x.shape[3], 3)
    ),
    "broadcast_tensors": lambda net, x, y: torch.mul(*torch.broadcast_tensors(x, y)),
    "concatenated": lambda net, x, y: net.mix(torch.cat([x, y.expand(-1, -1, *x.shape[2:])], 1)),
    "concatenated, padded": lambda net, x, y: net.mix(torch.cat([centred(y, x), x], 1)),
    "concatenated tokens": tokens,
}


@pytest.mark.parametrize("name", COPIES)
def test_a_statistic_copied_to_every_pixel(name):
    assert_local_at_pixels(meeting(pooled, COPIES[name], gate))


def test_neighbours_have_the_statistics_of_their_own_windows():
    """A 3x3 convolution of the map and its statistic reads a map of statistics."""

    def meet(net, x, y):
        return net.wide(torch.cat([x, y.expand(-1, -1, *x.shape[2:])], 1))

    block = meeting(pooled, meet, lambda: {**gate(), "wide": nn.Conv2d(8, 4, 3, padding=1)})
    x = oracles.ramp_noise(2, 4, *MAP)
    statistics = oracles.sliding(x, WINDOW, lambda patch: pooled(block, patch)[..., 0, 0])
    with torch.no_grad():
        wanted = block.wide(torch.cat([x, statistics], 1))
        torch.testing.assert_close(rewritten(block)(x), wanted, rtol=1e-9, atol=1e-12)


def mean(net, x):
    return x.mean((2, 3), keepdim=True)


LEVEL = 0.36  # the windows of the test map have means on both sides

MASKS = {
    "float": lambda net, x, y: x * (y > LEVEL).double() + x.square(),
    "bool": lambda net, x, y: x + (y > LEVEL) * x.square(),
    "type_as": lambda net, x, y: x + (y.flatten(1) > LEVEL).type_as(x)[:, :, None, None],
    "where, a number": lambda net, x, y: torch.where(y > LEVEL, x, 0),
    "where, two maps": lambda net, x, y: torch.where(x > y, x, 0.1 * x),
    "masked_fill": lambda net, x, y: x.masked_fill(y < LEVEL, 0.5),
    "masked_fill of pixels": lambda net, x, y: x.masked_fill(x < y, 0.5),
    "both": lambda net, x, y: x + ((y > LEVEL) & (y < LEVEL + 0.05)).to(x.dtype),
    "straight through": lambda net, x, y: x * ((y > LEVEL).to(x.dtype) - y.detach() + y),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_statistic_that_is_compared(name):
    assert_local_at_pixels(meeting(mean, MASKS[name]))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda y: y.softmax(0),
        lambda y: y.flip(0),
        lambda y: y.roll(1, 0),
        lambda y: y.cumsum(0),
        lambda y: F.layer_norm(y, y.shape),
        lambda y: torch.cat([y[1:], y[:1]]),
    ],
)
def test_statistics_of_several_images_are_refused(mixed):
    block = meeting(lambda net, x: x.mean((2, 3)), lambda net, x, y: x * mixed(y)[..., None, None])
    with pytest.raises(
        ConversionError, match=r"images of a batch|away from the first dim|constant"
    ):
        rewritten(block)


def response_norm(net, x):
    norms = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
    return x * norms / (norms.mean(1, keepdim=True) + 1e-6) + x


def adaptive_norm(net, x):
    b, c, h, w = x.shape
    mean, var = torch.zeros(c).repeat(b).double(), torch.ones(c).repeat(b).double()
    style = net.fc(x.amax((2, 3)).repeat(1, 2)).flatten()
    out = F.batch_norm(x.contiguous().view(1, b * c, h, w), mean, var, style, style, training=True)
    return out.view(b, c, h, w)


def std_mean(net, x):
    deviation, mean = torch.std_mean(x, (2, 3), keepdim=True)
    return (x - mean) / (deviation + 1e-4)


def var_mean(net, x):
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, unbiased=False)
    return (x - mean) * torch.rsqrt(variance + 1e-4)


NORMS = {
    "layer_norm of each channel": lambda net, x: F.layer_norm(x, x.shape[2:]),
    "layer_norm of flat channels": lambda net, x: F.layer_norm(
        x.flatten(2), (x.shape[2] * x.shape[3],)
    ).view_as(x),
    "layer_norm of groups": lambda net, x: F.layer_norm(
        x.unflatten(1, (2, 2)), (2, *x.shape[2:])
    ).flatten(1, 2),
    "global response norm": response_norm,
    "adaptive instance norm by batch_norm": adaptive_norm,
    "std_mean": std_mean,
    "var_mean": var_mean,
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_follow_the_law_of_windows(name):
    norm = NORMS[name]
    block = meeting(lambda net, x: None, lambda net, x, _: norm(net, x), gate)
    local = rewritten(block)
    x = oracles.ramp_noise(2, 4, *MAP)
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with context:
            got = local(x)
        for i, j in ((0, 0), (4, 4), (3, 8), (7, 2)):
            top, left = (
                oracles.window_start(p, k, n) for p, k, n in zip((i, j), WINDOW, MAP, strict=True)
            )
            patch = x[..., top : top + WINDOW[0], left : left + WINDOW[1]].contiguous()
            wanted = block(patch)[..., i - top, j - left]
            torch.testing.assert_close(got[..., i, j], wanted, rtol=1e-9, atol=1e-12)


def cut(x):
    """Cut a map into four quarters, which become channels."""
    b, c, h, w = x.shape
    quarters = x.view(b, c, 2, h // 2, 2, w // 2).permute(0, 1, 2, 4, 3, 5)
    return quarters.reshape(b, 4 * c, h // 2, w // 2)


def join(x):
    """Undo `cut`."""
    b, c, h, w = x.shape
    quarters = x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 2, 4, 3, 5)
    return quarters.reshape(b, c // 4, 2 * h, 2 * w)


def centre_quarters(net, x, _):
    t = cut(x)
    return join(2 * t - t.mean((2, 3), keepdim=True))


def centre_quarters_in_place(net, x, _):
    b, c, h, w = x.shape
    t = x.view(b, c, 2, h // 2, 2, w // 2)
    return (2 * t - t.mean((3, 5), keepdim=True)).reshape(b, c, h, w)


@pytest.mark.parametrize("meet", [centre_quarters, centre_quarters_in_place])
def test_each_cell_of_a_map_has_windows_of_its_own(meet):
    block = meeting(lambda net, x: None, meet)
    x = oracles.ramp_noise(2, 4, 16, 18)
    with torch.no_grad():
        wanted = join(2 * cut(x) - oracles.local_mean(cut(x), WINDOW))
        torch.testing.assert_close(rewritten(block)(x), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "meet",
    [
        lambda net, x, y: join(F.group_norm(cut(x), 2)),
        lambda net, x, y: join(cut(x) * y.repeat(1, 4, 1, 1)),
        lambda net, x, y: (
            x.unflatten(3, (2, -1)).unflatten(2, (2, -1))
            - x.unflatten(3, (2, -1)).unflatten(2, (2, -1)).mean((2, 3, 4, 5), keepdim=True)
        ).reshape(x.shape),
    ],
)
def test_statistics_that_do_not_keep_cells_apart_are_refused(meet):
    block = meeting(lambda net, x: x.mean((2, 3), keepdim=True), meet)
    with pytest.raises(ConversionError, match="cut into a grid of cells"):
        rewritten(block)
