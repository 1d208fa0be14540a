"""Blocks that pad the map to a multiple, against windows of the padded map pixel by pixel."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from versions import needs_torch_2_7

import glocal
from glocal.errors import ConversionError

TRAIN, WINDOW = 32, 48
D = (2, 3)


class Block(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv, self.gate = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.function(self, x)


class Net(nn.Module):
    """A block in a network."""

    def __init__(self, function):
        super().__init__()
        self.head, self.block = nn.Conv2d(3, 4, 1), Block(function)

    def forward(self, x):
        return self.block(self.head(x))


def right(x, multiple, mode="constant", value=None):
    h, w = x.shape[2:]
    return F.pad(x, (0, -w % multiple, 0, -h % multiple), mode, value)


def amounts(x, multiple):
    """Rows and columns to add before and after, as networks centre the image."""
    (down, along) = ((multiple - n % multiple) % multiple for n in x.shape[2:])
    return down // 2, down - down // 2, along // 2, along - along // 2


def centred(x, multiple, mode="reflect"):
    top, bottom, left, end = amounts(x, multiple)
    return F.pad(x, (left, end, top, bottom), mode)


def back(x, like, top=0, left=0):
    h, w = like.shape[2:]
    return x[:, :, top : top + h, left : left + w]


def mean(x):
    return x.mean(D, keepdim=True)


def standardised(x):
    centre = x - mean(x)
    return centre / (mean(centre.square()) + 1e-3).sqrt()


def only_where_needed(m, x):
    h, w = x.shape[2:]
    down, along = -h % 32, -w % 32
    y = F.pad(x, (0, along, 0, down)) if down or along else x
    return x * m.gate(mean(y)).sigmoid()


def one_axis_after_the_other(m, x):
    h, w = x.shape[2:]
    y = x
    if w % 8:
        y = F.pad(y, (0, -w % 8, 0, 0), "replicate")
    if h % 8:
        y = F.pad(y, (0, 0, 0, -h % 8), "replicate")
    return back(y * m.gate(y.amax(D, keepdim=True)), x)


def in_the_middle(m, x):
    top, _, left, _ = amounts(x, 16)
    return back(standardised(centred(x, 16)), x, top, left)


def pad_every(multiple):
    return lambda x: right(x, multiple)


# The block; how it pads; what it computes of the padded map and the statistics of a window of it.
FORMS = {
    "mean beside the map": (
        lambda m, x: x * m.gate(mean(right(x, 32))).sigmoid(),
        pad_every(32),
        lambda m, p, s: p * m.gate(mean(s)).sigmoid(),
    ),
    "mean where needed": (
        only_where_needed,
        pad_every(32),
        lambda m, p, s: p * m.gate(mean(s)).sigmoid(),
    ),
    "more than the training size": (
        lambda m, x: x * m.gate(mean(right(x, 64))).sigmoid(),
        pad_every(64),
        lambda m, p, s: p * m.gate(mean(s)).sigmoid(),
    ),
    "cut back": (
        lambda m, x: back((y := right(x, 16, "reflect")) * m.gate(mean(y)), x),
        lambda x: right(x, 16, "reflect"),
        lambda m, p, s: p * m.gate(mean(s)),
    ),
    "maximum, one axis after the other": (
        one_axis_after_the_other,
        lambda x: right(x, 8, "replicate"),
        lambda m, p, s: p * m.gate(s.amax(D, keepdim=True)),
    ),
    "standardised in the middle": (
        in_the_middle,
        lambda x: centred(x, 16),
        lambda m, p, s: (p - mean(s)) / (s.var(D, correction=0, keepdim=True) + 1e-3).sqrt(),
    ),
    "norm": (
        lambda m, x: back(F.instance_norm(right(x, 32)), x),
        pad_every(32),
        lambda m, p, s: (p - mean(s)) / (s.var(D, correction=0, keepdim=True) + 1e-5).sqrt(),
    ),
    "deviation, pooled, filled with a value": (
        lambda m, x: (
            x * (y := right(x, 8, value=0.5)).std(D, keepdim=True) + F.adaptive_avg_pool2d(y, 1)
        ),
        lambda x: right(x, 8, value=0.5),
        lambda m, p, s: p * s.std(D, keepdim=True) + mean(s),
    ),
    "sum over the size": (
        lambda m, x: x * (y := right(x, 32)).sum(D, keepdim=True) / (y.shape[2] * y.shape[3]),
        pad_every(32),
        lambda m, p, s: p * mean(s),
    ),
}
QUICK = ("mean beside the map", "mean where needed", "standardised in the middle")
CONSTANT = needs_torch_2_7("slicing to a computed size fixes it: a map that is cut back is refused")
CUT_BACK = ("cut back", "norm", "standardised in the middle")
CASES = [
    pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK) + [CONSTANT] * (n in CUT_BACK))
    for n in FORMS
]


def networks(function):
    torch.manual_seed(0)
    net = Net(function).double().eval()
    return net, glocal.localize(net, TRAIN)


def by_windows(m, x, pad, result):
    """What the block computes at each pixel from the window of that pixel in the padded map."""
    p = pad(x)
    sides = [min(n, WINDOW) for n in x.shape[2:]]
    window = pad(torch.zeros(1, 1, *sides, dtype=x.dtype)).shape[2:]
    top, left = ((p.shape[2:][d] - x.shape[2:][d]) // 2 for d in (0, 1))
    if torch.equal(p[:, :, : x.shape[2], : x.shape[3]], x):
        top = left = 0
    wanted = torch.empty_like(x)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            at = (i + top, j + left)
            y0, x0 = (
                min(max(n - (k - 1) // 2, 0), max(0, size - k))
                for n, k, size in zip(at, window, p.shape[2:], strict=True)
            )
            inside = p[:, :, y0 : y0 + window[0], x0 : x0 + window[1]]
            pixel = p[:, :, at[0] : at[0] + 1, at[1] : at[1] + 1]
            wanted[:, :, i, j] = result(m, pixel, inside)[:, :, 0, 0]
    return wanted


@pytest.mark.parametrize("name", CASES)
def test_the_statistic_is_of_windows_of_the_padded_map(name):
    function, pad, result = FORMS[name]
    net, local = networks(function)
    for size in ((32, 32), (40, 44), (33, 47), (48, 48)):
        x = torch.rand(2, 3, *size, dtype=torch.float64)
        with torch.inference_mode():
            torch.testing.assert_close(local(x), net(x), rtol=1e-9, atol=1e-9)
    for size in ((70, 39), (83, 101)):
        x = torch.rand(1, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            wanted = by_windows(net.block, net.head(x), pad, result)
            torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(net(x), wanted)
        with torch.inference_mode():
            torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-9)
        made = local(x.requires_grad_())
        torch.testing.assert_close(made, wanted, rtol=1e-9, atol=1e-9)
        made.sum().backward()


def flattened(m, x):
    return x * right(x, 8).flatten(2).mean(2)[:, :, None, None]


def beside_another(m, x):
    return x * (mean(right(x, 32)) + mean(x))


def halved(m, x):
    return x * mean(F.avg_pool2d(right(x, 32), 2))


def of_rows(m, x):
    return x * F.pad(x, (0, -x.shape[3] % 16)).mean(3, keepdim=True)


def attended(m, x):
    y = right(x, 8).flatten(2)
    return x * (y * y[:, :1].softmax(2)).sum(2)[:, :, None, None]


def in_steps(m, x):
    return x * mean((x - mean(right(x, 32))).square())


@pytest.mark.parametrize(
    "function", [flattened, beside_another, halved, of_rows, attended, in_steps]
)
def test_another_statistic_of_a_padded_map_is_refused(function):
    with pytest.raises(ConversionError, match=r"it pads the map \(test_padding.py:\d+\)"):
        networks(function)


@CONSTANT
def test_a_map_that_was_padded_for_a_layer_and_cut_back_is_a_map():
    def function(m, x):
        y = back(m.conv(right(x, 16)), x)
        return y * mean(y)

    net, local = networks(function)
    for size in ((40, 44), (70, 39)):
        x = torch.rand(1, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            y = back(net.block.conv(right(net.head(x), 16)), x)
            wanted = by_windows(net.block, y, lambda y: y, lambda m, p, s: p * mean(s))
            torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-9)


def doubled_where_needed(m, x):
    y = x * 2 if x.shape[2] % 32 else x
    return y * mean(y)


def a_whole_multiple_where_needed(m, x):
    h = x.shape[2]
    y = F.pad(x, (0, 0, 0, 8 - h % 8), "replicate") if h % 8 else x
    return x * mean(y)


@pytest.mark.parametrize("function", [doubled_where_needed, a_whole_multiple_where_needed])
def test_code_that_takes_another_path_at_other_sizes_is_refused(function):
    with pytest.raises(ConversionError, match=r"(other operations|another path) at \d+x\d+"):
        networks(function)


def test_the_proof_says_where_a_block_runs_its_original():
    def function(m, x):
        y = x * 1 if x.shape[2] % 32 else x  # the same values by another path
        return y * mean(y)

    text = (
        r"at test_padding.py:\d+ runs other operations at 16x\d+ .*, and Block .* runs global there"
    )
    with pytest.raises(ConversionError, match=text):
        networks(function)
