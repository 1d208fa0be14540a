"""`Settings`: files of them, values that are refused, and what they make of a network."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from glocal.conversion.localize import plan_of
from glocal.errors import ArgumentError
from glocal.inference.options import Tiles
from glocal.inference.settings import Settings
from glocal.inference.ways import CONVERTING, WAYS


def gate() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Conv2d(4, 3, 1))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings("full", output=0, model="net.pth"),
        Settings("auto", 64, window=(96, 128), stride=2.0, keep_global=("a.*",), allow_global=True),
        Settings("stitch", (64, 48), tile=32, overlap=0, blend="mean"),
        Settings("stitch", (64, 48), overlap=0.5),
    ],
)
def test_settings_are_read_as_they_were_written(settings: Settings, tmp_path: Path) -> None:
    settings.write(tmp_path / "settings.json")
    assert Settings.read(tmp_path / "settings.json") == settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train_size": 64, "sharpness": 3}, "unknown key 'sharpness'; known are way, train_size"),
        (
            {"way": "best"},
            "way must be one of full, windows, crops, stitch, auto, degraded, got 'best'",
        ),
        ({"train_size": "64"}, r"train_size must be a side or \[height, width\] .* got '64'"),
        ({"train_size": True}, "train_size must be a side"),
        ({"train_size": [64, 0]}, "train_size must be a positive int"),
        ({"way": "crops", "stride": 0}, "stride must be a number above 0, got 0"),
        ({"way": "crops", "stride": "2"}, "stride must be a number above 0, got '2'"),
        ({"way": "full", "window": 96}, "window has no effect with way full; it needs way windows"),
        ({"way": "stitch", "overlap": 1.5}, "overlap=1.5; give pixels"),
        ({"way": "stitch", "blend": "soft"}, "blend is one of"),
        ({"keep_global": [1]}, "keep_global must be a list of patterns"),
        ({"output": 1.5}, "output must be a whole number or a name, got 1.5"),
        ({"allow_global": "no"}, "allow_global must be true or false, got 'no'"),
        ({"model": 3}, "model must be text, got 3"),
    ],
)
def test_wrong_files_get_one_line(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"format": 1, **content}))
    with pytest.raises(ArgumentError, match=message) as error:
        Settings.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '"text"', "\x00"])
def test_files_of_another_kind_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=r"settings.json: is not a (JSON )?file of settings"):
        Settings.read(path)
    with pytest.raises(ArgumentError, match="cannot be read"):
        Settings.read(tmp_path / "none.json")


@pytest.mark.parametrize("way", WAYS)
def test_a_way_makes_a_network_and_its_tiles(way: Any) -> None:
    model, settings = gate(), Settings(way, 32)
    network = settings.network(model, verify=False)
    if way == "degraded":
        assert isinstance(network, nn.Identity)
        return
    assert (network is model) == (way not in CONVERTING)
    assert (settings.tiles() == Tiles()) == (way != "stitch")
    if network is not model:
        (row,) = plan_of(network).rows
        assert row.source == ("windows" if way == "windows" else "crops")


def test_a_way_passes_its_options() -> None:
    options = {"window": 40, "stride": 2.0, "keep_global": "1"}
    plan = plan_of(Settings("auto", 32, **options).network(gate(), verify=False))
    assert (plan.window, plan.stride, plan.rows[0].status) == ((40, 40), 2.0, "kept")


def test_stitching_needs_a_size() -> None:
    assert Settings("stitch").tiles(48).given_size == (48, 48)
    assert Settings("stitch", 32, tile=64).tiles(48).given_size == (64, 64)
    with pytest.raises(ArgumentError, match="needs the training size"):
        Settings("stitch").tiles()
