"""How commands choose weights and networks of a checkpoint."""

from pathlib import Path

import pytest
import torch

from glocal.cli.arguments import load_model
from glocal.errors import ArgumentError
from glocal.networks import LoadedNetwork, NAFNet


@pytest.fixture
def averaged(tmp_path: Path) -> Path:
    entries = {name: NAFNet(3, 4, 1, [1], [1]).state_dict() for name in ("params", "params_ema")}
    torch.save(entries, tmp_path / "both.pth")
    return tmp_path / "both.pth"


def test_the_weights_that_are_taken_are_named(averaged: Path, capsys) -> None:
    load_model(str(averaged))
    assert capsys.readouterr().err == "note: both: weights of params_ema, not of params\n"


def test_entry_and_arch_choose(averaged: Path, capsys) -> None:
    assert load_model(str(averaged), "params", "nafnet").entry == "params"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["scan", "restore", "export", "evaluate", "analyze", "tune"])
def test_every_command_takes_them(command: str, run, averaged: Path, photo: Path) -> None:
    words = {
        "restore": (photo, "--model", averaged),
        "export": (averaged, averaged.with_suffix(".onnx")),
        "scan": (averaged,),
    }.get(command, (averaged, "--data", photo.parent, "--noise-sigma", 5))
    result = run(command, *words, "--arch", "torch.nn:Identity", "--entry", "params")
    assert result.exit_code == 1
    assert "the weights in params do not fit torch.nn:Identity" in result.stderr


def test_networks_that_need_a_mask_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = LoadedNetwork(torch.nn.Identity(), "LaMa", {}, None, "big-lama", "inpainting")
    monkeypatch.setattr("glocal.networks.load_checkpoint", lambda name, **options: loaded)
    with pytest.raises(ArgumentError, match="big-lama: LaMa needs a mask beside the image"):
        load_model("big-lama.pt")
