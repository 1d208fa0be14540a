"""The statistics of tiny networks, told by the probe and computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from probed import (
    TRAIN,
    WINDOW,
    Block,
    FunctionalMean,
    FusedTransposedAttention,
    GlobalContext,
    Group,
    HandWrittenVariance,
    Instance,
    ResponseNorm,
    SqueezeExcite,
    SumOverArea,
    TransposedAttention,
    Twice,
    TwoMeans,
    TwoSums,
    build,
    features,
    photo,
)
from torch import Tensor, nn

from glocal.conversion.localize import localize
from glocal.errors import ScanError
from glocal.study.shift.probe import Probe
from glocal.study.shift.window_probe import WindowProbe


def moments(x: Tensor, correction: int = 0) -> list[float]:
    variance, mean = torch.var_mean(x.double(), (2, 3), correction=correction)
    return [*mean[0].tolist(), *(variance[0] + 1e-5).rsqrt().tolist()]


@pytest.mark.parametrize("size", [(16, 16), (40, 52)])
@pytest.mark.parametrize("network", [SqueezeExcite, FunctionalMean, SumOverArea, TwoSums, TwoMeans])
def test_means_and_sums_are_measured_as_means(network: type[Block], size: tuple[int, int]) -> None:
    model, scan = build(network)
    (values,) = Probe(model, scan)(photo(*size))
    expected = features(model, photo(*size)).double().mean((2, 3)).numpy()
    assert values == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_norms_are_measured_per_pixel() -> None:
    model, scan = build(ResponseNorm)
    (values,) = Probe(model, scan)(photo(40, 52))
    rms = features(model, photo(40, 52)).double().square().mean((2, 3)).sqrt().numpy()
    assert values == pytest.approx(rms, rel=1e-5)


def test_instance_norm_shows_mean_and_inverse_deviation() -> None:
    model, scan = build(Instance)
    probe = Probe(model, scan)
    (values,) = probe(photo(40, 52))
    assert values[0] == pytest.approx(moments(features(model, photo(40, 52))), rel=1e-4, abs=1e-6)
    assert probe.statistics[0].name == "mean, inverse deviation"


def test_group_norm_shows_mean_and_inverse_deviation_of_groups() -> None:
    model, scan = build(Group)
    (values,) = Probe(model, scan)(photo(40, 52))
    x = features(model, photo(40, 52)).reshape(1, 2, 2 * 40, 52)
    assert values[0] == pytest.approx(moments(x), rel=1e-4, abs=1e-6)


def test_a_variance_by_hand_is_two_statistics() -> None:
    model, scan = build(HandWrittenVariance)
    mean, variance = Probe(model, scan)(photo(40, 52))
    x = features(model, photo(40, 52)).double()
    assert mean == pytest.approx(x.mean((2, 3)).numpy(), rel=1e-5, abs=1e-6)
    assert variance == pytest.approx(x.var((2, 3), correction=0).numpy(), rel=1e-4)


def test_transposed_attention_shows_its_cosines() -> None:
    model, scan = build(TransposedAttention)
    *norms, cosines = Probe(model, scan)(photo(40, 52))
    with torch.no_grad():
        q, k, _ = model.qkv(features(model, photo(40, 52))).chunk(3, 1)
    q, k = (F.normalize(t.flatten(2).unflatten(1, (2, 2)), dim=-1) for t in (q, k))
    assert len(norms) == 2
    assert cosines[0] == pytest.approx((q @ k.mT).flatten().numpy(), rel=1e-4, abs=1e-6)


def test_fused_attention_is_spelled_out() -> None:
    model, scan = build(FusedTransposedAttention)
    (product,) = Probe(model, scan)(photo(20, 24))
    with torch.no_grad():
        q, k, _ = model.qkv(features(model, photo(20, 24))).chunk(3, 1)
    q, k = (t.flatten(2).unflatten(1, (2, 2)) for t in (q, k))
    assert product[0] == pytest.approx((q @ k.mT).flatten().numpy(), rel=1e-4)


def test_weights_of_pixels_show_their_spread_whatever_their_number() -> None:
    model, scan = build(GlobalContext)
    probe = Probe(model, scan)
    assert probe.statistics[0].name == "deviation ÷ mean of the output"
    spread, context = probe(photo(40, 52))
    x = features(model, photo(40, 52))
    with torch.no_grad():
        weights = model.mask(x).flatten(2).softmax(-1)
    assert spread[0] == pytest.approx([float(weights.std(correction=0)) * 40 * 52], rel=1e-4)
    assert context[0] == pytest.approx((x.flatten(2) @ weights.mT).flatten().numpy(), rel=1e-4)
    # The same pixels twice are the same spread.
    assert probe(photo(40, 52).repeat(1, 1, 1, 2))[0] == pytest.approx(spread, rel=1e-4)


def test_a_module_called_twice_is_two_statistics() -> None:
    model, scan = build(Twice)
    first, second = Probe(model, scan)(photo(40, 52))
    x = features(model, photo(40, 52))
    with torch.no_grad():
        again = 2 * F.instance_norm(x) + x
    assert first[0] == pytest.approx(moments(x), rel=1e-4, abs=1e-6)
    assert second[0] == pytest.approx(moments(again), rel=1e-4, abs=1e-6)


# --- how it runs -----------------------------------------------------------------------------


def test_nothing_is_left_behind() -> None:
    model, scan = build.__wrapped__(Twice)
    calls: list[int] = []
    model.norm.register_forward_hook(lambda *_: calls.append(1))
    model.train()
    state = torch.get_rng_state()
    probes = Probe(model, scan), WindowProbe(model, scan, localize(model, TRAIN, window=WINDOW))
    with torch.inference_mode():
        for probe in probes:
            probe(photo(40, 52))
    assert model.training
    assert calls == []
    assert torch.equal(state, torch.get_rng_state())


def test_grey_images_are_replicated() -> None:
    model, scan = build(FunctionalMean)
    grey = photo(20, 24)[:, :1]
    (one,), (three,) = (Probe(model, scan)(x) for x in (grey, grey.expand(-1, 3, -1, -1)))
    assert one == pytest.approx(three)


def test_many_channels_are_thinned() -> None:
    model, scan = build(lambda: nn.Sequential(nn.Conv2d(3, 600, 1), nn.InstanceNorm2d(600)))
    (values,) = Probe(model, scan)(photo(20, 24))
    assert values.shape == (1, 256)


class OtherPathWhenLarge(Block):
    def mix(self, x: Tensor) -> Tensor:
        return x if x.shape[2] > 200 else x * x.mean((2, 3), keepdim=True)


def test_another_path_on_the_image_is_an_error() -> None:
    model, scan = build(OtherPathWhenLarge)
    with pytest.raises(ScanError, match=r"other calls on an image of 256x8 .*mean in ''"):
        Probe(model, scan)(photo(256, 8))
