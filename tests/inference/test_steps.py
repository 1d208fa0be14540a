"""Progress inside a call of a network."""

import pytest
import torch
from torch import Tensor, nn

from glocal.inference.restore import restore
from glocal.inference.steps import Steps


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


def test_shares_grow_from_call_to_end(network: nn.Module) -> None:
    steps = Steps(network)
    with steps.learning():
        restore(network, torch.rand(3, 16, 16), tiles=None)
    assert steps.calls == 1
    assert len(steps.shares) == 4
    assert steps.shares[0] == 0.0
    assert list(steps.shares) == sorted(steps.shares)
    assert steps.shares[-1] < 1


def test_a_larger_image_is_followed_through_the_same_modules(network: nn.Module) -> None:
    steps = Steps(network, shares=(0.0, 0.1, 0.5, 0.9))
    seen: list[tuple[int, float]] = []
    with steps.watching(lambda *each: seen.append(each)):
        network(torch.rand(1, 3, 32, 32))
        nn.ReLU()(torch.zeros(1))  # another network
        network(torch.rand(1, 3, 8, 8))
    expected = [(call, share) for call in (0, 1) for share in steps.shares]
    assert seen == expected
    network(torch.rand(1, 3, 8, 8))
    assert seen == expected


def test_a_call_with_more_modules_than_were_learned_says_no_more(network: nn.Module) -> None:
    steps = Steps(network, shares=(0.0, 0.5))
    seen: list[float] = []
    with steps.watching(lambda call, share: seen.append(share)):
        network(torch.rand(1, 3, 8, 8))
    assert seen == [0.0, 0.5]


def test_an_interruption_stops_the_following(network: nn.Module) -> None:
    class Interrupted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    steps, seen = Steps(network, shares=(0.0,)), list[float]()
    with pytest.raises(KeyboardInterrupt), steps.watching(lambda call, share: seen.append(share)):
        Interrupted()(torch.zeros(1))
    network(torch.rand(1, 3, 8, 8))
    assert seen == []
