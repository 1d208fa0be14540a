import pytest
import torch

import glocal
from glocal.errors import ArgumentError
from glocal.networks.ffanet import CALayer, FFANet, PALayer, ffanet_hyperparameters

TRAIN, WINDOW = 32, 48


def test_parameter_count_is_the_published_one():
    with torch.device("meta"):
        network = FFANet(gps=3, blocks=19)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 4.46


def test_state_dict_is_that_of_the_release():
    def convolution(name, out_channels, in_channels, size):
        return {
            f"{name}.weight": (out_channels, in_channels, size, size),
            f"{name}.bias": (out_channels,),
        }

    expected = convolution("pre.0", 64, 3, 3)
    for group in ("g1", "g2", "g3"):
        for block in range(2):
            at = f"{group}.gp.{block}"
            expected |= convolution(f"{at}.conv1", 64, 64, 3) | convolution(
                f"{at}.conv2", 64, 64, 3
            )
            expected |= convolution(f"{at}.calayer.ca.0", 8, 64, 1)
            expected |= convolution(f"{at}.calayer.ca.2", 64, 8, 1)
            expected |= convolution(f"{at}.palayer.pa.0", 8, 64, 1)
            expected |= convolution(f"{at}.palayer.pa.2", 1, 8, 1)
        expected |= convolution(f"{group}.gp.2", 64, 64, 3)
    expected |= convolution("ca.1", 4, 192, 1) | convolution("ca.3", 192, 4, 1)
    expected |= convolution("palayer.pa.0", 8, 64, 1) | convolution("palayer.pa.2", 1, 8, 1)
    expected |= convolution("post.0", 64, 64, 3) | convolution("post.1", 3, 64, 3)
    own = FFANet(blocks=2).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in own.items()} == expected


def squeeze_and_gate(vector, layers):
    """What two 1×1 convolutions, a ReLU between them and a sigmoid make of one vector."""
    first, second = layers[0], layers[2]
    hidden = (first.weight[:, :, 0, 0] @ vector + first.bias).clamp(min=0)
    return 1 / (1 + (-(second.weight[:, :, 0, 0] @ hidden + second.bias)).exp())


def test_channel_attention_by_its_definition():
    layer = CALayer(16).double()
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64)
    expected = torch.empty_like(x)
    for n in range(2):
        mean = torch.stack([sum(channel.flatten()) / 35 for channel in x[n]])
        gate = squeeze_and_gate(mean, layer.ca)
        for c in range(16):
            expected[n, c] = x[n, c] * gate[c]
    torch.testing.assert_close(layer(x), expected)


def test_pixel_attention_by_its_definition():
    layer = PALayer(16).double()
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    expected = torch.empty_like(x)
    for n in range(2):
        for i in range(3):
            for j in range(4):
                expected[n, :, i, j] = x[n, :, i, j] * squeeze_and_gate(x[n, :, i, j], layer.pa)
    torch.testing.assert_close(layer(x), expected)


def small():
    torch.manual_seed(0)
    network = FFANet(blocks=2, dim=16).eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_groups_are_weighted_as_vectors_by_the_release():
    network = small()
    x = torch.rand(2, 3, 13, 18, dtype=torch.float64)
    mean = torch.tensor([0.64, 0.6, 0.58], dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor([0.14, 0.15, 0.152], dtype=torch.float64).view(1, 3, 1, 1)
    image = (x - mean) / std
    with torch.no_grad():
        first = network.g1(network.pre(image))
        second = network.g2(first)
        third = network.g3(second)
        weights = network.ca(torch.cat([first, second, third], 1)).view(2, 3, 16, 1, 1)
        fused = weights[:, 0] * first + weights[:, 1] * second + weights[:, 2] * third
        expected = network.post(network.palayer(fused)) + image
        torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (13, 22)])
def test_any_size_in_both_modes(size):
    network = FFANet(blocks=1, dim=16)
    x = torch.rand(2, 3, *size)
    trained = network(x)
    assert trained.shape == x.shape
    assert torch.equal(network.eval()(x), trained)


@pytest.mark.parametrize("size", [(48, 48), (31, 45)])
def test_law_of_equality(size):
    network = small()
    local = glocal.localize(network, TRAIN, window=WINDOW)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(local(x), network(x))


def test_nothing_stays_global_at_twice_the_size():
    network = small()
    local = glocal.localize(network, TRAIN, window=WINDOW)
    rows = glocal.plan_of(local).rows
    assert len(rows) == 7
    assert all(row.status == "local" for row in rows)
    # bright below and dark above, so that the two halves have statistics of their own
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64) * torch.linspace(0, 1, 64).view(64, 1)
    with torch.no_grad():
        result = local(x)
        assert result.shape == x.shape
        assert (result - network(x)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"gps": 2}, "3 groups, got gps=2"), ({"dim": 24}, "a multiple of 16, got 24")],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        FFANet(**arguments)


@pytest.mark.parametrize("blocks", [1, 19])
def test_hyperparameters_are_read_off_the_tensors(blocks):
    with torch.device("meta"):
        network = FFANet(blocks=blocks, dim=32)
    expected = {"gps": 3, "blocks": blocks, "dim": 32}
    assert ffanet_hyperparameters(network.state_dict()) == expected
