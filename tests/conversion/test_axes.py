"""Operations along one axis: what becomes local, what runs on windows, and what is refused."""

import pytest
import torch
from hand_written import Net
from oracles.idioms import by_tiles, by_windows

import glocal

WINDOW = (18, 14)


def join(x):
    return torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)


def slices_of_a_joined_strip(net, x):
    y, h = join(x).relu(), x.shape[2]
    return x * y[:, :, :h] + y[:, :, h:].transpose(2, 3)


def narrow_parts_of_a_joined_strip(net, x):
    y, (h, w) = join(x).square(), x.shape[2:]
    return x * y.narrow(2, 0, h) + y.narrow(2, h, w).transpose(2, 3)


def product_of_row_and_column(net, x):
    return x * (x.amax(3, keepdim=True) @ x.mean(2, keepdim=True))


def rows_without_their_axis(net, x):
    return x * net.linear(x.std(3).transpose(1, 2)).transpose(1, 2)[..., None]


def rows_and_the_map(net, x):
    rows = x.mean(3, keepdim=True)
    return x * rows + rows.mean(2, keepdim=True)


@pytest.mark.parametrize(
    "function",
    [
        slices_of_a_joined_strip,
        pytest.param(narrow_parts_of_a_joined_strip, marks=pytest.mark.slow),
        product_of_row_and_column,
        rows_without_their_axis,
        pytest.param(rows_and_the_map, marks=pytest.mark.slow),
    ],
    ids=lambda f: f.__name__,
)
def test_statistics_of_one_axis_follow_the_law_of_windows(function):
    net = Net(function).double().eval()
    local = glocal.localize(net, 16, window=WINDOW)
    x = torch.rand(2, 3, 23, 21).double()
    with torch.no_grad():
        y = net.conv(x)
        wanted = by_windows(lambda patch: function(net, patch), y, WINDOW)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(local(x).detach(), wanted, rtol=1e-9, atol=1e-12)


def softmax_of_rows(net, x):
    return x * x.mean(3, keepdim=True).softmax(2)


def norm_of_a_joined_strip(net, x):
    y, h = torch.nn.functional.group_norm(join(x), 2), x.shape[2]
    return x * y[:, :, :h] + y[:, :, h:].transpose(2, 3)


@pytest.mark.parametrize("function", [softmax_of_rows, norm_of_a_joined_strip])
def test_strips_that_are_mixed_along_themselves_run_on_windows_of_the_map(function):
    net = Net(function).double().eval()
    local = glocal.localize(net, 16, window=WINDOW)
    x = torch.rand(2, 3, 23, 21).double()
    with torch.no_grad():
        y = net.conv(x)
        wanted = by_tiles(lambda crop: function(net, crop), y, window=WINDOW)
        torch.testing.assert_close(local(x), wanted, rtol=1e-9, atol=1e-12)


def test_the_plan_shows_windows_along_the_axis():
    rows = glocal.scan(Net(product_of_row_and_column), 64).rows
    assert [row.window for row in rows] == [(1, 96), (96, 1)]
    assert not glocal.scan(Net(product_of_row_and_column), 64).warnings()


def row_and_map(net, x):
    return x * (x.mean(3, keepdim=True) + x.mean((2, 3), keepdim=True))


def rows_then_columns(net, x):
    x = x * x.mean(3, keepdim=True)
    return x * x.mean(2, keepdim=True)


def one_row(net, x):
    return x * x.mean(3, keepdim=True)[:, :, :1]


def running_sum(net, x):
    return x.cumsum(3)


def attention_of_images(net, x):
    flat = x.flatten(2)
    return x + ((flat @ flat.transpose(1, 2)).softmax(0) @ flat).view(x.shape)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (row_and_map, "add combines statistics over different axes of the map"),
        (rows_then_columns, "the mean over one axis of a map of other statistics"),
        (one_row, "it selects values of the map by position"),
        (running_sum, "cumsum over the pixels has no local form"),
        (attention_of_images, "softmax mixes or selects the images of a batch"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_has_no_law_is_refused(function, reason):
    with pytest.raises(glocal.ConversionError, match=reason):
        glocal.localize(Net(function), 16, window=WINDOW)
