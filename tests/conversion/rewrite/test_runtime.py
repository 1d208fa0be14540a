"""The functions that rewritten blocks call."""

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.conversion.rewrite import runtime

MAPS = [  # shape of a tensor with a 6x5 map of 4 channels, and its dims as in `MapDims`
    ((2, 4, 6, 5), (2, 3, 1)),
    ((2, 6, 5, 4), (1, 2, 1)),
    ((2, 6, 4, 5), (1, 3, 1)),
    ((2, 4, 30), (2, 2, 1)),
    ((2, 30, 4), (1, 1, 1)),
    ((2, 2, 30, 2), (2, 2, 1)),
    ((2, 120), (1, 1, 4)),
    ((2, 2, 60), (2, 2, 2)),
]


@pytest.mark.parametrize(("shape", "where"), MAPS)
def test_from_map_undoes_as_map(shape, where):
    x = torch.randn(shape)
    m = runtime.as_map(x, where, (6, 5))
    assert m.shape[-2:] == (6, 5)
    assert torch.equal(runtime.from_map(m, where), x)


@pytest.mark.parametrize(("shape", "where"), MAPS)
@pytest.mark.parametrize("window", [(3, 2), (6, 2), (9, 9)])
def test_stacked_statistics_broadcast_to_the_pixels_of_their_windows(shape, where, window):
    x = torch.randn(shape, dtype=torch.float64)
    m = runtime.as_map(x, where, (6, 5))
    grid = runtime.window_statistic(m, "mean", window)
    rows, columns, channels = where
    item_shape = [1 if d in (rows, columns) else n for d, n in enumerate(shape)][1:]
    if channels > 1:  # the statistic reduces those channels too
        grid = runtime.window_statistic(m, "mean", window, over=[rows])
    made = runtime.broadcastable(
        runtime.stack_windows(grid, grid, item_shape), grid, where, (6, 5), False
    )
    flat = m.reshape(2, -1, 6, 5)
    wanted = oracles.local_mean(flat, window).reshape(m.shape)
    if channels > 1:
        wanted = wanted.mean(rows, keepdim=True).expand(m.shape)
    got = runtime.as_map(made.expand(shape), where, (6, 5))
    torch.testing.assert_close(got, wanted)


@given(st.integers(0, 10_000), st.sampled_from([(3, 4), (5, 2), (9, 3), (20, 20)]))
@settings(max_examples=25)
def test_statistics_against_their_definitions(seed, window):
    x = oracles.ramp_noise(2, 3, 7, 9, seed=seed)
    over_channels = {
        "mean": x.mean(1, keepdim=True),
        "sum": x.sum(1, keepdim=True),
        "amax": x.amax(1, keepdim=True),
        "amin": x.amin(1, keepdim=True),
    }
    pixels = min(window[0], 7) * min(window[1], 9)
    slow = {
        "mean": oracles.local_mean,
        "sum": lambda t, w: oracles.local_mean(t, w) * pixels,
        "amax": oracles.local_max,
        "amin": lambda t, w: -oracles.local_max(-t, w),
        "logsumexp": lambda t, w: (oracles.local_mean(t.exp(), w) * pixels).log(),
        "norm": lambda t, w: (oracles.local_mean(t.square(), w) * pixels).sqrt(),
    }
    for kind, define in slow.items():
        got = runtime.window_statistic(x, kind, window)
        torch.testing.assert_close(got.expand(x.shape), define(x, window), rtol=1e-9, atol=1e-9)
        if kind in over_channels:
            got = runtime.window_statistic(x, kind, window, over=[1])
            wanted = define(over_channels[kind], window)
            torch.testing.assert_close(got.expand(wanted.shape), wanted, rtol=1e-9, atol=1e-9)


def test_exponentials_neither_underflow_nor_overflow():
    x = torch.tensor([[[[-3000.0, 0.0, 3000.0, 2999.0]]]])
    shift, powers = runtime.exponentials(x)
    assert shift == 3000
    assert powers.isfinite().all()
    assert (powers > 0).all()
    got = runtime.window_statistic(x, "logsumexp", (1, 2))
    torch.testing.assert_close(got[0, 0, 0, -1], torch.tensor([3000.0, 2999.0]).logsumexp(0))
