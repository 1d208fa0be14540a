"""Weights that torch loads but no network can use are refused in one line that names the key."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.networks import NAFNet, load_checkpoint

KEY = "intro.weight"


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = NAFNet(width=2, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    return net.state_dict()


def refused(path: Path, state: dict[str, Tensor]) -> str:
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite(value: float, tmp_path: Path) -> None:
    state = weights()
    state[KEY][0, 0, 1, 1] = value
    said = refused(tmp_path / "a.pth", state)
    number = state[KEY].numel()
    assert f"a.pth: {KEY} has 1 of {number} values that are not numbers" in said


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # torch: of a prototype
@pytest.mark.parametrize(
    ("change", "form"),
    [
        (lambda t: t.to_sparse(), "a sparse tensor (sparse_coo)"),
        (lambda t: t.flatten(1).to_sparse_csr(), "a sparse tensor (sparse_csr)"),
        (lambda t: t.to("meta"), "on the meta device"),
        (lambda t: torch.nested.nested_tensor([t[0], t[1]]), "a nested tensor"),
    ],
)
def test_tensors_without_dense_values(change, form: str, tmp_path: Path) -> None:
    state = weights()
    state[KEY] = change(state[KEY])
    assert f"a.pth: {KEY} is {form}" in refused(tmp_path / "a.pth", state)
