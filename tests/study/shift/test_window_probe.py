"""The statistics of tiny networks under TLC, against the operations' own."""

import pytest
import torch
from probed import (
    NETWORKS,
    TRAIN,
    WINDOW,
    Block,
    FunctionalMean,
    Halved,
    Instance,
    SqueezeExcite,
    SumOverArea,
    Twice,
    build,
    features,
    local_form,
    photo,
)
from torch import Tensor

from glocal.conversion.localize import localize
from glocal.ops import local_mean, local_moments
from glocal.study.shift.probe import Probe
from glocal.study.shift.window_probe import WindowProbe, sampled_pixels


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_a_window_that_covers_the_image_shows_what_is_global(network: type[Block]) -> None:
    model, scan = build(network)
    x = photo(20, 24)
    full = Probe(model, scan)(x)
    local = WindowProbe(model, scan, local_form(network))(x)
    for a, b in zip(full, local, strict=True):
        assert len(b) == 64
        assert b == pytest.approx(a.repeat(64, 0), rel=1e-4, abs=1e-5)


def at_sampled_pixels(local: Tensor) -> Tensor:
    """(c, h, w) to (64, c)."""
    rows, columns = (sampled_pixels(n) for n in local.shape[-2:])
    return local[:, rows][:, :, columns].flatten(1).T


def sorted_by_columns(values: Tensor) -> Tensor:
    return values.double().sort(0).values


@pytest.mark.parametrize("size", [(40, 52), (25, 70), (90, 30), (61, 61)])
@pytest.mark.parametrize("network", [SqueezeExcite, FunctionalMean, SumOverArea])
def test_means_under_tlc_are_those_of_the_operation(
    network: type[Block], size: tuple[int, int]
) -> None:
    model, scan = build(network)
    converted = local_form(network)
    (values,) = WindowProbe(model, scan, converted)(photo(*size))
    expected = at_sampled_pixels(local_mean(features(model, photo(*size)), WINDOW)[0])
    torch.testing.assert_close(
        sorted_by_columns(torch.from_numpy(values)), sorted_by_columns(expected)
    )


@pytest.mark.parametrize("size", [(40, 52), (90, 30)])
def test_moments_under_tlc_are_those_of_the_operation(size: tuple[int, int]) -> None:
    model, scan = build(Instance)
    (values,) = WindowProbe(model, scan, local_form(Instance))(photo(*size))
    mean, variance = local_moments(features(model, photo(*size)), WINDOW)
    expected = at_sampled_pixels(torch.cat([mean, (variance + 1e-5).rsqrt()], 1)[0])
    torch.testing.assert_close(
        sorted_by_columns(torch.from_numpy(values)),
        sorted_by_columns(expected),
        rtol=1e-4,
        atol=1e-5,
    )


def test_each_call_of_a_module_is_measured_on_its_own_map() -> None:
    model, scan = build(Twice)
    converted = local_form(Twice)
    first, second = WindowProbe(model, scan, converted)(photo(40, 52))
    x = features(model, photo(40, 52))
    with torch.no_grad():
        again = 2 * converted.norm(x) + x
    for values, given in ((first, x), (second, again)):
        expected = at_sampled_pixels(local_mean(given, WINDOW)[0])
        got = sorted_by_columns(torch.from_numpy(values[:, :4]))
        torch.testing.assert_close(got, sorted_by_columns(expected), rtol=1e-4, atol=1e-5)


def test_an_operation_left_global_has_one_sample() -> None:
    model, scan = build(SqueezeExcite)
    converted = localize(model, TRAIN, window=WINDOW, keep_global="gate.*")
    full = Probe(model, scan)(photo(40, 52))
    local = WindowProbe(model, scan, converted)(photo(40, 52))
    assert local[0] == pytest.approx(full[0])


def test_an_image_is_padded_where_the_network_refuses_its_size() -> None:
    model, scan = build(Halved)
    converted = local_form(Halved)
    x = photo(41, 53)
    (values,) = Probe(model, scan)(x)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1), mode="reflect")
    with torch.no_grad():
        y = model.down(padded)
    assert values[0] == pytest.approx(y.mean((2, 3))[0].numpy(), rel=1e-5, abs=1e-6)
    (local,) = WindowProbe(model, scan, converted)(x)
    expected = at_sampled_pixels(local_mean(y, (12, 12))[0])
    torch.testing.assert_close(
        sorted_by_columns(torch.from_numpy(local)), sorted_by_columns(expected)
    )
