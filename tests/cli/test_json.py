"""`--json` prints what docs/environment.md says, and nothing else on stdout."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import constructed
from torch import nn
from video_clips import make_video

import glocal

TEXT = (Path(__file__).parents[2] / "docs/environment.md").read_text()


def documented(command: str) -> list[str]:
    """The names in a command's row of the table; after a semicolon, those inside."""
    row = re.search(rf"^\| `glocal {command} --json` \| \w+ \| (.*) \|$", TEXT, re.M)
    return re.findall(r"`(\w+)`", row[1])


def strict(text: str) -> Any:
    """The value of a JSON text without NaN and Infinity, which JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.usefixtures("unproven")
def test_scan(run, checkpoint: Path) -> None:
    plan = strict(run("scan", checkpoint, "--json").stdout)
    assert [*plan, *plan["rows"][0]] == documented("scan")


def test_models(run) -> None:
    models = strict(run("models", "--json").stdout)
    assert list(models[0]) == documented("models")


def test_evaluate() -> None:
    evaluation = strict(constructed().to_json())
    assert [*evaluation, *evaluation["records"][0]] == documented("evaluate")


def test_tune() -> None:
    image = np.linspace(0, 1, 40 * 40 * 3).reshape(40, 40, 3)
    network = nn.Conv2d(3, 3, 3, padding=1)  # nothing to try
    tuning = glocal.tune(network, [(image, image)], 8)
    assert list(strict(tuning.to_json())) == documented("tune")


def test_doctor(run) -> None:
    assert list(strict(run("doctor", "--json").stdout)) == documented("doctor")


@pytest.mark.usefixtures("unproven")
def test_restore(run, checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    words = (photo, tmp_path / "out.png", "--model", checkpoint, "--json")
    report = strict(run("restore", *words).stdout)
    assert set(documented("restore")) <= {*report, *report["photographs"][0]}


@pytest.mark.usefixtures("unproven")
def test_restore_of_a_video(run, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    make_video(tmp_path / "clip.mp4", count=2)
    words = (tmp_path / "clip.mp4", "--model", checkpoint, "--json")
    report = strict(run("restore", *words).stdout)
    assert documented("restore VIDEO") == ["videos", *report["videos"][0]]
