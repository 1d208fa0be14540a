from pathlib import Path

import pytest
import torch

from glocal.errors import ArgumentError
from glocal.networks.hinet import HINBlock, HINet, hinet_hyperparameters

GOLDEN = Path(__file__).parent / "golden" / "hinet.txt"
TINY = {"wf": 4, "depth": 3, "hin_position_left": 1, "hin_position_right": 2}


def parameter_count(**arguments):
    with torch.device("meta"):
        return sum(p.numel() for p in HINet(**arguments).parameters())


def test_state_dict_is_that_of_the_release():
    own = [
        f"{key} {'x'.join(map(str, tensor.shape))}"
        for key, tensor in HINet(**TINY).state_dict().items()
    ]
    assert own == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "millions"),
    [({}, 88.67), ({"hin_position_left": 3}, 88.67), ({"wf": 32}, 22.18)],
)
def test_parameter_count_is_the_published_one(arguments, millions):
    # 88.67 M: confirmed by the authors in megvii-model/HINet issue 26. The half-width network
    # (SIDD 0.5x) is our own count: a quarter of the weights is what half the width must give.
    assert round(parameter_count(**arguments) / 1e6, 2) == millions


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 17), (13, 22), (16, 16)])
def test_any_size_in_both_modes(size):
    network = HINet(**TINY)
    x = torch.rand(2, 3, *size)
    stages = network(x)
    assert isinstance(stages, list)
    assert [stage.shape for stage in stages] == [x.shape, x.shape]
    restored = network.eval()(x)
    assert torch.equal(restored, stages[1])


def test_smallest_images_at_full_depth():
    # One pixel at the bottom level would have no variance.
    network = HINet(wf=2, depth=5).eval()
    for size in ((16, 16), (1, 1), (16, 32)):
        restored = network(torch.rand(1, 3, *size))
        assert restored.shape[-2:] == size
        assert restored.isfinite().all()


def test_one_level_is_enough():
    network = HINet(wf=4, depth=1).eval()
    assert network(torch.rand(1, 3, 1, 1)).shape == (1, 3, 1, 1)


def test_grey_images():
    network = HINet(in_chn=1, wf=4, depth=2)
    first, restored = network(torch.rand(1, 1, 9, 8))
    assert first.shape == (1, 3, 9, 8)  # the release's attention always speaks of 3 channels
    assert restored.shape == (1, 1, 9, 8)


def test_images_of_a_batch_do_not_mix():
    network = HINet(**TINY).double().eval()
    x = torch.rand(3, 3, 12, 20, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x), alone)


def test_instance_norm_sits_on_the_named_levels_and_half_of_the_channels():
    network = HINet(**TINY)
    for path in (network.down_path_1, network.down_path_2):
        norms = [block.norm for block in path]
        assert norms[0] is None
        assert [norm.num_features for norm in norms[1:]] == [4, 8]
        assert all(norm.affine for norm in norms[1:])


def test_block_leaves_the_other_half_unnormalised():
    block = HINBlock(2, 4, 0.2, use_HIN=True)
    seen = {}
    block.relu_1.register_forward_pre_hook(lambda _, args: seen.update(inner=args[0]))
    x = torch.rand(1, 2, 6, 6)
    block(x)
    plain = block.conv_1(x)
    assert torch.equal(seen["inner"][:, 2:], plain[:, 2:])
    assert seen["inner"][:, :2].mean().abs() < 1e-5


def test_other_channel_counts_are_refused():
    with pytest.raises(ArgumentError, match=r"1 or 3 channels, got in_chn=4"):
        HINet(in_chn=4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_chn": 3, "wf": 4, "depth": 3, "hin_position_left": 1, "hin_position_right": 2},
        {"in_chn": 1, "wf": 6, "depth": 2, "hin_position_left": 0, "hin_position_right": 0},
        {"in_chn": 3, "wf": 2, "depth": 5, "hin_position_left": 3, "hin_position_right": 4},
        {"in_chn": 3, "wf": 4, "depth": 1, "hin_position_left": 0, "hin_position_right": -1},
    ],
)
def test_hyperparameters_are_read_off_the_tensors(arguments):
    with torch.device("meta"):
        network = HINet(**arguments)
    assert hinet_hyperparameters(network.state_dict()) == arguments


def test_a_gap_between_normed_levels_is_refused():
    state_dict = HINet(wf=2, depth=3).state_dict()
    del state_dict["down_path_1.1.norm.weight"]
    with pytest.raises(ValueError, match=r"not consecutive: \[0, 2\]"):
        hinet_hyperparameters(state_dict)
