"""A converted network inside other modules stays one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import glocal
from glocal.conversion.inside import converted_network, known_train_size, unwrapped
from glocal.errors import ArgumentError


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + self.last(y * self.gate(y))


class Training(nn.Module):
    """Like a LightningModule: a network beside a loss, with code around the call."""

    def __init__(self, network: nn.Module, centre: bool = False) -> None:
        super().__init__()
        self.net = network
        self.loss = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
        self.centre = centre

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True) if self.centre else 0.5
        return (self.net(x - mean) + mean).clamp(0, 1)


def wrappers() -> dict[str, object]:
    return {
        "DataParallel": nn.DataParallel,
        "Sequential": nn.Sequential,
        "AveragedModel": AveragedModel,
        "compile": lambda model: torch.compile(model, backend="eager"),
        "nested": lambda model: nn.DataParallel(nn.Sequential(AveragedModel(model))),
        "training module": Training,
        "copy": lambda model: copy.deepcopy(nn.Sequential(model)),
    }


@pytest.fixture(scope="module", params=["windows", "crops"])
def local(request: pytest.FixtureRequest) -> nn.Module:
    return glocal.localize(Gate(), 32, window=40, statistics=request.param, verify=False)


@pytest.mark.parametrize("name", wrappers())
def test_wrapped_networks_are_known(local: nn.Module, name: str) -> None:
    wrapped = wrappers()[name](local).eval()
    assert glocal.plan_of(wrapped) == glocal.plan_of(local)
    assert known_train_size(wrapped) == (32, 32)
    for convert in (glocal.localize, glocal.scan):
        with pytest.raises(ArgumentError, match="converted already"):
            convert(wrapped, 32, window=80)


@pytest.mark.parametrize("name", ["DataParallel", "Sequential", "training module"])
def test_wrapped_networks_run_on_exact_tiles(local: nn.Module, name: str) -> None:
    wrapped = wrappers()[name](local).eval()
    image = torch.rand(3, 120, 150, generator=torch.Generator().manual_seed(0))
    whole = glocal.restore(wrapped, image, tiles=None)
    said: list[str] = []
    tiled = glocal.restore(wrapped, image, tiles=128, report=said.append)
    assert "with a halo of" in said[0]
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1 / 255)


def test_a_wrapper_with_a_global_operation_is_not_local(local: nn.Module) -> None:
    wrapped = Training(local, centre=True)
    assert converted_network(wrapped) is None
    with pytest.raises(ArgumentError, match="has further global operations"):
        glocal.plan_of(wrapped)
    with pytest.raises(ArgumentError, match=r"converted already \(its part 'net'\)"):
        glocal.localize(wrapped, 32)


def test_two_converted_networks_have_no_one_plan(local: nn.Module) -> None:
    other = glocal.localize(Gate(), 48, verify=False)
    with pytest.raises(ArgumentError, match="more than one converted network"):
        glocal.plan_of(nn.Sequential(local, other))


def test_unconverted_networks_are_converted_inside_their_wrappers() -> None:
    for wrap in (nn.DataParallel, nn.Sequential, AveragedModel):
        converted = glocal.localize(wrap(Gate()), 32, verify=False)
        assert glocal.plan_of(converted).summary() == "1 local, 0 left global"


def test_only_modules_that_call_another_are_wrappers() -> None:
    gate = Gate()
    assert unwrapped(nn.DataParallel(nn.Sequential(gate))) is gate
    for module in (nn.Sequential(gate, nn.ReLU()), Training(gate), gate):
        assert unwrapped(module) is module
    hooked = nn.Sequential(gate)
    hooked.register_forward_hook(lambda module, args, result: result - result.mean())
    assert unwrapped(hooked) is hooked
