from pathlib import Path

import pytest
import torch

from glocal.errors import ArgumentError
from glocal.networks.restormer import (
    Attention,
    LayerNorm,
    Restormer,
    restormer_hyperparameters,
)

GOLDEN = Path(__file__).parent / "golden" / "restormer.txt"
TINY = {"dim": 8, "num_blocks": [1, 2, 1, 1], "num_refinement_blocks": 1}


def test_state_dict_is_that_of_the_release():
    own = [
        f"{key} {'x'.join(map(str, tensor.shape))}"
        for key, tensor in Restormer(**TINY).state_dict().items()
    ]
    assert own == GOLDEN.read_text().splitlines()


def test_optional_keys():
    plain = Restormer(**TINY).state_dict().keys()
    biased = Restormer(**TINY, bias=True).state_dict().keys()
    assert "output.bias" in biased - plain
    assert "patch_embed.proj.bias" not in biased
    assert "down1_2.body.0.bias" not in biased
    free = Restormer(**TINY, LayerNorm_type="BiasFree").state_dict().keys()
    assert {key for key in plain if key.endswith("body.bias")} == plain - free
    dual = Restormer(**TINY, inp_channels=6, dual_pixel_task=True).state_dict().keys()
    assert dual - plain == {"skip_conv.weight"}


@pytest.mark.parametrize(
    ("arguments", "millions"),
    [
        ({}, 26.13),
        ({"LayerNorm_type": "BiasFree"}, 26.11),
        ({"inp_channels": 6, "dual_pixel_task": True}, 26.13),
    ],
    ids=["deblurring", "denoising", "dual-pixel"],
)
def test_parameter_count_is_the_published_one(arguments, millions):
    # Papers that compare with Restormer give 26.13 M; the others are counts of the release.
    with torch.device("meta"):
        network = Restormer(**arguments)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (13, 22), (16, 8)])
def test_any_size_in_both_modes(size):
    network = Restormer(**TINY)
    x = torch.rand(2, 3, *size)
    trained = network(x)
    assert trained.shape == x.shape
    assert torch.equal(network.eval()(x), trained)


def test_dual_pixel_views_become_one_image():
    network = Restormer(**TINY, inp_channels=6, dual_pixel_task=True)
    assert network(torch.rand(1, 6, 9, 10)).shape == (1, 3, 9, 10)


def test_image_is_added_to_the_result():
    network = Restormer(**TINY)
    torch.nn.init.zeros_(network.output.weight)
    x = torch.rand(1, 3, 13, 22)
    assert torch.equal(network(x), x)


def test_images_of_a_batch_do_not_mix():
    network = Restormer(**TINY).double()
    x = torch.rand(3, 3, 12, 20, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x), alone)


def test_norm_with_bias_is_torchs_layer_norm():
    norm = LayerNorm(6, "WithBias").double()
    torch.nn.init.normal_(norm.body.weight)
    torch.nn.init.normal_(norm.body.bias)
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    expected = torch.nn.functional.layer_norm(
        x.permute(0, 2, 3, 1), (6,), norm.body.weight, norm.body.bias, 1e-5
    ).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_norm_without_bias_keeps_the_mean():
    norm = LayerNorm(6, "BiasFree").double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64) + 3
    expected = x / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("kind", ["WithBias", "BiasFree"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_survives_half_precision(kind, dtype):
    norm = LayerNorm(64, kind)
    x = (torch.randn(1, 64, 4, 4) * 3000).to(dtype)  # squares overflow float16
    result = norm.to(dtype)(x)
    assert result.dtype == dtype
    torch.testing.assert_close(result.float(), norm.float()(x.float()), atol=2e-2, rtol=1e-2)


def test_attention_is_that_of_equation_1():
    attention = Attention(8, num_heads=2, bias=True).double()
    attention.temperature.data = torch.tensor([0.5, 2.0], dtype=torch.float64).view(2, 1, 1)
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    q, k, v = attention.qkv_dwconv(attention.qkv(x)).view(3, 2, 4, 30)
    mixed = torch.empty(2, 4, 30, dtype=torch.float64)
    for head in range(2):
        similarity = torch.cosine_similarity(q[head, :, None], k[head, None], dim=-1)
        mixed[head] = (similarity * attention.temperature[head]).softmax(-1) @ v[head]
    expected = attention.project_out(mixed.view(1, 8, 5, 6))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_survives_zero_and_large_features_in_half_precision(dtype):
    attention = Attention(8, num_heads=2, bias=False).to(dtype)
    assert torch.equal(
        attention(torch.zeros(1, 8, 4, 4, dtype=dtype)).float().abs().sum(), torch.tensor(0.0)
    )
    large = (torch.randn(1, 8, 64, 64) * 2000).to(dtype)
    assert attention(large).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"LayerNorm_type": "biasfree"}, "'WithBias' or 'BiasFree', got 'biasfree'"),
        ({"inp_channels": 6}, "inp_channels=6 must be 1 or out_channels=3"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Restormer(**TINY, **arguments)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"dim": 48, "num_blocks": [4, 6, 6, 8], "num_refinement_blocks": 4},
        {"dim": 64, "ffn_expansion_factor": 2.53},
        {"dim": 80, "ffn_expansion_factor": 2},
        {"bias": True, "LayerNorm_type": "BiasFree", "heads": [2, 2, 4, 4]},
        {"inp_channels": 6, "dual_pixel_task": True},
        {"inp_channels": 1, "out_channels": 1},
    ],
)
def test_hyperparameters_are_read_off_the_tensors(changed):
    arguments = {
        "inp_channels": 3,
        "out_channels": 3,
        "dim": 8,
        "num_blocks": [1, 2, 1, 1],
        "num_refinement_blocks": 1,
        "heads": [1, 2, 4, 8],
        "ffn_expansion_factor": 2.66,
        "bias": False,
        "LayerNorm_type": "WithBias",
        "dual_pixel_task": False,
    } | changed
    with torch.device("meta"):
        network = Restormer(**arguments)
    assert restormer_hyperparameters(network.state_dict()) == arguments


def test_impossible_feed_forward_widths_are_refused():
    state_dict = Restormer(**TINY).state_dict()
    state_dict["latent.0.ffn.project_in.weight"] = torch.empty(2, 64, 1, 1)
    with pytest.raises(ValueError, match="no ffn_expansion_factor gives the hidden widths"):
        restormer_hyperparameters(state_dict)
