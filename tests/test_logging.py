"""The library logs to "glocal"; the command line prints what it logs."""

import logging
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

import glocal
from glocal.cli import app


@pytest.mark.usefixtures("unproven")
def test_a_conversion_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "glocal"):
        glocal.localize(nn.InstanceNorm2d(3), 32)
    assert caplog.messages == ["InstanceNorm2d: 1 local, 0 left global"]


@pytest.mark.usefixtures("unproven")
def test_tiles_are_logged_unless_a_report_takes_the_line(caplog: pytest.LogCaptureFixture) -> None:
    network = glocal.localize(nn.InstanceNorm2d(3), 16)
    image = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    with caplog.at_level(logging.INFO, "glocal"):
        glocal.restore(network, image, tiles=80)
        (logged,) = caplog.messages
        reported: list[str] = []
        glocal.restore(network, image, tiles=80, report=reported.append)
    assert "of up to 80x80 with a halo" in logged
    assert reported == [logged] == caplog.messages


def test_nothing_is_configured() -> None:
    assert logging.getLogger("glocal").handlers == []


@pytest.mark.parametrize(
    ("level", "said"), [(logging.INFO, ""), (logging.WARNING, "warning: heed this\n")]
)
def test_the_command_line_prints_warnings(
    monkeypatch: pytest.MonkeyPatch, level: int, said: str
) -> None:
    monkeypatch.setattr(
        "glocal.networks.inventory.named_models",
        lambda: logging.getLogger("glocal.networks").log(level, "heed this") or ([], []),
    )
    assert CliRunner().invoke(app, ["models", "--json"], prog_name="glocal").stderr == said


@pytest.mark.usefixtures("unproven")
def test_verbose_prints_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glocal.study.harm.check_ways", lambda *given: None)
    photo = tmp_path / "photo.png"
    glocal.write_image(photo, glocal.Image(pixels=np.zeros((70, 70, 3), np.uint8)))
    words = ["restore", str(photo), "--verbose", "--no-check", "--no-verify", "--way", "windows"]
    result = CliRunner().invoke(app, words, prog_name="glocal")
    assert "log: NAFNet: 8 local, 0 left global\n" in result.stderr
