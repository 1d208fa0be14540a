"""`--runtime` of `glocal restore` and `glocal evaluate`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from versions import needs_onnx

from glocal.engines import runtimes
from glocal.images import image_files as images


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glocal"


def pixels(path: Path) -> np.ndarray:
    return images.read(path).pixels.astype(int)


@needs_onnx
def test_a_photograph_is_restored_by_an_engine(
    run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    found = {}
    for runtime in ("torch", "onnxruntime", "auto"):
        target = tmp_path / f"{runtime}.png"
        words = ("restore", photo, target, "--model", checkpoint, "--runtime", runtime)
        result = run(*words, "--no-verify")
        assert result.exit_code == 0, result.output
        found[runtime] = pixels(target)
        assert np.abs(found[runtime] - found["torch"]).max() <= 1
        (line,) = [x for x in result.stdout.splitlines() if x.startswith("runtime")] or [""]
        pattern = {
            "torch": r"",
            "onnxruntime": r"runtime +onnxruntime [\d.]+",
            "auto": r"runtime +\w+( [\d.]+)?, the fastest: torch [\d.]+ s, .* expected for 70x90",
        }
        assert re.fullmatch(pattern[runtime], line), line


@needs_onnx
def test_an_evaluation_says_what_computed_it(
    run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(photo.read_bytes())
    words = ("evaluate", checkpoint, "--data", tmp_path / "set", "--layout", "dnd", "--way", "full")
    result = run(*words, "--runtime", "onnxruntime", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["protocol"]["runtime"] == "onnxruntime"


def test_a_runtime_that_is_not_installed_is_refused(
    run, photo: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "_missing", lambda name: ["openvino"])
    result = run("restore", photo, "--model", checkpoint, "--runtime", "openvino")
    assert result.exit_code == 1
    assert 'needs the package openvino; install it: pip install "glocal[openvino]"' in result.stderr
    assert not photo.with_name("photo-restored.png").exists()
