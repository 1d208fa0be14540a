from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from glocal.cli import app
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.networks import NAFNet

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `glocal` with these words; `restore` compares no ways, see test_harm.py."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("glocal.study.harm.check_ways", lambda *given: None)

    def call(*words: object) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words], prog_name="glocal")

    return call


def network() -> NAFNet:
    torch.manual_seed(0)
    model = NAFNet(3, 4, 1, [1], [1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def bare_checkpoint(tmp_path: Path) -> Path:
    """A network that does not say on which crops it was trained."""
    path = tmp_path / "bare.pth"
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network that was trained on 32x32 crops and says so."""
    path = tmp_path / "tiny.safetensors"
    save_file(network().state_dict(), path, {"train_size": "32", "task": "test"})
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of 70 × 90 pixels, half dark and half bright."""
    pixels = np.random.default_rng(0).integers(0, 100, (70, 90, 3), np.uint8)
    pixels[:, 45:] += 150
    images.write(tmp_path / "photo.png", Image(pixels))
    return tmp_path / "photo.png"
