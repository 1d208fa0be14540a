from pathlib import Path

import pytest
import torch

from glocal.errors import ArgumentError
from glocal.networks.mprnet import CALayer, MPRNet, mprnet_hyperparameters
from glocal.networks.padding import pad_to_multiple

GOLDEN = Path(__file__).parent / "golden" / "mprnet.txt"
TINY = {"n_feat": 8, "scale_unetfeats": 4, "scale_orsnetfeats": 4, "num_cab": 2}


def test_state_dict_is_that_of_the_release():
    own = [
        f"{key} {'x'.join(map(str, tensor.shape))}"
        for key, tensor in MPRNet(**TINY).state_dict().items()
    ]
    assert own == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "millions"),
    [
        ({}, 20.13),
        ({"n_feat": 80}, 15.74),
        ({"n_feat": 40, "scale_unetfeats": 20, "scale_orsnetfeats": 16}, 3.64),
    ],
    ids=["deblurring", "denoising", "deraining"],
)
def test_parameter_count_is_the_published_one(arguments, millions):
    # The paper rounds the deblurring network to 20.1 M; the others are counts of the release.
    with torch.device("meta"):
        network = MPRNet(**arguments)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (13, 22), (16, 8)])
def test_any_size_in_both_modes(size):
    network = MPRNet(**TINY)
    x = torch.rand(2, 3, *size)
    stages = network(x)
    assert isinstance(stages, list)
    assert [stage.shape for stage in stages] == [x.shape] * 3
    restored = network.eval()(x)
    assert torch.equal(restored, stages[0])


def test_every_stage_adds_its_residual():
    network = MPRNet(**TINY)
    for tensor in network.parameters():
        torch.nn.init.zeros_(tensor)
    x = torch.rand(1, 3, 13, 22)
    assert all(torch.equal(stage, x) for stage in network(x))


def test_first_stage_sees_quarters_and_second_stage_halves():
    network = MPRNet(**TINY).double()
    x = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    changed = x.clone()
    changed[..., 8:, 12:] = 0
    _, second, first = network(x)
    _, second_changed, first_changed = network(changed)
    torch.testing.assert_close(first[..., :8, :], first_changed[..., :8, :])
    assert not torch.allclose(first[..., 8:, :12], first_changed[..., 8:, :12])  # decoded jointly
    assert not torch.allclose(second[..., :8, :], second_changed[..., :8, :])


def test_images_of_a_batch_do_not_mix():
    network = MPRNet(**TINY).double().eval()
    x = torch.rand(3, 3, 12, 20, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x), alone)


def test_all_activations_share_one_weight():
    own = MPRNet(**TINY).state_dict(keep_vars=True)
    activations = {
        id(t) for key, t in own.items() if key.endswith("body.1.weight") and t.dim() == 1
    }
    assert len(activations) == 1


def test_global_pool_is_a_module_of_its_own():
    layers = [m for m in MPRNet(**TINY).modules() if isinstance(m, CALayer)]
    # 3 shallow, 2 stages of 6 encoder, 6 decoder and 2 skip blocks, 3 rows of num_cab
    assert len(layers) == 3 + 2 * (6 + 6 + 2) + 3 * 2
    assert all(isinstance(m.avg_pool, torch.nn.AdaptiveAvgPool2d) for m in layers)


@pytest.mark.parametrize(("in_c", "out_c"), [(1, 1), (1, 3)])
def test_grey_images(in_c, out_c):
    network = MPRNet(in_c=in_c, out_c=out_c, **TINY).eval()
    assert network(torch.rand(1, in_c, 9, 8)).shape == (1, out_c, 9, 8)


def test_other_channel_counts_are_refused():
    with pytest.raises(ArgumentError, match=r"\(in_c, out_c\) must be .* got \(4, 3\)"):
        MPRNet(in_c=4)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"n_feat": 40, "scale_unetfeats": 20, "scale_orsnetfeats": 16, "num_cab": 8},
        {"in_c": 1, "out_c": 1, "num_cab": 1, "kernel_size": 5, "bias": True},
        {"n_feat": 16, "scale_unetfeats": 16, "scale_orsnetfeats": 16, "reduction": 16},
        {"n_feat": 30, "scale_unetfeats": 15, "scale_orsnetfeats": 15, "reduction": 3},
    ],
)
def test_hyperparameters_are_read_off_the_tensors(changed):
    arguments = {
        "in_c": 3,
        "out_c": 3,
        "n_feat": 8,
        "scale_unetfeats": 4,
        "scale_orsnetfeats": 4,
        "num_cab": 2,
        "kernel_size": 3,
        "reduction": 4,
        "bias": False,
    } | changed
    with torch.device("meta"):
        network = MPRNet(**arguments)
    assert mprnet_hyperparameters(network.state_dict()) == arguments


def test_impossible_attention_widths_are_refused():
    state_dict = MPRNet(**TINY).state_dict()
    state_dict["shallow_feat1.1.CA.conv_du.0.weight"] = torch.empty(7, 8, 1, 1)
    with pytest.raises(ValueError, match=r"no reduction gives .*\(7, 8\)"):
        mprnet_hyperparameters(state_dict)


def test_padding_reflects_where_the_size_allows_it():
    x = torch.arange(6.0).view(1, 1, 1, 6).expand(1, 1, 6, 6)
    row = pad_to_multiple(x, 8)[0, 0, 0]
    assert row.tolist() == [0, 1, 2, 3, 4, 5, 4, 3]


def test_padding_replicates_where_it_does_not():
    x = torch.arange(2.0).view(1, 1, 1, 2).expand(1, 1, 8, 2)
    row = pad_to_multiple(x, 8)[0, 0, 0]
    assert row.tolist() == [0, 1, 1, 1, 1, 1, 1, 1]


def test_padding_leaves_a_fitting_image_alone():
    x = torch.rand(1, 3, 8, 16)
    assert pad_to_multiple(x, 8) is x
