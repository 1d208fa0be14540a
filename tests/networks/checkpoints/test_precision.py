"""Weights in 8 bits."""

from pathlib import Path

import pytest
import torch

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.precision import full_precision

PATH = Path("w.pth")
E4M3 = torch.float8_e4m3fn


@pytest.mark.parametrize("dtype", [E4M3, torch.float8_e5m2])
def test_float8_becomes_float32(dtype):
    values = torch.tensor([0.5, -2.0, 4.0])
    assert torch.equal(full_precision(PATH, {"w": values.to(dtype)})["w"], values)


@pytest.mark.parametrize("name", ["weight_scale", "scale_weight", "weight_scale_inv"])
@pytest.mark.parametrize("factors", [[0.5], [0.5, 2.0]])
def test_factors_beside_a_weight_are_multiplied(name, factors):
    weight = torch.full((2, 1, 3, 3), 4.0)
    state = {"a.weight": weight.to(E4M3), f"a.{name}": torch.tensor(factors)}
    state |= {"scaled_fp8": torch.zeros(2, dtype=E4M3), "a.input_scale": torch.ones(1)}
    found = full_precision(PATH, state)
    assert found.keys() == {"a.weight"}
    assert torch.equal(found["a.weight"], weight * torch.tensor(factors).reshape(-1, 1, 1, 1))


def test_factors_for_blocks_are_refused():
    state = {"a.weight": torch.ones(4, 4).to(E4M3), "a.weight_scale_inv": torch.ones(2, 1)}
    with pytest.raises(CheckpointError, match=r"w.pth: a.weight has .* factors for blocks"):
        full_precision(PATH, state)


def test_other_weights_stay_as_they_are():
    state = {"a.weight": torch.ones(2), "a.weight_scale": torch.ones(1)}
    assert full_precision(PATH, state) == state
