import shutil
from pathlib import Path

import pytest


@pytest.fixture
def weights(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with one embedded model."""
    package = tmp_path / "package"
    (package / "weights").mkdir(parents=True)
    shutil.copy(checkpoint, package / "weights/tiny.safetensors")
    monkeypatch.setattr("importlib.resources.files", lambda name: package)
    return package


def test_embedded_models_and_architectures_are_listed(run, weights: Path) -> None:
    result = run("models")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "name architecture task train size parameters file size" in lines
    assert "tiny NAFNet test 32x32 0.00 M 0.0 MB" in lines
    known = "Architectures of supported checkpoints: Baseline, FFANet, HINet, "
    assert any(line.startswith(known) for line in lines)


def test_no_embedded_models(run, weights: Path) -> None:
    (weights / "weights/tiny.safetensors").unlink()
    assert "No embedded models" in run("models").stdout


def test_nothing_is_cut_on_a_terminal_of_80_columns(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = run("models").stdout
    assert "nafnet-motion-blur" in listed
    assert "file size" in listed
    assert "…" not in listed
